"""gRPC probes against a real gRPC server (grpcio), and against what is none."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runtime.probes.raw_server import free_port, raw_server, says, says_and_hangs, target
from virtual_kubelet.objects.core_v1 import GRPCAction
from virtual_kubelet.runtime.probes.grpc_health import GrpcError, health_request, health_status, probe_by_grpc
from virtual_kubelet.runtime.probes.target import Outcome, ProbeAnswer

#: A call as grpcio gives it: the request's bytes, the call; the response's bytes.
Check = Callable[[bytes, Any], Awaitable[bytes]]
AMPLE = 60
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


@asynccontextmanager
async def health_server(check: Check | None) -> AsyncIterator[int]:
    """A server with the health service, or with none; its port."""
    server = grpc.aio.server()
    if check is not None:
        method = grpc.unary_unary_rpc_method_handler(check)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method}),)
        )
    port: int = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


def answers(message: bytes) -> Check:
    async def check(request: bytes, context: Any) -> bytes:
        return message

    return check


async def ask(port: int, *, service: str | None = None, timeout: int = AMPLE) -> ProbeAnswer:
    return await probe_by_grpc(target(), GRPCAction(port=port, service=service), timeout)


async def test_a_server_that_serves_is_healthy_and_is_asked_for_the_service() -> None:
    seen: list[tuple[bytes, dict[str, str]]] = []

    async def check(request: bytes, context: Any) -> bytes:
        seen.append((request, dict(context.invocation_metadata())))
        return SERVING

    async with health_server(check) as port:
        assert await ask(port, service="db") == (Outcome.SUCCESS, "service healthy")
        assert await ask(port) == (Outcome.SUCCESS, "service healthy")
    assert [request for request, _ in seen] == [b"\x0a\x02db", b""]
    assert seen[0][1]["user-agent"] == "kube-probe/1.36"


@pytest.mark.parametrize(
    ("message", "status"), [(NOT_SERVING, "NOT_SERVING"), (b"", "UNKNOWN"), (b"\x08\x03", "SERVICE_UNKNOWN")]
)
async def test_any_other_status_is_a_failure(message: bytes, status: str) -> None:
    async with health_server(answers(message)) as port:
        assert await ask(port) == (Outcome.FAILURE, f'service unhealthy (responded with "{status}")')


async def test_a_service_that_is_not_known_is_a_failure() -> None:
    async def check(request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service: é%")
        raise AssertionError

    async with health_server(check) as port:
        text = "error: health rpc probe failed: rpc error: code = NotFound desc = unknown service: é%"
        assert await ask(port) == (Outcome.FAILURE, text)


async def test_a_server_without_the_health_service_is_a_failure() -> None:
    async with health_server(None) as port:
        outcome, message = await ask(port)
    assert outcome is Outcome.FAILURE
    text = "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): Method not found!"
    assert message == text


async def test_a_port_without_a_server_is_waited_for_until_the_time_is_over() -> None:
    port = free_port()
    text = f'timeout: failed to connect service "127.0.0.1:{port}" within 1s: context deadline exceeded'
    assert await ask(port, timeout=1) == (Outcome.FAILURE, text)


async def test_a_server_that_comes_within_the_time_is_found() -> None:
    port = free_port()
    asked = asyncio.create_task(ask(port))
    await asyncio.sleep(0.1)
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(answers(SERVING))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        assert await asked == (Outcome.SUCCESS, "service healthy")
    finally:
        await server.stop(None)


async def test_a_server_that_does_not_answer_is_given_up_and_left() -> None:
    async with raw_server(says_and_hangs(), wait_for_request=False) as server:
        for timeout in (1, 10):  # on a loaded machine even connecting takes its time
            answer = await ask(server.port, timeout=timeout)
            if "failed to connect" not in answer.message:
                break
        assert answer == (Outcome.FAILURE, f"timeout: health rpc did not complete within {timeout}s")
        async with asyncio.timeout(AMPLE):
            await server.closed.wait()


#: A GOAWAY where settings have to be first, and a window that grows too far.
ODD_FRAMES = b"\x00\x00\x08\x07" + b"\x00" * 13 + b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\xff\xff\xff"


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 100, ODD_FRAMES])
async def test_what_is_no_grpc_is_a_failure(said: bytes) -> None:
    async with raw_server(says(said)) as server:  # the preface of HTTP/2 ends as a request does
        outcome, message = await ask(server.port)
    assert outcome is Outcome.FAILURE
    assert message.startswith("error: health rpc probe failed: rpc error: code = Unavailable desc = ")


async def test_an_answer_that_does_not_end_is_cut_off() -> None:
    async def endless(request: bytes, context: Any) -> bytes:
        return b"\x12" + b"\xff\xff\x03" + b"x" * 65535

    async with health_server(endless) as port:
        outcome, message = await ask(port)
    assert outcome is Outcome.FAILURE
    assert "ResourceExhausted" in message


def test_a_request_is_framed_as_grpc_wants() -> None:
    assert health_request("") == b"\x00\x00\x00\x00\x00"
    assert health_request("a" * 200) == b"\x00\x00\x00\x00\xcb\x0a\xc8\x01" + b"a" * 200


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (SERVING, "SERVING"),
        (b"\x12\x02hi" + SERVING, "SERVING"),  # a field that is not known
        (b"\x19" + b"\0" * 8 + b"\x15" + b"\0" * 4 + NOT_SERVING, "NOT_SERVING"),
        (b"\x08\x09", "9"),
    ],
)
def test_unknown_fields_and_statuses_do_not_hurt(message: bytes, status: str) -> None:
    assert health_status(b"\x00" + len(message).to_bytes(4, "big") + message) == status


@given(st.binary(max_size=40), st.booleans())
def test_no_bytes_can_do_more_than_be_refused(message: bytes, framed: bool) -> None:
    body = b"\x00" + len(message).to_bytes(4, "big") + message if framed else message
    with contextlib.suppress(GrpcError):
        assert health_status(body)

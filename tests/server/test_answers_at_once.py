"""Requests that came whole and are answered without a task: as on the wire, and as those that are awaited."""

from __future__ import annotations

import asyncio
import logging
import ssl

import pytest

from tests.server.conftest import Serve
from tests.server.raw_http_client import RawClient
from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.server.connection import Request, Response, ServerLimits

FIELDS = (("Content-Type", "text/plain"),)


async def late(request: Request) -> Response:
    return Response(200, FIELDS, b"late " + await request.body())


def soon(request: Request) -> Response | None:
    if "late" in request.path or request.content is None:
        return None
    return Response(200, FIELDS, b"soon " + request.content)


async def test_each_request_is_answered_by_the_first_who_can(
    serve: Serve, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    _, address = await serve(late, at_once=soon, context=serving_context)
    async with await RawClient.open(address, client_context) as client:
        for path in ("/", "/late", "/", "/late", "/"):
            answer = await client.ask("POST", path, body=b"x")
            assert (answer.status, answer.body) == (200, b"late x" if path == "/late" else b"soon x")
            assert answer.headers["date"].endswith(" GMT")


async def test_requests_behind_one_that_takes_longer_are_answered_in_order(serve: Serve) -> None:
    _, address = await serve(late, at_once=soon)
    async with await RawClient.open(address) as client:
        paths = ["/late", "/1", "/late", "/2", "/3"]
        for path in paths:
            client.send(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{path[:2]}".encode())
        bodies = [(await client.answer()).body.split()[-1].decode() for _ in paths]
    assert bodies == [path[:2] for path in paths]


@pytest.mark.parametrize("fields", [FIELDS, [*FIELDS], ((*FIELDS[0],), ("Warning", "299 - x")), ()])
async def test_an_answer_of_any_kind_is_sent(serve: Serve, fields: tuple[tuple[str, str], ...]) -> None:
    body = b"x" * 600_000
    answers = {
        "/small": Response(200, fields, b"x"),
        "/large": Response(200, fields, body),
        "/none": Response(204, fields),
    }
    _, address = await serve(late, at_once=lambda request: answers[request.path])
    async with await RawClient.open(address) as client:
        for path, response in answers.items():
            answer = await client.ask("GET", path)
            assert (answer.status, answer.body) == (response.status, response.body)


async def test_a_failure_is_answered_and_said(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def fails(request: Request) -> Response:
        if request.path == "/refused":
            raise ProtocolError("not this", status=418)
        if request.path == "/field":
            return Response(200, (("X Y", "z"),), b"")
        raise RuntimeError("broken")

    _, address = await serve(late, at_once=fails)
    with caplog.at_level(logging.ERROR):
        async with await RawClient.open(address) as client:
            statuses = [(await client.ask("GET", path)).status for path in ("/refused", "/", "/field", "/refused")]
    assert statuses == [418, 500, 500, 418]
    assert [record.message for record in caplog.records] == ["a request failed"] * 2


async def test_a_body_over_the_limit_is_for_the_handler(serve: Serve) -> None:
    _, address = await serve(late, at_once=soon, limits=ServerLimits(max_body_bytes=3))
    async with await RawClient.open(address) as client:
        assert (await client.ask("POST", "/", body=b"four")).status == 413
        assert (await client.ask("POST", "/", body=b"two")).body == b"soon two"


async def test_a_client_that_takes_no_answers_is_not_answered_on_and_on(serve: Serve) -> None:
    answered, most = 0, 400

    def large(request: Request) -> Response:
        nonlocal answered
        answered += 1
        return Response(200, FIELDS, b"%05d" % answered * 40_000)

    _, address = await serve(late, at_once=large)
    async with await RawClient.open(address) as client:
        before = -1
        for _ in range(most):
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            await client.writer.drain()
            await asyncio.sleep(0.001)  # each in a segment of its own
            if answered == before and answered >= 2:
                break
            before = answered
        assert answered < most // 2  # the rest of 80 MB has not been made
        for number in range(1, answered + 1):
            assert (await client.answer()).body[:5] == b"%05d" % number


async def test_a_server_that_stops_says_so_in_its_answer(serve: Serve) -> None:
    server, address = await serve(late, at_once=soon)
    waiting = asyncio.Event()

    async def hold(request: Request) -> Response:
        waiting.set()
        await asyncio.Event().wait()
        raise AssertionError

    server.handler = hold
    async with await RawClient.open(address) as other, await RawClient.open(address) as client:
        other.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        await waiting.wait()
        client.send(b"GET / HT")
        while server.connections < 2:
            await asyncio.sleep(0.01)
        server.draining = True
        client.send(b"TP/1.1\r\nHost: h\r\n\r\n")
        answer = await client.answer()
        assert answer.headers["connection"] == "close"
        assert await client.ended() == b""

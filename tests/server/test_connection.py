"""The server: listening, limits on connections, stopping."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import trustme

from tests.server.conftest import Serve
from tests.server.raw_http_client import RawClient
from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.server import connection as connection_module
from virtual_kubelet.server.connection import HttpServer, Request, Response, ServerLimits


async def ok(request: Request) -> Response:
    return Response(200, [], b"ok")


async def until(condition: object) -> None:
    """Let the loop run until ``condition()`` holds."""
    assert callable(condition)
    async with asyncio.timeout(60):
        while not condition():  # what is waited for has no event
            await asyncio.sleep(0.001)


async def test_a_thousand_idle_connections_neither_fill_the_server_nor_shut_others_out(serve: Serve) -> None:
    server, address = await serve(ok, limits=ServerLimits(max_connections=100))
    loop = asyncio.get_running_loop()
    held: list[socket.socket] = []
    try:
        for _ in range(1000):
            one = socket.socket()
            one.setblocking(False)
            held.append(one)
            await loop.sock_connect(one, address)
            assert server.connections <= 100
            if len(held) > 400:  # this process has its own limit of open files
                held.pop(0).close()
        async with await RawClient.open(address) as client:
            assert (await client.ask("GET", "/")).status == 200
    finally:
        for one in held:
            one.close()
    await until(lambda: server.connections == 0)


async def test_when_all_connections_are_busy_one_more_is_closed(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        started.set()
        await release.wait()
        return Response(200)

    _, address = await serve(handler, limits=ServerLimits(max_connections=1))
    async with await RawClient.open(address) as first:
        first.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        for _ in range(2):
            async with await RawClient.open(address) as second:
                assert await second.ended() == b""
        assert caplog.text.count("connections refused") == 1
        release.set()
        assert (await first.answer()).status == 200
        # The first is idle now: it gives way.
        async with await RawClient.open(address) as third:
            assert (await third.ask("GET", "/")).status == 200
        assert await first.ended() == b""


HELD_BACK = {
    "that trickle in their headers": b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
    "that send a request with no end": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1",
    "that take no answer": b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("sent", [pytest.param(sent, id=what) for what, sent in HELD_BACK.items()])
async def test_slow_clients_give_way_to_the_next_who_comes(serve: Serve, sent: bytes) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], b"x" * 50_000_000 if request.path == "/large" else b"ok")

    server, address = await serve(handler, limits=ServerLimits(max_connections=3))
    async with AsyncExitStack() as stack:
        slow = []
        for _ in range(3):
            client = await stack.enter_async_context(await RawClient.open(address))
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(sent)
            slow.append(client)
        await until(lambda: sum(one._in_headers or one._body is not None for one in server._connections) == 3)
        async with await RawClient.open(address) as other:
            assert (await other.ask("GET", "/")).status == 200
            assert server.connections == 3
        slow[0].writer.transport.resume_reading()  # type: ignore[attr-defined]
        await slow[0].ended()  # the oldest


async def test_handshakes_that_do_not_come_give_way_to_the_next_who_comes(
    serve: Serve, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server, address = await serve(ok, context=serving_context, limits=ServerLimits(max_connections=3))
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(await RawClient.open(address)) for _ in range(3)]
        await until(lambda: server.connections == 3)
        async with await RawClient.open(address, client_context) as other:
            assert (await other.ask("GET", "/")).status == 200
            assert await silent[0].ended() == b""
            assert server.connections == 3


async def test_a_stream_does_not_give_way(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.Event().wait()

        return Response(200, [], body())

    _, address = await serve(handler, limits=ServerLimits(max_connections=1))
    async with await RawClient.open(address) as first:
        first.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await first.head()
        assert await first.chunk() == b"first"
        async with await RawClient.open(address) as second:
            assert await second.ended() == b""
        assert not first.reader.at_eof()


async def test_a_handshake_that_never_comes_is_counted_and_ended(serve: Serve, serving_context: ssl.SSLContext) -> None:
    server, address = await serve(ok, context=serving_context, limits=ServerLimits(header_timeout=0.1))
    async with await RawClient.open(address) as client:
        await until(lambda: server.connections == 1)
        assert await client.ended() == b""
        await until(lambda: server.connections == 0)


async def test_plain_http_on_the_tls_port_is_refused(
    serve: Serve, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    server, address = await serve(ok, context=serving_context)
    async with await RawClient.open(address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in await client.ended()
    await until(lambda: server.connections == 0)
    async with await RawClient.open(address, client_context) as client:
        assert (await client.ask("GET", "/")).status == 200


async def test_a_certificate_of_an_unknown_authority_ends_the_handshake(
    serve: Serve, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    context = ssl.create_default_context()
    context.load_verify_locations(
        cadata="".join(ssl.DER_cert_to_PEM_cert(der) for der in client_context.get_ca_certs(True))
    )
    trustme.CA().issue_cert("mallory.example", common_name="mallory").configure_cert(context)
    server, address = await serve(ok, context=serving_context)
    client = await RawClient.open(address, context)
    try:
        # In TLS 1.3 the client learns of it with its first read.
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.ended() == b""
    finally:
        await client.aclose()
    await until(lambda: server.connections == 0)


async def test_stopping_closes_idle_connections_and_lets_requests_finish(serve: Serve) -> None:
    started, release = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        if request.path == "/slow":
            started.set()
            await release.wait()
        return Response(200)

    server, address = await serve(handler)
    async with await RawClient.open(address) as idle, await RawClient.open(address) as busy:
        assert (await idle.ask("GET", "/")).status == 200
        busy.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        stopping = asyncio.create_task(server.aclose(grace=5))
        assert await idle.ended() == b""
        with pytest.raises(OSError):
            await RawClient.open(address)
        assert not stopping.done()
        release.set()
        answer = await busy.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        await asyncio.wait_for(stopping, 5)
    await server.wait()


async def test_stopping_cuts_what_does_not_finish_in_time(serve: Serve) -> None:
    closed = asyncio.Event()

    async def handler(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                closed.set()

        return Response(200, [], body())

    server, address = await serve(handler)
    async with await RawClient.open(address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.head()
        assert await client.chunk() == b"first"
        await server.aclose(grace=0.05)
        assert closed.is_set()
        assert server.connections == 0
        assert await client.ended() == b""


async def test_a_handler_that_ignores_its_cancellation_does_not_hold_up_the_stop(
    nothing_left: None, caplog: pytest.LogCaptureFixture
) -> None:
    started, release, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        started.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        ended.set()
        return Response(200)

    server = HttpServer(handler, ssl_context=None, limits=ServerLimits(close_timeout=0.05))
    (address,) = await server.start("127.0.0.1", 0)
    async with await RawClient.open(address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        await server.aclose(grace=0)
    assert "go on; leaving them behind" in caplog.text
    release.set()
    await ended.wait()
    await server.wait()


async def test_stopping_twice_and_stopping_what_never_started_do_nothing(nothing_left: None) -> None:
    server = HttpServer(ok, ssl_context=None)
    await server.aclose()
    server = HttpServer(ok, ssl_context=None)
    await server.start("127.0.0.1", 0)
    await server.aclose()
    await server.aclose()


async def test_a_server_starts_once(serve: Serve) -> None:
    server, _ = await serve(ok)
    with pytest.raises(RuntimeError, match="already"):
        await server.start("127.0.0.1", 0)
    with pytest.raises(RuntimeError, match="not been started"):
        await HttpServer(ok, ssl_context=None).wait()


async def test_a_start_that_is_cancelled_leaves_nothing_that_listens(nothing_left: None) -> None:
    server = HttpServer(ok, ssl_context=None)
    [listener] = await connection_module.open_listeners("127.0.0.1", 0)
    address = listener.getsockname()
    starting = asyncio.create_task(server.start("127.0.0.1", 0, listeners=[listener]))
    await asyncio.sleep(0)  # it waits for its first task
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(ConnectionRefusedError):
        await RawClient.open(address)
    with pytest.raises(asyncio.CancelledError):
        await server.wait()


async def test_a_name_listens_on_all_its_addresses_with_one_port(nothing_left: None) -> None:
    server = HttpServer(ok, ssl_context=None)
    addresses = await server.start("localhost", 0)
    assert len({port for _, port in addresses}) == 1
    for address in addresses:
        async with await RawClient.open(address) as client:
            assert (await client.ask("GET", "/")).status == 200
    await server.aclose()


async def test_no_name_listens_everywhere(nothing_left: None) -> None:
    server = HttpServer(ok, ssl_context=None)
    ((_, port),) = await server.start("", 0)
    async with await RawClient.open(("127.0.0.1", port)) as client:
        assert (await client.ask("GET", "/")).status == 200
    await server.aclose()


async def test_a_port_in_use_is_an_error_for_people(serve: Serve) -> None:
    _, (host, port) = await serve(ok)
    with pytest.raises(ConfigurationError, match=f"cannot listen on {host} port {port}") as caught:
        await HttpServer(ok, ssl_context=None).start(host, port)
    assert caught.value.hint
    with pytest.raises(ConfigurationError, match=r"cannot listen on no-such-host\.invalid"):
        await HttpServer(ok, ssl_context=None).start("no-such-host.invalid", 0)


async def test_a_shortage_of_descriptors_is_survived(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection_module, "_SHORTAGE_PAUSE", 0.01)
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, [OSError(errno.EMFILE, "Too many open files"), ConnectionAbortedError()]

    async def failing(listener: socket.socket) -> tuple[socket.socket, object]:
        if failures:
            raise failures.pop(0)
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", failing)
    _, address = await serve(ok)
    async with await RawClient.open(address) as client:
        assert (await client.ask("GET", "/")).status == 200
    assert "cannot accept connections: Too many open files" in caplog.text


async def test_a_listener_that_breaks_surfaces(
    nothing_left: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(listener: socket.socket) -> tuple[socket.socket, object]:
        raise OSError(errno.EINVAL, "broken")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_accept", failing)
    server = HttpServer(ok, ssl_context=None)
    await server.start("127.0.0.1", 0)
    with pytest.raises(ExceptionGroup) as caught:
        await server.wait()
    assert caught.group_contains(OSError, match="broken")
    await server.aclose()
    assert "the server had broken down" in caplog.text

"""One connection: HTTP as it is on the wire, through TLS, with clients that behave and clients that do not."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator

import pytest

from tests.server.conftest import Serve
from tests.server.raw_http_client import RawClient
from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.server import http_answers
from virtual_kubelet.server.connection import Request, Response, ResponseBroken, ServerLimits
from virtual_kubelet.server.http_heads import response_head


async def echo(request: Request) -> Response:
    return Response(200, [("X-Path", request.path)], await request.body())


async def ignore(request: Request) -> Response:
    """Answers without a look at the body."""
    return Response(200, [], request.path.encode())


async def test_one_connection_serves_many_requests_over_tls(
    serve: Serve, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    _, address = await serve(echo, context=serving_context)
    async with await RawClient.open(address, client_context) as client:
        for number in range(3):
            answer = await client.ask("POST", f"/x/{number}", body=b"body %d" % number)
            assert (answer.status, answer.headers["x-path"], answer.body) == (200, f"/x/{number}", b"body %d" % number)
            assert answer.headers["date"].endswith(" GMT")


async def test_the_handler_learns_the_client_certificate(
    serve: Serve,
    serving_context: ssl.SSLContext,
    certified_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    async def who(request: Request) -> Response:
        peer = request.peer_certificate
        return Response(200, [], b"nobody" if peer is None else f"{peer.common_name} {peer.organizations}".encode())

    _, address = await serve(who, context=serving_context)
    async with await RawClient.open(address, certified_context) as client:
        assert (await client.ask("GET", "/")).body == b"ada ('engineers',)"
    async with await RawClient.open(address, client_context) as client:
        assert (await client.ask("GET", "/")).body == b"nobody"


async def test_pipelined_requests_are_answered_in_order_one_at_a_time(serve: Serve) -> None:
    running = 0

    async def handler(request: Request) -> Response:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0.01 if request.path == "/0" else 0)
        running -= 1
        return Response(200, [], request.path.encode() + await request.body())

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        client.send(
            b"GET /0 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert [(await client.answer()).body for _ in range(3)] == [b"/0", b"/1abc", b"/2"]
        assert await client.ended() == b""


async def test_a_flood_of_pipelined_requests_is_held_back_and_still_answered(serve: Serve) -> None:
    release = asyncio.Event()

    async def handler(request: Request) -> Response:
        if request.path == "/first":
            await release.wait()
        return Response(200)

    _, address = await serve(handler, limits=ServerLimits(max_header_bytes=1000))
    async with await RawClient.open(address) as client:
        client.send(b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(200):
            client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0)
        release.set()
        assert [(await client.answer()).status for _ in range(201)] == [200] * 201


async def test_head_has_the_length_but_no_body(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], b"12345")

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        answer = await client.ask("HEAD", "/")
        assert answer.headers["content-length"] == "5"
        assert (await client.ask("GET", "/")).body == b"12345"


async def test_head_of_a_stream_closes_the_stream_unread(serve: Serve) -> None:
    closed = asyncio.Event()

    class Body:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            raise AssertionError("nobody may read this")

        async def aclose(self) -> None:
            closed.set()

    async def handler(request: Request) -> Response:
        return Response(200, [], Body())

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        assert (await client.ask("HEAD", "/")).headers["transfer-encoding"] == "chunked"
        await asyncio.wait_for(closed.wait(), 5)


async def test_204_has_neither_body_nor_length(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        return Response(204)

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        assert "content-length" not in (await client.ask("GET", "/")).headers
        assert (await client.ask("GET", "/")).status == 204


async def test_a_chunked_body_is_put_together(serve: Serve) -> None:
    _, address = await serve(echo)
    async with await RawClient.open(address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0)
        client.send(b"4\r\ndefg\r\n0\r\n\r\n")
        assert (await client.answer()).body == b"abcdefg"


async def test_a_body_may_be_asked_for_twice(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], await request.body() + await request.body())

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        assert (await client.ask("POST", "/", body=b"ab")).body == b"abab"


async def test_100_continue_is_said_when_the_handler_wants_the_body(serve: Serve) -> None:
    _, address = await serve(echo)
    async with await RawClient.open(address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert (await client.answer()).status == 100
        client.send(b"ok")
        assert (await client.answer()).body == b"ok"


async def test_100_continue_is_not_said_when_nobody_wants_the_body(serve: Serve) -> None:
    _, address = await serve(ignore)
    async with await RawClient.open(address) as client:
        client.send(b"POST /p HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.ended() == b""


async def test_a_body_nobody_read_is_thrown_away_and_the_connection_lives_on(serve: Serve) -> None:
    _, address = await serve(ignore, limits=ServerLimits(write_buffer_bytes=1000))
    async with await RawClient.open(address) as client:
        client.send(b"POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n" + b"x" * 400_000)
        assert (await client.answer()).body == b"/one"
        client.send(b"x" * 100_000)
        assert (await client.ask("GET", "/two")).body == b"/two"


async def test_a_body_nobody_read_and_that_has_no_end_closes_the_connection(serve: Serve) -> None:
    _, address = await serve(ignore, limits=ServerLimits(max_body_bytes=1000))
    async with await RawClient.open(address) as client:
        client.send(b"POST /one HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n")
        assert (await client.answer()).body == b"/one"
        client.send(b"x" * 1001)
        assert await client.ended() == b""


@pytest.mark.parametrize(
    ("head", "rest"),
    [
        (b"Content-Length: 101", b""),
        (b"Transfer-Encoding: chunked", b"65\r\n" + b"x" * 101 + b"\r\n"),
    ],
)
async def test_a_body_over_the_limit_is_413(serve: Serve, head: bytes, rest: bytes) -> None:
    _, address = await serve(echo, limits=ServerLimits(max_body_bytes=100))
    async with await RawClient.open(address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n" + rest)
        assert (await client.answer()).status == 413


async def test_a_body_of_exactly_the_limit_passes(serve: Serve) -> None:
    _, address = await serve(echo, limits=ServerLimits(max_body_bytes=100))
    async with await RawClient.open(address) as client:
        assert (await client.ask("POST", "/", body=b"x" * 100)).body == b"x" * 100


async def test_a_handler_may_set_its_own_body_limit(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], await request.body(limit=int(request.query.get("limit"))))

    _, address = await serve(handler, limits=ServerLimits(max_body_bytes=100))
    async with await RawClient.open(address) as client:
        assert (await client.ask("POST", "/?limit=5", body=b"123456")).status == 413
    async with await RawClient.open(address) as client:
        assert (await client.ask("POST", "/?limit=200", body=b"x" * 150)).status == 200


async def test_a_body_that_does_not_come_is_408(serve: Serve) -> None:
    _, address = await serve(echo, limits=ServerLimits(body_timeout=0.05))
    async with await RawClient.open(address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")
        assert (await client.answer()).status == 408


async def test_a_body_with_broken_framing_is_400_and_closes(serve: Serve) -> None:
    _, address = await serve(echo)
    async with await RawClient.open(address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert (await client.answer()).status == 400
        assert await client.ended() == b""


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"complete nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/3.0\r\nHost: x\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
        (b"GET /a/%2e%2e/b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /%00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT node:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 2000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 2000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a:\r\n" * 20 + b"\r\n", 431),
    ],
)
async def test_malformed_http_is_refused_and_the_connection_closed(serve: Serve, raw: bytes, status: int) -> None:
    async def handler(request: Request) -> Response:
        raise AssertionError("this must not get to a handler")

    _, address = await serve(
        handler, limits=ServerLimits(max_header_bytes=1000, max_header_fields=20, linger_timeout=0.01)
    )
    async with await RawClient.open(address) as client:
        client.send(raw)
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await client.ended() == b""


SMUGGLED = b"POST /exec/ns/web/main?command=id&output=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("pieces", [1, 2, 40], ids="in {} pieces".format)
@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 0",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        b"Transfer-Encoding: chunked, chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding:\x0bchunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding\t: chunked",
        b"X: y\rTransfer-Encoding: chunked",
        b"Content-Length: 0\r\nContent-Length: %d" % len(SMUGGLED),
        b"Content-Length: 0, %d" % len(SMUGGLED),
        b"Content-Length: +0",
        b"Content-Length: 0x0",
        b"Content-Length: 00000000000000000000000",
        b"Content-Length: \xb2",
        b"Content-Length: 1_0",
        b"Content-Length : 0",
        b"Content-Length:\r\n 0",
        b"Content-Length: 0\x00",
        b"X: y\x00",
        b"\x00: y",
        b": y",
    ],
)
async def test_no_request_can_be_smuggled_behind_another(serve: Serve, head: bytes, pieces: int) -> None:
    """Whoever stands before us, such as an API server's proxy, must not see one request where we see two."""
    paths = []

    async def handler(request: Request) -> Response:
        paths.append(request.path)
        await request.body()
        return Response(200, [], b"")

    raw = b"POST /one HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n0\r\n\r\n" + SMUGGLED
    _, address = await serve(handler, limits=ServerLimits(linger_timeout=0.01))
    async with await RawClient.open(address) as client:
        step = -(-len(raw) // pieces)
        for start in range(0, len(raw), step):
            client.send(raw[start : start + step])
            await asyncio.sleep(0)
        await client.ended()
    assert not any(path.startswith("/exec") for path in paths)


@pytest.mark.parametrize(
    "head", [b"X: y\r\n z", b"X: y\r\n\tz", b"Content-Length: 0\r\nX: a\r\n  Transfer-Encoding: chunked"]
)
async def test_a_folded_line_belongs_to_its_field(serve: Serve, head: bytes) -> None:
    async def handler(request: Request) -> Response:
        assert "transfer-encoding" not in request.headers
        return Response(200, [], request.headers.get("x").encode())

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        client.send(b"POST /one HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        answer = await client.answer()
    assert (answer.status, answer.body.split()) in [
        (200, [b"y", b"z"]),
        (200, [b"a", b"Transfer-Encoding:", b"chunked"]),
    ]


@pytest.mark.parametrize(
    ("chunks", "status"),
    [
        (b"5;name=value\r\nhello\r\n0\r\n\r\n", 200),
        (b"5\r\nhello\r\n0\r\nTrailer: t\r\n\r\n", 200),
        (b"0x5\r\nhello\r\n0\r\n\r\n", 400),
        (b"-5\r\nhello\r\n0\r\n\r\n", 400),
        (b" 5\r\nhello\r\n0\r\n\r\n", 400),
        (b"5\r\nhelloXX0\r\n\r\n", 400),
        (b"f" * 21 + b"\r\nhello", 400),
        (b"5;" + b"x" * 5000, 431),
    ],
)
async def test_chunks_are_what_the_standard_says_or_refused(serve: Serve, chunks: bytes, status: int) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], await request.body())

    _, address = await serve(handler, limits=ServerLimits(max_header_bytes=1000, linger_timeout=0.01))
    async with await RawClient.open(address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        answer = await client.answer()
    assert answer.status == status
    assert status != 200 or answer.body == b"hello"


async def test_a_refused_head_has_no_body(serve: Serve) -> None:
    _, address = await serve(ignore, limits=ServerLimits(linger_timeout=0.01))
    async with await RawClient.open(address) as client:
        assert (await client.ask("HEAD", "/a/../b")).status == 400
        assert await client.ended() == b""


async def test_connect_is_refused_by_whoever_has_no_use_for_it(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        return Response(200 if request.path == "/yes" else 405)

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        assert (await client.ask("CONNECT", "/no")).status == 405
        assert (await client.ask("GET", "/no")).status == 405
        # A handler that accepts a tunnel without a way to serve it loses its connection, no more.
        client.send(b"CONNECT /yes HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.ended()
    async with await RawClient.open(address) as client:
        assert (await client.ask("GET", "/yes")).status == 200


async def test_a_body_in_very_many_chunks_is_put_together(serve: Serve) -> None:
    _, address = await serve(echo)
    async with await RawClient.open(address) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n")
        assert (await client.answer()).body == b"x" * 5000


async def test_an_unknown_method_gets_to_the_handler(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [], request.method.encode())

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        assert (await client.ask("BREW", "/")).body == b"BREW"


async def test_http_1_0_is_answered_and_closed(serve: Serve) -> None:
    _, address = await serve(ignore)
    async with await RawClient.open(address) as client:
        client.send(b"GET /old HTTP/1.0\r\n\r\n")
        assert (await client.answer()).body == b"/old"
        assert await client.ended() == b""


async def test_headers_that_trickle_in_are_cut_off_with_408(serve: Serve) -> None:
    _, address = await serve(ignore, limits=ServerLimits(header_timeout=0.3, idle_timeout=30, linger_timeout=0.01))
    async with await RawClient.open(address) as client:
        # On a connection that has served before, too.
        assert (await client.ask("GET", "/")).status == 200
        client.send(b"GET / HT")

        async def trickle() -> None:
            while True:
                await asyncio.sleep(0.02)
                client.send(b"x")

        trickling = asyncio.create_task(trickle())
        assert (await client.answer()).status == 408
        trickling.cancel()
        await asyncio.wait({trickling})
        assert await client.ended() == b""


async def test_a_connection_that_never_says_anything_is_closed(serve: Serve) -> None:
    _, address = await serve(ignore, limits=ServerLimits(header_timeout=0.05))
    async with await RawClient.open(address) as client:
        assert await client.ended() == b""


async def test_an_idle_connection_is_closed(serve: Serve) -> None:
    _, address = await serve(ignore, limits=ServerLimits(idle_timeout=0.05))
    async with await RawClient.open(address) as client:
        assert (await client.ask("GET", "/")).status == 200
        assert await client.ended() == b""


async def test_a_slow_handler_is_no_idle_connection(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0.4)
        return Response(200)

    _, address = await serve(handler, limits=ServerLimits(idle_timeout=0.05, header_timeout=0.3))
    async with await RawClient.open(address) as client:
        assert (await client.ask("GET", "/")).status == 200


async def test_a_client_that_leaves_cancels_its_handler(
    serve: Serve, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError

    _, address = await serve(handler, context=serving_context)
    async with await RawClient.open(address, client_context) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(started.wait(), 5)
    await asyncio.wait_for(cancelled.wait(), 5)


async def test_a_client_that_leaves_closes_the_stream(serve: Serve) -> None:
    closed = asyncio.Event()

    async def handler(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            try:
                yield b"first"
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)  # clean-up may wait
                closed.set()

        return Response(200, [], body())

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.head()
        assert await client.chunk() == b"first"
    await asyncio.wait_for(closed.wait(), 5)


async def test_a_clean_up_that_hangs_is_given_up(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    cancelled = asyncio.Event()

    class Body:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

    async def handler(request: Request) -> Response:
        return Response(200, [], Body())

    _, address = await serve(handler, limits=ServerLimits(close_timeout=0.05))
    async with await RawClient.open(address) as client:
        assert (await client.ask("GET", "/")).body == b""
        await asyncio.wait_for(cancelled.wait(), 5)
        assert await client.ended() == b""
    assert "sending a response failed" in caplog.text


async def test_a_stream_sends_headers_and_each_chunk_at_once(
    serve: Serve, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    go: asyncio.Queue[bytes] = asyncio.Queue()

    async def handler(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            while chunk := await go.get():
                yield chunk

        return Response(200, [("Content-Type", "text/plain")], body())

    _, address = await serve(handler, context=serving_context)
    async with await RawClient.open(address, client_context) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(60):
            status, headers = await client.head()
            assert (status, headers["transfer-encoding"]) == (200, "chunked")
            for text in (b"one", b"two"):
                go.put_nowait(text)
                assert await client.chunk() == text
            go.put_nowait(b"")
            assert await client.chunk() == b""
        assert (await client.ask("HEAD", "/")).status == 200


async def test_an_http_1_0_client_gets_a_stream_that_ends_with_the_connection(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"a"
            await asyncio.sleep(0)
            yield b"b"

        return Response(200, [], body())

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        await client.head()
        assert await client.ended() == b"ab"


async def test_a_client_that_reads_nothing_makes_the_stream_wait(
    serve: Serve, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    produced, started = 0, asyncio.Event()

    async def handler(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            nonlocal produced
            started.set()
            while True:
                produced += 10_000
                yield b"x" * 10_000

        return Response(200, [], body())

    _, address = await serve(handler, context=serving_context)
    async with await RawClient.open(address, client_context) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        last = -1
        while produced != last:
            last = produced
            await asyncio.sleep(0.2)
        # The kernel's socket buffers take some MB; without back-pressure this would not stop at all.
        assert 0 < produced < 50_000_000


async def test_a_client_that_takes_nothing_for_too_long_is_cut(serve: Serve) -> None:
    closed = asyncio.Event()

    async def handler(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 100_000
            finally:
                closed.set()

        return Response(200, [], body())

    server, address = await serve(handler, limits=ServerLimits(write_timeout=0.1))
    async with await RawClient.open(address) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(closed.wait(), 10)
        await asyncio.sleep(0)
        assert server.connections == 0


async def test_a_large_body_arrives_whole(
    serve: Serve, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    large = bytes(range(256)) * 8192

    async def handler(request: Request) -> Response:
        return Response(200, [], large)

    _, address = await serve(handler, context=serving_context)
    async with await RawClient.open(address, client_context) as client:
        assert (await client.ask("GET", "/")).body == large
        assert (await client.ask("GET", "/")).status == 200


async def test_a_failing_handler_is_500_with_a_log_but_no_secrets(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(request: Request) -> Response:
        raise RuntimeError("the inside story")

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        answer = await client.ask("POST", "/p?command=hunter2", "Authorization: Bearer t0ken", body=b"s3cret body")
        assert answer.status == 500
        assert b"inside" not in answer.body
        assert (await client.ask("GET", "/")).status == 500  # and the connection goes on
    assert "the inside story" in caplog.text
    assert "Traceback" in caplog.text
    shown = caplog.text + str([vars(record) for record in caplog.records])
    for secret in ("t0ken", "s3cret", "hunter2"):
        assert secret not in shown


@pytest.mark.parametrize("value", ["bad\r\nSet-Cookie: x", "nul\0"])
async def test_a_header_that_would_split_the_response_is_500(
    serve: Serve, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, [("X", value)], b"")

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        assert (await client.ask("GET", "/")).status == 500
    assert "a request failed" in caplog.text


async def test_a_handler_that_returns_nonsense_is_500(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    async def handler(request: Request) -> Response:
        return None  # type: ignore[return-value]

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        assert (await client.ask("GET", "/")).status == 500
    assert "returned a NoneType" in caplog.text


async def test_a_protocol_error_of_a_handler_is_its_status_and_text(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        raise ProtocolError("not like this", status=422)

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        answer = await client.ask("GET", "/")
        assert (answer.status, answer.body) == (422, b"not like this\n")


@pytest.mark.parametrize(("error", "logged"), [(RuntimeError("later"), True), (ResponseBroken(), False)])
async def test_a_stream_that_breaks_off_is_seen_as_broken(
    serve: Serve, caplog: pytest.LogCaptureFixture, error: Exception, logged: bool
) -> None:
    async def handler(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"part"
            await asyncio.sleep(0)
            raise error

        return Response(200, [], body())

    _, address = await serve(handler)
    caplog.set_level(logging.WARNING)
    async with await RawClient.open(address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.head()
        assert await client.chunk() == b"part"
        assert await client.ended() == b""  # not "0\r\n\r\n"
    assert bool(caplog.records) == logged


async def test_a_handler_whose_own_wait_was_cancelled_does_not_leave_the_client_hanging(serve: Serve) -> None:
    async def handler(request: Request) -> Response:
        raise asyncio.CancelledError

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await client.ended() == b""


class Shout(asyncio.Protocol):
    """Sends back what it gets, in capitals."""

    def __init__(self, transport: asyncio.Transport, early: bytes) -> None:
        self.transport = transport
        self.lost = asyncio.Event()
        if early:
            self.data_received(early)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


async def test_an_upgrade_takes_the_connection_over_with_the_bytes_that_came_early(
    serve: Serve, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    shouts: list[Shout] = []

    def take_over(transport: asyncio.Transport, early: bytes) -> asyncio.Protocol:
        shouts.append(Shout(transport, early))
        return shouts[-1]

    async def handler(request: Request) -> Response:
        return Response(101, [("Connection", "Upgrade"), ("Upgrade", "shout")], upgrade=take_over)

    server, address = await serve(handler, context=serving_context, limits=ServerLimits(idle_timeout=0.01))
    async with await RawClient.open(address, client_context) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nearly ")
        status, headers = await client.head()
        assert (status, headers["upgrade"]) == (101, "shout")
        assert await client.reader.readexactly(6) == b"EARLY "
        client.send(b"late")
        assert await client.reader.readexactly(4) == b"LATE"
        assert server.connections == 1
    await asyncio.wait_for(shouts[0].lost.wait(), 5)
    assert server.connections == 0


async def test_a_refused_upgrade_leaves_http_going_on(serve: Serve) -> None:
    _, address = await serve(ignore)
    async with await RawClient.open(address) as client:
        assert (await client.ask("GET", "/a", "Connection: Upgrade", "Upgrade: shout")).body == b"/a"
        assert (await client.ask("GET", "/b")).body == b"/b"


async def test_an_answer_with_well_known_fields_is_made_in_one_piece(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer: list[Response] = []

    def long_way(response: Response, date: str, *, close: bool) -> object:
        longer.append(response)
        return response_head(response, date, close=close)

    monkeypatch.setattr(http_answers, "response_head", long_way)

    async def handler(request: Request) -> Response:
        fields = [("Content-Type", "text/plain")]
        return Response(200, tuple(fields) if request.path == "/known" else fields, b"hello")

    _, address = await serve(handler)
    async with await RawClient.open(address) as client:
        for path, count in (("/known", 0), ("/known", 0), ("/other", 1), ("/known", 1)):
            answer = await client.ask("GET", path)
            assert (answer.status, answer.body, len(longer)) == (200, b"hello", count)

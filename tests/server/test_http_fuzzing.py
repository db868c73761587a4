"""Whatever bytes come, in whatever pieces: HTTP answers or a closed connection, never an exception, never a stuck task."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.server.http_connection import HttpConnection
from virtual_kubelet.server.http_messages import Handler, PromptHandler, Request, Response
from virtual_kubelet.server.limits import ServerLimits


class Wire:
    """A transport without a network; like uvloop's no subclass of asyncio's."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing
        self.written += data

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


class Owner:
    """A server of one connection, whose failures are not hidden."""

    limits = ServerLimits(max_header_bytes=500, max_body_bytes=200, write_buffer_bytes=50)
    draining = False

    def __init__(self, at_once: PromptHandler | None = None) -> None:
        self.at_once = at_once
        self.tasks: list[asyncio.Task[None]] = []

    @property
    def handler(self) -> Handler:
        return self._handle

    async def _handle(self, request: Request) -> Response:
        if request.path.startswith("/stream"):

            async def body() -> Any:
                yield b"a"
                await asyncio.sleep(0)
                yield b"b"

            return Response(200, [], body())
        try:
            return Response(200, (), await request.body() if "read" in request.path else b"")
        except ProtocolError as error:
            return Response(error.status)

    def date(self) -> str:
        return "Tue, 24 Nov 2026 00:00:00 GMT"

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(work))
        return self.tasks[-1]

    def idle(self, connection: HttpConnection) -> None:
        return

    def waits(self, connection: HttpConnection) -> None:
        pass

    def busy(self, connection: HttpConnection) -> None:
        return

    def closed(self, connection: HttpConnection) -> None:
        return


PIECES = [
    b"GET / HTTP/1.1\r\n",
    b"GET /stream HTTP/1.1\r\n",
    b"HEAD /stream HTTP/1.1\r\n",
    b"HEAD /../x HTTP/1.1\r\n",
    b"POST /read HTTP/1.1\r\n",
    b"CONNECT /read HTTP/1.1\r\n",
    b"GET / HTTP/1.0\r\n",
    b"Host: x\r\n",
    b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: x\r\n",
    b"Expect: 100-continue\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 300\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"hello",
    b"x" * 120,
    b"\r\n",
    b"\r\n",
    b"\n",
    b"\0",
]


WHOLE = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POSTED = b"POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"


def at_once(request: Request) -> Response | None:
    """Says the same as ``Owner._handle`` where that waits for nothing."""
    if request.path.startswith("/stream") or request.content is None:
        return None
    return Response(200, (), request.content if "read" in request.path else b"")


async def converse(pieces: list[bytes], ask: PromptHandler | None = None) -> bytes:
    owner, wire = Owner(ask), Wire()
    connection = HttpConnection(owner)
    connection.connection_made(cast("asyncio.Transport", wire))
    for piece in pieces:
        connection.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    async with asyncio.timeout(60):
        results = await asyncio.gather(*owner.tasks, return_exceptions=True)
    failures = [result for result in results if isinstance(result, Exception)]
    assert failures == []
    return bytes(wire.written)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.binary(min_size=1, max_size=20), max_size=12))
def test_any_bytes_are_answered_or_refused(pieces: list[bytes]) -> None:
    written = asyncio.run(converse(pieces))
    if written:
        # What was written is HTTP, from its first byte on.
        reader = h11.Connection(h11.CLIENT)
        reader.send(h11.Request(method="HEAD", target="/", headers=[("Host", "x")]))
        reader.receive_data(written)
        assert isinstance(reader.next_event(), h11.Response | h11.InformationalResponse)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, WHOLE, POSTED]), max_size=12))
@example([WHOLE, POSTED, WHOLE])
def test_what_is_answered_at_once_reads_as_what_is_awaited(pieces: list[bytes]) -> None:
    assert asyncio.run(converse(pieces, at_once)) == asyncio.run(converse(pieces))

"""Connections to a node that are upgraded to a streaming protocol, and bytes moved between two of them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Final

import h11

from virtual_kubelet.server.transports import abort

__all__ = ["CHUNK", "ByteStream", "NodeAnswer", "close_streams", "dial", "first_of", "relay"]

#: Read at once.
CHUNK: Final = 64 * 1024
_MOST_ERROR_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class ByteStream:
    """Both directions of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    def taken_over(cls, transport: asyncio.Transport, early: bytes) -> tuple[ByteStream, asyncio.Protocol]:
        """A connection whose HTTP part is over, and who is to get its callbacks; ``early`` is what had come before."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=CHUNK, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        protocol.connection_made(transport)
        if early:
            reader.feed_data(early)
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop)), protocol


@dataclass(frozen=True, slots=True)
class NodeAnswer:
    """What a node said to a request for an upgrade: ``stream`` if it agreed (101), else ``body``."""

    status: int
    headers: Sequence[tuple[str, str]]
    stream: ByteStream | None
    body: bytes = b""


async def dial(
    address: str, method: str, target: str, headers: Sequence[tuple[str, str]], context: ssl.SSLContext | None
) -> NodeAnswer:
    """Connect to ``HOST:PORT`` and ask. Raises ``OSError``, and ``h11.RemoteProtocolError`` for what is no HTTP."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context, limit=CHUNK)
    try:
        http = h11.Connection(h11.CLIENT)
        request = h11.Request(
            method=method, target=target, headers=[("Host", address), ("Content-Length", "0"), *headers]
        )
        writer.write((http.send(request) or b"") + (http.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        status, answered, body = 0, list[tuple[str, str]](), b""
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(CHUNK))
            elif isinstance(event, h11.InformationalResponse) and event.status_code == 101:
                early = http.trailing_data[0]
                stream = ByteStream(_with_early(reader, early), writer)
                return NodeAnswer(101, _text(event), stream)
            elif isinstance(event, h11.Response):
                status, answered = event.status_code, _text(event)
            elif isinstance(event, h11.Data):
                body = (body + event.data)[:_MOST_ERROR_BYTES]
            elif isinstance(event, (h11.EndOfMessage, h11.ConnectionClosed)) or event is h11.PAUSED:
                break
    except BaseException:
        abort(writer.transport)
        raise
    writer.close()
    return NodeAnswer(status, answered, None, body)


def _text(event: h11.Response | h11.InformationalResponse) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers.raw_items()]


def _with_early(reader: asyncio.StreamReader, early: bytes) -> asyncio.StreamReader:
    """Put bytes back in front of what has not been read: nothing has, since ``h11`` was given all."""
    if early:
        reader._buffer[:0] = early  # type: ignore[attr-defined]
    return reader


async def relay(client: ByteStream, node: ByteStream) -> None:
    """Move bytes both ways until one side ends; what it had sent still reaches the other."""
    await first_of(_pump(client.reader, node.writer), _pump(node.reader, client.writer))
    await close_streams(client, node)


async def first_of(*works: Awaitable[None]) -> None:
    """Until one of them is over; the others are cancelled. Raises what any of them raised, but for broken connections."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, OSError):
            raise result


async def close_streams(*streams: ByteStream, patience: float = 10.0) -> None:
    """Send what is written and close; a peer that does not read is cut after ``patience`` seconds."""
    for stream in streams:
        stream.writer.close()
    for stream in streams:
        try:
            async with asyncio.timeout(patience):
                await stream.writer.wait_closed()
        except (OSError, TimeoutError):
            abort(stream.writer.transport)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()

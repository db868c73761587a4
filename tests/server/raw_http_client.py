"""A client that sends exactly the bytes it is told, and reads answers one by one."""

from __future__ import annotations

import asyncio
import ssl
from types import TracebackType
from typing import NamedTuple


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class RawClient:
    """One connection. ``async with await RawClient.open(…)`` closes it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(
        cls, address: tuple[str, int], context: ssl.SSLContext | None = None, *, name: str = "node.example"
    ) -> RawClient:
        return cls(
            *await asyncio.open_connection(
                *address, ssl=context, server_hostname=name if context is not None else None, limit=2**20
            )
        )

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        self.writer.transport.abort()
        try:
            await self.writer.wait_closed()
        except (ConnectionError, ssl.SSLError):
            return

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def ask(self, method: str, target: str, *headers: str, body: bytes = b"") -> Answer:
        lines = [f"{method} {target} HTTP/1.1", "Host: node.example", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + body)
        return await self.answer(head=method == "HEAD")

    async def answer(self, *, head: bool = False) -> Answer:
        status, headers = await self.head()
        if head or status in (204, 304) or status < 200:
            return Answer(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while chunk := await self.chunk():
                body += chunk
            return Answer(status, headers, body)
        return Answer(status, headers, await self.reader.readexactly(int(headers["content-length"])))

    async def head(self) -> tuple[int, dict[str, str]]:
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *rest = text.strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in rest)
        return int(first.split(" ")[1]), {name.lower(): value for name, value in headers.items()}

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def ended(self) -> bytes:
        """What still comes until the server closes; fails if it does not."""
        async with asyncio.timeout(60):
            try:
                return await self.reader.read()
            except (ConnectionError, ssl.SSLError):
                return b""

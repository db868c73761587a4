"""Clients of commands and ports as a provider sees them: what they send and have been sent, and their terminals' sizes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from virtual_kubelet import AttachIO, TerminalSize

#: Seconds: for a machine under load.
PATIENCE = 90


class Client:
    """What a client sends, in pieces, and what it has been sent."""

    def __init__(self, *pieces: bytes, stays: bool = False) -> None:
        self._rest = memoryview(b"".join(pieces))
        self._stays = stays
        self._more: asyncio.Queue[bytes] = asyncio.Queue()
        self.data = bytearray()
        self.written = asyncio.Event()

    def send(self, data: bytes) -> None:
        """Nothing: the client sends no more."""
        self._more.put_nowait(data)

    async def read(self, size: int = 65536) -> bytes:
        if self._rest:
            first, self._rest = bytes(self._rest[:size]), self._rest[size:]
            return first
        return await self._more.get() if self._stays else b""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self.data += data
        self.written.set()

    async def until(self, text: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            while text not in self.data:
                self.written.clear()
                await self.written.wait()


class Gone(Client):
    """Takes nothing more."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        raise BrokenPipeError


class Sizes:
    def __init__(self) -> None:
        self.queue: asyncio.Queue[TerminalSize] = asyncio.Queue()

    def __aiter__(self) -> AsyncIterator[TerminalSize]:
        return self

    async def __anext__(self) -> TerminalSize:
        return await self.queue.get()


def streams(
    stdin: Client | None = None, out: Client | None = None, err: Client | None = None, *, sizes: Sizes | None = None
) -> AttachIO:
    return AttachIO(stdin, out, err, sizes is not None, sizes or Sizes())

"""Bytes on their way from a connection to somebody who reads them at their own pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from virtual_kubelet.streaming.buffers import Buffer

__all__ = ["ByteQueue"]


class ByteQueue:
    """Whoever feeds it is told how much was read, and stops feeding while that is too little."""

    def __init__(self, taken: Callable[[int], None]) -> None:
        """``taken`` is called with the number of bytes that were read, or dropped."""
        self._taken = taken
        self._held = bytearray()
        self._ended = False
        self._more = asyncio.Event()

    def feed(self, data: Buffer) -> None:
        """More bytes; dropped if nobody reads any more."""
        if self._ended:
            self._taken(len(data))
            return
        self._held += data  # one piece, however small the frames were
        self._more.set()

    def end(self) -> None:
        """No more bytes come."""
        self._ended = True
        self._more.set()

    def drop(self) -> None:
        """Nobody reads any more."""
        held = len(self._held)
        self._held.clear()
        self.end()
        if held:
            self._taken(held)

    async def read(self, size: int = 65536) -> bytes:
        """At most ``size`` bytes, as soon as there are any; none at the end. For one reader."""
        if size <= 0:
            raise ValueError("read at least one byte")
        while not self._held:
            if self._ended:
                return b""
            self._more.clear()
            await self._more.wait()
        data = bytes(self._held[:size])
        del self._held[:size]
        self._taken(len(data))
        return data

"""Bytes on their way from a connection to somebody who reads them at their own pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from virtual_kubelet.streaming.buffers import Buffer

__all__ = ["ByteQueue"]

#: Pieces smaller than this are put together: thousands of tiny frames must not cost more than their bytes.
_SMALL: Final = 4096


class ByteQueue:
    """Whoever feeds it is told how much was read, and stops feeding while that is too little."""

    def __init__(self, taken: Callable[[int], None]) -> None:
        """``taken`` is called with the number of bytes that were read, or dropped."""
        self._taken = taken
        self._pieces: deque[bytes | bytearray] = deque()
        self._read = 0  # of the first piece
        self._ended = False
        self._more = asyncio.Event()

    @property
    def held(self) -> int:
        """Bytes that nobody has read."""
        return sum(map(len, self._pieces)) - self._read

    def feed(self, data: Buffer) -> None:
        """More bytes, which must not change afterwards; dropped if nobody reads any more."""
        if self._ended:
            self._taken(len(data))
            return
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, bytearray) and len(last) < _SMALL:
            last += data
        else:
            # A copy of a view: what was received may be much larger than this part of it.
            small = len(data) < _SMALL
            self._pieces.append(bytearray(data) if small else bytes(data) if isinstance(data, memoryview) else data)
        self._more.set()

    def end(self) -> None:
        """No more bytes come."""
        self._ended = True
        self._more.set()

    def drop(self) -> None:
        """Nobody reads any more."""
        held = self.held
        self._pieces.clear()
        self._read = 0
        self.end()
        if held:
            self._taken(held)

    async def read(self, size: int = 65536) -> bytes:
        """At most ``size`` bytes, as soon as there are any; none at the end. For one reader."""
        if size <= 0:
            raise ValueError("read at least one byte")
        while not self._pieces:
            if self._ended:
                return b""
            self._more.clear()
            await self._more.wait()
        found: list[bytes | bytearray] = []
        left = size
        while left and self._pieces:  # as much as is there: each piece alone would cost its reader as much again
            piece = self._pieces[0]
            data = piece[self._read : self._read + left] if self._read or len(piece) > left else piece
            left -= len(data)
            self._read += len(data)
            if self._read == len(piece):
                self._pieces.popleft()
                self._read = 0
            found.append(data)
        self._taken(size - left)
        return bytes(found[0]) if len(found) == 1 else b"".join(found)

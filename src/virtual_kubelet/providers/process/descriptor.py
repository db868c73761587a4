"""One end of a pipe or terminal in the event loop: reads and writes that wait, and hold up whoever is too fast."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sys
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Final

__all__ = ["PIECE", "Descriptor", "widen"]

#: Bytes that are read, or given to be read, at a time.
PIECE: Final = 256 * 1024
#: Of what a pipe holds, where the system allows as much: its ends wait, and wake each other, less often.
_PIPE: Final = 1024 * 1024
#: After so many reads or writes that did not have to wait, everybody else has a turn.
_TURNS: Final = 8


def widen(pipe: int, size: int = _PIPE) -> None:
    """Have a pipe hold as much, or what this user may have."""
    with suppress(PermissionError, OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)


class Descriptor:
    """Owns ``number``, which becomes non-blocking. One reader and one writer at a time."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._open = True
        self._left: int | None = None  # bytes that may still be read
        self._waiting: set[asyncio.Future[None]] = set()
        self._turns = 0
        os.set_blocking(number, False)

    @property
    def is_open(self) -> bool:
        return self._open

    async def read(self, size: int = PIECE) -> bytes:
        """At most ``size`` bytes as soon as there are any; none at the end."""
        loop = asyncio.get_running_loop()
        await self._turn()
        while self._open and self._left != 0:
            try:
                data = os.read(self.number, size if self._left is None else min(size, self._left))
            except BlockingIOError:
                if self._left is not None:
                    return b""
                await self._ready(loop.add_reader, loop.remove_reader)
                continue
            except OSError as error:
                if error.errno == errno.EIO:  # a terminal that nobody has open any more
                    return b""
                raise
            if self._left is not None:
                self._left -= len(data)
            return data
        return b""

    async def write(self, data: bytes) -> None:
        """All of it. Raises ``BrokenPipeError`` when nobody reads."""
        loop = asyncio.get_running_loop()
        await self._turn()
        rest = memoryview(data)
        while rest:
            if not self._open:
                raise BrokenPipeError(errno.EPIPE, "it is closed")
            try:
                rest = rest[os.write(self.number, rest) :]
            except BlockingIOError:
                await self._ready(loop.add_writer, loop.remove_writer)
            except OSError as error:
                if error.errno == errno.EIO:
                    raise BrokenPipeError(errno.EPIPE, "nobody has the terminal open any more") from None
                raise

    def finish(self) -> None:
        """What is there now may still be read, and then it is at its end, whoever has the other end open."""
        if self._open:
            counted = fcntl.ioctl(self.number, termios.FIONREAD, b"\0" * 4)
            self._left = int.from_bytes(counted, sys.byteorder)
            self._wake()

    def close(self) -> None:
        """Whoever reads is at the end, whoever writes has a broken pipe."""
        if self._open:
            self._open = False
            loop = asyncio.get_running_loop()
            loop.remove_reader(self.number)
            loop.remove_writer(self.number)
            os.close(self.number)
            self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            _settle(waiting)

    async def _turn(self) -> None:
        self._turns += 1
        if self._turns > _TURNS:
            self._turns = 0
            await asyncio.sleep(0)

    async def _ready(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(ready)
        add(self.number, _settle, ready)
        try:
            await ready
            self._turns = 0
        finally:
            self._waiting.discard(ready)
            if self._open:
                remove(self.number)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

"""Reads a provider's log lines in a task of their own, a bounded amount ahead of whoever sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from virtual_kubelet.contracts.logs import LogLine
from virtual_kubelet.server.log_options import held_bytes
from virtual_kubelet.server.streaming_body import close_iterator

__all__ = ["LineReader"]


class LineReader:
    """The lines of one source, by the batch.

    One task makes every step of the source and closes it, so a source may hold time-outs, task groups and context
    variables across its yields. ``aclose`` must be called, also when reading failed.
    """

    def __init__(
        self, lines: AsyncIterator[LogLine], *, ahead_bytes: int = 128 * 1024, close_timeout: float = 5.0
    ) -> None:
        """
        Args:
            lines: the source.
            ahead_bytes: how much is read ahead of the consumer, as ``held_bytes`` counts; then the source waits.
            close_timeout: seconds that the source has for its clean-up.
        """
        self._lines: AsyncIterator[Any] = lines  # of a provider: what it yields is looked at
        self._ahead_bytes = ahead_bytes
        self._close_timeout = close_timeout
        self._buffer: list[LogLine] = []
        self._size = 0
        self._ended = False
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    async def batch(self, timeout: float | None = None) -> list[LogLine] | None:
        """All lines that are there, at least one; empty at the end of the log; None if there is none yet.

        Args:
            timeout: how long to wait for a line, seconds; None: for ever. No line is lost by it.

        Raises what the source raised, after its lines.
        """
        if not self._filled.is_set():
            try:
                async with asyncio.timeout(timeout):
                    await self._filled.wait()
            except TimeoutError:
                return None
        batch, self._buffer = self._buffer, []
        self._size = 0
        self._taken.set()
        if not self._ended:
            self._filled.clear()
        elif not batch:
            await self._task
        return batch

    async def aclose(self) -> None:
        """Stop reading; returns when the source has been closed."""
        self._task.cancel()
        await asyncio.wait({self._task})
        if not self._task.cancelled():
            self._task.exception()  # told to the consumer if it still listened

    async def _read(self) -> None:
        try:
            try:
                filled = self._filled
                async for line in self._lines:
                    if not isinstance(line, LogLine) or not isinstance(line.data, bytes):
                        raise TypeError(f"the provider gave a {type(line).__name__} for a LogLine of bytes")
                    self._buffer.append(line)
                    self._size += held_bytes(line)
                    if not filled.is_set():
                        filled.set()
                    if self._size > self._ahead_bytes:
                        self._taken.clear()
                        await self._taken.wait()
            finally:
                await close_iterator(self._lines, self._close_timeout)
        finally:
            self._ended = True
            self._filled.set()

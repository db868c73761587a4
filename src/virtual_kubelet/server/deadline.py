"""A deadline that may be moved often and cheaply: the timer behind it is touched only when it must ring earlier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["Deadline"]


class Deadline:
    """Calls ``expired`` once the time of the last ``set`` has come."""

    __slots__ = ("_due", "_expired", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, expired: Callable[[], None]) -> None:
        self._loop = loop
        self._expired = expired
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Expire in ``seconds``, whatever was set before."""
        self._due = due = self._loop.time() + seconds
        if self._timer is None or self._timer.when() > due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(due, self._ring)

    def clear(self) -> None:
        """No deadline for now."""
        self._due = None

    def close(self) -> None:
        """No deadline ever again; whom it would have called is let go."""
        self._due = None
        self._expired = _nobody
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self._timer = None
        if self._due is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._ring)
        else:
            self._due = None
            self._expired()


def _nobody() -> None: ...

"""A clock that moves when it is told to: for code that asks ``ProviderContext.clock`` what time it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = ["FakeClock"]

_START: Final = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """Wall and monotonic time, both still until ``advance``.

    It is for code that reads time. What sleeps in asyncio sleeps in the event loop's time: for that, make the loop's time
    virtual (the package looptime), and leave the clock to be ``SystemClock``.

    Args:
        start: the wall time it begins with, timezone-aware.
        monotonic: the monotonic time it begins with, in seconds.
    """

    def __init__(self, start: datetime = _START, *, monotonic: float = 1000.0) -> None:
        if start.tzinfo is None:
            raise ValueError("the time that a clock begins with has a time zone")
        self._wall = start.astimezone(UTC)
        self._monotonic = monotonic

    def now(self) -> datetime:
        """Wall time, in UTC."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds that never run backward."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Time goes by. Raises ``ValueError`` if it would go backward."""
        if seconds < 0:
            raise ValueError("time does not go backward; see jump")
        self._monotonic += seconds
        self._wall += timedelta(seconds=seconds)

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock, forward or back; monotonic time does not notice."""
        self._wall += timedelta(seconds=seconds)

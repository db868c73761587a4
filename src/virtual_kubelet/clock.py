"""Time as an argument: wall time for what is written down, monotonic time for what is waited for.

Back-off, leases and grace periods count on the event loop's monotonic clock, so that a wall clock that jumps neither
expires nor revives anything; only timestamps that others read come from the wall clock.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What code that cares about time is given."""

    def now(self) -> datetime:
        """Wall time, timezone-aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backward; comparable with ``asyncio``'s loop time."""
        ...


class SystemClock:
    """The machine's clocks; ``monotonic`` is the running loop's time, which tests can make virtual."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return time.monotonic()

"""Back-off with jitter to a cap, reset after a healthy time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Delays for one thing that is tried again.

    Args:
        initial, factor, cap: the first delay, its growth and its limit, in seconds.
        jitter: each delay is longer by up to this share of itself, so that many do not come at once.
        reset_after: begin with ``initial`` again when the last failure is so many seconds ago.
    """

    def __init__(
        self,
        *,
        initial: float,
        factor: float = 2.0,
        cap: float,
        jitter: float = 1.0,
        reset_after: float = 120.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._initial, self._factor, self._cap, self._jitter = initial, factor, cap, jitter
        self._reset_after = reset_after
        self._monotonic = monotonic
        self._next = initial
        self._last_failure = float("-inf")

    def next(self) -> float:
        """The delay after one more failure."""
        now = self._monotonic()
        if now - self._last_failure > self._reset_after:
            self._next = self._initial
        self._last_failure = now
        delay = min(self._cap, self._next * (1 + random.random() * self._jitter))
        self._next = min(self._cap, self._next * self._factor)
        return delay

    def healthy(self) -> None:
        """It works again: the next failure begins with ``initial``."""
        self._next = self._initial

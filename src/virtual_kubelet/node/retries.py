"""How long to wait after the n-th failure. Pure but for chance."""

from __future__ import annotations

import random

__all__ = ["retry_delay"]


def retry_delay(attempt: int, initial: float, cap: float) -> float:
    """Doubling from ``initial`` to ``cap`` seconds, and up to half as much again by chance. ``attempt`` is 1 at first."""
    delay = min(cap, initial * 2.0 ** min(attempt - 1, 60))
    return delay * (1 + random.random() / 2)

"""A token bucket for requests, as client-go's: ``qps`` tokens a second, at most ``burst`` saved up."""

from __future__ import annotations

import asyncio

__all__ = ["RequestBudget"]


class RequestBudget:
    """Fair: waiters are served in order. ``qps`` 0 means no limit."""

    def __init__(self, qps: float, burst: int = 0) -> None:
        self.limited = qps > 0
        self._qps = qps
        self._burst = max(1, burst)
        self._next = float("-inf")  # when the next token is due, if none is saved up

    async def take(self) -> None:
        """Wait for a token."""
        if not self.limited:
            return
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now - (self._burst - 1) / self._qps)
        due = self._next
        self._next += 1 / self._qps
        if due > now:
            await asyncio.sleep(due - now)

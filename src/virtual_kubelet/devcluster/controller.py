"""A loop of the control plane: changes name what to look at, one task looks at it. Level-triggered."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

__all__ = ["Controller"]

K = TypeVar("K", bound=Hashable)

#: Reconciled in a row before others get the loop.
_BATCH: Final = 50


class Controller(Generic[K]):
    """Reconciles keys, each once however often it was named meanwhile.

    Subclasses listen to collections and call ``enqueue`` (which never writes); ``reconcile`` may write. What it raises
    ends ``run``.
    """

    def __init__(self) -> None:
        self._pending: dict[K, None] = {}
        self._wake = asyncio.Event()
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def enqueue(self, key: K) -> None:
        """Look at ``key`` soon."""
        self._pending[key] = None
        self._wake.set()

    def enqueue_after(self, key: K, seconds: float) -> None:
        """Look at ``key`` in so many seconds, instead of when that was last asked for."""
        self.forget(key)
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._due, key)

    def forget(self, key: K) -> None:
        """Not later, after all."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.enqueue(key)

    def reconcile(self, key: K) -> None:
        """Make what follows from ``key`` true. Synchronous: one transaction."""
        raise NotImplementedError

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                keys, self._pending = list(self._pending), {}
                for count, key in enumerate(keys, 1):
                    self.reconcile(key)
                    if count % _BATCH == 0:
                        await asyncio.sleep(0)
        finally:
            for timer in self._timers.values():
                timer.cancel()

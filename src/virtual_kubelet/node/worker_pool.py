"""Works off a queue, so many items at once; work that hangs gives its place to other items, up to a bound.

A provider's call may hang for as long as its time-out allows. Without this, as many such calls as there are workers would
hold up every other pod.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["WorkerPool"]

T = TypeVar("T")


class WorkerPool(Generic[T]):
    """``put`` items; ``run`` works on them until cancelled, or until ``work`` raises.

    Args:
        work: is given one item; called for several at once.
        workers: items worked on at once, those that have given up their place not counted.
        slow_after: seconds after which an item gives its place to the next; it is worked on all the same.
        most_slow: items at most that have given up their place; when so many have, the next ones keep theirs.
        on_slow: told of an item that gives up its place.
    """

    def __init__(
        self,
        work: Callable[[T], Awaitable[None]],
        *,
        workers: int,
        slow_after: float,
        most_slow: int,
        on_slow: Callable[[T], None],
    ) -> None:
        self._work = work
        self._workers = workers
        self._slow_after = slow_after
        self._most_slow = most_slow
        self._on_slow = on_slow
        self._queue: asyncio.Queue[T] = asyncio.Queue()
        self._slow = 0
        self._tasks: asyncio.TaskGroup | None = None

    def put(self, item: T) -> None:
        """It is worked on as soon as there is a place."""
        self._queue.put_nowait(item)

    def waiting(self) -> int:
        """Items that nobody works on yet."""
        return self._queue.qsize()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                for number in range(self._workers):
                    tasks.create_task(self._worker(), name=f"pod worker {number}")
                await asyncio.get_running_loop().create_future()
            finally:
                self._tasks = None  # it takes no more tasks

    async def _worker(self) -> None:
        while True:
            item = await self._queue.get()
            place = _Place()
            self._watch(item, place)
            try:
                await self._work(item)
            finally:
                assert place.timer is not None
                place.timer.cancel()
                if place.given:
                    self._slow -= 1
            if place.given:
                return  # another worker is in its place

    def _watch(self, item: T, place: _Place) -> None:
        place.timer = asyncio.get_running_loop().call_later(self._slow_after, self._took_long, item, place)

    def _took_long(self, item: T, place: _Place) -> None:
        if self._tasks is None:
            return
        if self._slow >= self._most_slow:
            self._watch(item, place)  # one of the others may have come to an end by then
            return
        self._slow += 1
        place.given = True
        self._on_slow(item)
        self._tasks.create_task(self._worker(), name="pod worker")


class _Place:
    """Of one item. ``given``: to another worker."""

    def __init__(self) -> None:
        self.given = False
        self.timer: asyncio.TimerHandle | None = None

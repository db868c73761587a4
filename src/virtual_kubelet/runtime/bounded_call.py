"""A call of somebody else's code that ends for its caller in bounded time, whatever that code does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["LeftBehind", "bounded_call"]

log = get_logger(__name__)

T = TypeVar("T")

#: Seconds that a cancelled call has to end.
_SETTLE: Final = 2.0


class LeftBehind:
    """Calls that went on after they were cancelled. Their owner: it knows them until they end, and says how they did."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, task: asyncio.Task[Any]) -> None:
        log.error("a call goes on though its time is over and it was cancelled: %s", task.get_name())
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        log.info("a call that went on has ended: %s", task.get_name(), exc_info=error)


async def bounded_call(
    call: Coroutine[Any, Any, T], timeout: float | None, left: LeftBehind, *, name: str, settle: float = _SETTLE
) -> T:
    """What ``call`` gives. Raises what it raises, or ``TimeoutError``.

    Cancelled, or after ``timeout`` seconds (None: never), it cancels the call and waits ``settle`` seconds at most for it;
    one that does not end then is left to ``left``.
    """
    task = asyncio.get_running_loop().create_task(call, name=name)
    try:
        await asyncio.wait({task}, timeout=timeout)
        if task.done():
            if task.cancelled():
                raise ConnectionError(f"{name}: the call was given up by what it called")
            return task.result()
        raise TimeoutError
    finally:
        try:
            if not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=settle)
        finally:
            if not task.done():
                left.add(task)
            elif not task.cancelled():
                task.exception()  # it is looked at: a call that was given up may end as it likes

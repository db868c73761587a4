"""Sends a stream of chunks: at once when the next one is not there yet, many in one write when they are ready."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from typing import Any, TypeVar, cast

__all__ = ["close_iterator", "pump"]

T = TypeVar("T")


async def pump(
    body: AsyncIterator[bytes],
    write: Callable[[bytes], None],
    drain: Callable[[], Awaitable[None]],
    batch_bytes: int,
    *,
    close_timeout: float,
) -> None:
    """Write all chunks of ``body``.

    Chunks that ``body`` gives without waiting are joined, up to about ``batch_bytes``; nothing is held back while it
    waits. ``drain`` is awaited between writes, so at most one batch and the transport's buffer are in memory. To see
    whether a chunk is ready, its ``__anext__`` is started by hand and, if it waits, awaited from where it stands, in
    the same task: no second task, no time-out, no reordering.

    Cancelling this cancels the wait inside ``body``. The iterator is not closed here (``close_iterator``), but when
    ``write`` fails while ``body`` waits, that wait is cancelled, and its clean-up has ``close_timeout`` seconds.
    """
    batch: list[bytes] = []
    size = 0
    while True:
        step = body.__anext__().__await__()
        try:
            waits_for = next(step)
        except StopIteration as ready:
            chunk: bytes = ready.value
        except StopAsyncIteration:
            if batch:
                write(b"".join(batch))
                await drain()
            return
        else:
            if batch:
                try:
                    write(b"".join(batch))
                except BaseException:
                    async with asyncio.timeout(close_timeout):
                        await _cut_short(step)
                    raise
                batch.clear()
                size = 0
            try:
                chunk = await _resume(step, waits_for)
            except StopAsyncIteration:
                await drain()
                return
            await drain()
        batch.append(chunk)
        size += len(chunk)
        if size >= batch_bytes:
            write(b"".join(batch))
            batch.clear()
            size = 0
            await drain()
            # A body that is always ready must not keep the loop from everything else.
            await asyncio.sleep(0)


@types.coroutine
def _continue(step: Generator[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """``yield from step``, whose first value has been taken already."""
    while True:
        try:
            sent = yield waits_for
        except GeneratorExit:
            step.close()
            raise
        except BaseException as raised:  # noqa: BLE001 - handed on, as "yield from" does
            try:
                waits_for = step.throw(raised)
            except StopIteration as ended:
                return cast("T", ended.value)
        else:
            try:
                waits_for = step.send(sent)
            except StopIteration as ended:
                return cast("T", ended.value)


async def _resume(step: Generator[Any, Any, T], waits_for: Any) -> T:
    return await _continue(step, waits_for)


async def _cut_short(step: Generator[Any, Any, object]) -> None:
    """End a step that waits: otherwise its iterator would count as running, and could not be closed.

    Its wait is cancelled, as if this task had been, and its clean-up awaited. What comes of it is nobody's.
    """
    try:
        waits_for = step.throw(asyncio.CancelledError())
    except (StopIteration, StopAsyncIteration, asyncio.CancelledError):
        return
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        await _resume(step, waits_for)
    except StopAsyncIteration:
        return
    except asyncio.CancelledError:
        if task.cancelling() > before:  # not ours
            raise


async def close_iterator(body: object, timeout: float) -> None:
    """``aclose`` of an async generator (or anything that has it); ``TimeoutError`` when its clean-up hangs."""
    aclose = getattr(body, "aclose", None)
    if aclose is not None:
        async with asyncio.timeout(timeout):
            await aclose()

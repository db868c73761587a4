"""The workers' pool in virtual time: work that hangs does not hold up the rest, and is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from virtual_kubelet.node.worker_pool import WorkerPool

pytestmark = pytest.mark.looptime


class Work:
    """Seconds for each item; what has begun and ended."""

    def __init__(self) -> None:
        self.begun: list[tuple[float, float]] = []
        self.ended: list[float] = []
        self.slow: list[float] = []
        self.under_way = self.most = 0

    async def __call__(self, seconds: float) -> None:
        self.begun.append((asyncio.get_running_loop().time(), seconds))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.under_way -= 1
        self.ended.append(seconds)


@asynccontextmanager
async def running(work: Work, *, workers: int = 2, most_slow: int = 3) -> AsyncIterator[WorkerPool[float]]:
    pool = WorkerPool(work, workers=workers, slow_after=10, most_slow=most_slow, on_slow=work.slow.append)
    task = asyncio.create_task(pool.run())
    try:
        yield pool
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert work.under_way == 0


async def test_so_many_at_once_and_no_more() -> None:
    work = Work()
    async with running(work) as pool:
        for _ in range(6):
            pool.put(5)
        assert pool.waiting() == 6
        await asyncio.sleep(16)
        assert (work.most, work.ended, work.slow) == (2, [5] * 6, [])
        assert pool.waiting() == 0


async def test_work_that_hangs_gives_its_place_to_the_next() -> None:
    work = Work()
    async with running(work) as pool:
        for seconds in (1000, 1001, 1, 1):
            pool.put(seconds)
        await asyncio.sleep(12)
        assert work.ended == [1, 1]
        assert work.slow == [1000, 1001]


async def test_no_more_than_the_bound_do_and_the_next_come_when_one_has_ended() -> None:
    work = Work()
    async with running(work, workers=1, most_slow=2) as pool:
        for seconds in (100, 1000, 1000, 1):
            pool.put(seconds)
        await asyncio.sleep(95)
        assert work.most == 3
        assert work.ended == []
        await asyncio.sleep(20)
        assert work.ended == [100, 1]


async def test_when_slow_work_has_ended_there_are_as_many_workers_as_before() -> None:
    work = Work()
    async with running(work) as pool:
        for _ in range(4):
            pool.put(15)
        await asyncio.sleep(40)
        work.most = 0
        for _ in range(10):
            pool.put(5)
        await asyncio.sleep(26)
        assert (work.most, len(work.ended)) == (2, 14)


async def test_an_error_of_the_work_ends_the_pool() -> None:
    async def fails(item: int) -> None:
        raise RuntimeError("a bug")

    pool = WorkerPool(fails, workers=2, slow_after=10, most_slow=1, on_slow=lambda item: None)
    pool.put(1)
    with pytest.raises(ExceptionGroup) as caught:
        await pool.run()
    assert str(caught.value.exceptions[0]) == "a bug"


async def test_cancelling_while_work_is_slow_leaves_nothing() -> None:
    work = Work()
    async with running(work) as pool:
        for _ in range(5):
            pool.put(1000)
        await asyncio.sleep(25)
        assert work.under_way == 5

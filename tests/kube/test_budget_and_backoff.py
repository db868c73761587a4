"""The request budget and the back-off, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.budget import RequestBudget


@pytest.mark.looptime
async def test_a_burst_goes_at_once_and_the_rest_at_the_rate() -> None:
    budget = RequestBudget(qps=10, burst=3)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    times = []
    for _ in range(6):
        await budget.take()
        times.append(round(loop.time() - begin, 3))
    assert times == [0, 0, 0, 0.1, 0.2, 0.3]


@pytest.mark.looptime
async def test_a_pause_saves_up_no_more_than_the_burst() -> None:
    budget = RequestBudget(qps=10, burst=2)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(budget.take() for _ in range(5)))
    await asyncio.sleep(60)
    begin = loop.time()
    for _ in range(3):
        await budget.take()
    assert round(loop.time() - begin, 3) == 0.1


@pytest.mark.looptime
async def test_waiters_are_served_in_order() -> None:
    budget = RequestBudget(qps=10)
    served: list[int] = []

    async def take(number: int) -> None:
        await budget.take()
        served.append(number)

    await asyncio.gather(*(take(i) for i in range(5)))
    assert served == [0, 1, 2, 3, 4]


@pytest.mark.looptime
async def test_no_rate_is_no_limit() -> None:
    budget = RequestBudget(qps=0)
    begin = asyncio.get_running_loop().time()
    for _ in range(1000):
        await budget.take()
    assert asyncio.get_running_loop().time() == begin
    assert not budget.limited


def test_delays_double_to_the_cap() -> None:
    backoff = Backoff(initial=1, cap=10, jitter=0, monotonic=lambda: 0.0)
    assert [backoff.next() for _ in range(6)] == [1, 2, 4, 8, 10, 10]


def test_jitter_makes_a_delay_longer_but_not_than_the_cap() -> None:
    for _ in range(50):
        backoff = Backoff(initial=1, cap=5, jitter=0.5, monotonic=lambda: 0.0)
        delays = [backoff.next() for _ in range(5)]
        assert all(least <= delay <= least * 1.5 for least, delay in zip([1, 2, 4], delays, strict=False))
        assert delays[3:] == [5, 5]
    assert len({Backoff(initial=1, cap=5).next() for _ in range(10)}) > 1


def test_a_healthy_time_or_a_success_begins_anew() -> None:
    now = [0.0]
    backoff = Backoff(initial=1, cap=10, jitter=0, reset_after=120, monotonic=lambda: now[0])
    assert [backoff.next(), backoff.next()] == [1, 2]
    now[0] = 120
    assert backoff.next() == 4
    now[0] = 241
    assert backoff.next() == 1
    backoff.next()
    backoff.healthy()
    assert backoff.next() == 1

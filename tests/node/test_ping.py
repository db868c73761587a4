"""Pings: one at a time, each with a time-out, each change of the result told at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from virtual_kubelet.node.ping import MESSAGE_LIMIT, Pinger
from virtual_kubelet.node.readiness import PingResult
from virtual_kubelet.telemetry.metrics import Metrics

pytestmark = pytest.mark.looptime

Told = list[tuple[float, PingResult]]


@asynccontextmanager
async def pinging(
    ping: Callable[[], Awaitable[None]], *, interval: float = 10, timeout: float = 10, metrics: Metrics | None = None
) -> AsyncIterator[Told]:
    told: Told = []

    def note(result: PingResult) -> None:
        told.append((round(asyncio.get_running_loop().time(), 3), result))

    pinger = Pinger(ping, on_change=note, interval=interval, timeout=timeout, metrics=metrics)
    task = asyncio.create_task(pinger.run())
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()


async def test_the_first_ping_is_at_once_and_the_next_after_the_interval() -> None:
    times: list[float] = []

    async def ping() -> None:
        times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(2)

    async with pinging(ping) as told:
        await asyncio.sleep(25)
    assert [round(t) for t in times] == [0, 12, 24]
    assert told == [(2, PingResult(True))]


async def test_node_ping_single_in_flight() -> None:
    """TestNodePingSingleInflight: one that hangs and cannot be cancelled is not called twice; its time-out is told."""
    calls = 0
    release = asyncio.Event()

    async def ping() -> None:
        nonlocal calls
        calls += 1
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with pinging(ping, timeout=3) as told:
        await asyncio.sleep(60)
        assert calls == 1
        assert told == [(3, PingResult(False, "the provider has not answered ping within 3 s"))]
        release.set()
        await asyncio.sleep(14)
        # The late answer counts in the round that finds it.
        assert told[-1][1] == PingResult(True)
        assert len(told) == 2


async def test_a_hanging_ping_is_cancelled_and_tried_again() -> None:
    """A lost connection must not leave the node NotReady for ever (VK #956)."""
    calls = 0

    async def ping() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.Event().wait()

    async with pinging(ping, interval=10, timeout=3) as told:
        await asyncio.sleep(20)
    assert calls == 2
    assert [(at, result.ok) for at, result in told] == [(3, False), (13, True)]


async def test_an_error_is_told_as_its_type_and_one_line() -> None:
    async def ping() -> None:
        raise ConnectionError("no route\n  to backend")

    async with pinging(ping) as told:
        await asyncio.sleep(1)
    assert told[0][1] == PingResult(False, "ConnectionError: no route to backend")


async def test_a_message_without_end_is_cut() -> None:
    async def ping() -> None:
        raise ValueError("x" * 100_000)

    async with pinging(ping) as told:
        await asyncio.sleep(1)
    assert len(told[0][1].message) == MESSAGE_LIMIT


async def test_a_ping_that_cancels_itself_has_failed() -> None:
    async def ping() -> None:
        raise asyncio.CancelledError

    async with pinging(ping) as told:
        await asyncio.sleep(1)
    assert not told[0][1].ok


async def test_only_changes_are_told() -> None:
    failing = False

    async def ping() -> None:
        if failing:
            raise OSError("down")

    async with pinging(ping, interval=10) as told:
        await asyncio.sleep(34)
        failing = True
        await asyncio.sleep(30)
        failing = False
        await asyncio.sleep(35)
    assert [(at, result.ok) for at, result in told] == [(0, True), (40, False), (70, True)]


async def test_stopping_does_not_wait_for_a_ping_that_ignores_its_cancellation() -> None:
    release = asyncio.Event()

    async def ping() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with pinging(ping):
        await asyncio.sleep(1)
    assert asyncio.get_running_loop().time() < 5
    release.set()
    await asyncio.sleep(0)


@pytest.mark.parametrize(("interval", "timeout"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, -1.0)])
async def test_periods_that_cannot_work_are_refused(interval: float, timeout: float) -> None:
    async def ping() -> None: ...

    with pytest.raises(ValueError, match="more than 0 s"):
        Pinger(ping, on_change=lambda result: None, interval=interval, timeout=timeout)


async def test_pings_are_counted_by_what_they_came_to() -> None:
    metrics = Metrics()
    answers = iter(["ok", "error", "hang"])

    async def ping() -> None:
        answer = next(answers)
        if answer == "error":
            raise OSError
        if answer == "hang":
            await asyncio.Event().wait()

    async with pinging(ping, interval=1, timeout=2, metrics=metrics):
        await asyncio.sleep(4.5)
    text = metrics.exposition().decode()
    for outcome in ("success", "error", "timeout"):
        assert f'virtual_kubelet_ping_duration_seconds_count{{result="{outcome}"}} 1.0' in text

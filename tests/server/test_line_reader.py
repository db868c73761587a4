"""Reading a provider's lines in a task of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from virtual_kubelet.contracts.logs import LogLine
from virtual_kubelet.server.line_reader import LineReader
from virtual_kubelet.server.log_options import held_bytes


def line(number: int) -> LogLine:
    return LogLine(number, b"%d" % number)


async def test_ready_lines_come_in_one_batch_and_the_end_is_empty() -> None:
    async def source() -> AsyncIterator[LogLine]:
        for number in range(100):
            yield line(number)

    reader = LineReader(source())
    assert await reader.batch() == [line(number) for number in range(100)]
    assert await reader.batch() == []
    assert await reader.batch() == []
    await reader.aclose()


async def test_waiting_in_vain_loses_nothing() -> None:
    go = asyncio.Event()

    async def source() -> AsyncIterator[LogLine]:
        await go.wait()
        yield line(1)

    reader = LineReader(source())
    assert await reader.batch(0.01) is None
    go.set()
    assert await reader.batch(5) == [line(1)]
    await reader.aclose()


async def test_a_source_is_read_only_so_far_ahead() -> None:
    produced = 0

    async def source() -> AsyncIterator[LogLine]:
        nonlocal produced
        while True:
            produced += 1
            yield LogLine(0, b"x" * 99)

    reader = LineReader(source(), ahead_bytes=10 * held_bytes(LogLine(0, b"x" * 99)))
    for _ in range(3):
        batch = await reader.batch()
        assert batch is not None
        assert len(batch) == 11
        await asyncio.sleep(0)
    assert produced <= 4 * 11
    await reader.aclose()


async def test_empty_lines_are_not_read_ahead_for_nothing() -> None:
    async def source() -> AsyncIterator[LogLine]:
        while True:
            yield LogLine(0, b"")

    reader = LineReader(source(), ahead_bytes=10_000)
    batch = await reader.batch()
    assert batch is not None
    assert len(batch) < 100
    await reader.aclose()


async def test_an_error_comes_after_the_lines_before_it() -> None:
    async def source() -> AsyncIterator[LogLine]:
        yield line(1)
        raise RuntimeError("broken")

    reader = LineReader(source())
    assert await reader.batch() == [line(1)]
    with pytest.raises(RuntimeError, match="broken"):
        await reader.batch()
    await reader.aclose()


async def test_closing_closes_the_source_in_the_task_that_read_it() -> None:
    tasks: list[asyncio.Task[object] | None] = []

    async def source() -> AsyncIterator[LogLine]:
        tasks.append(asyncio.current_task())
        try:
            async with asyncio.timeout(60):  # bound to its task
                yield line(1)
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())

    reader = LineReader(source())
    assert await reader.batch() == [line(1)]
    await reader.aclose()
    assert len(tasks) == 2
    assert tasks[0] is tasks[1] is not asyncio.current_task()


async def test_closing_closes_a_source_that_waits_for_its_consumer() -> None:
    closed = False

    async def source() -> AsyncIterator[LogLine]:
        nonlocal closed
        try:
            while True:
                yield LogLine(0, b"x" * 100)
        finally:
            closed = True

    reader = LineReader(source(), ahead_bytes=10)
    await asyncio.sleep(0)
    await reader.aclose()
    assert closed


async def test_a_source_that_does_not_close_is_given_up() -> None:
    class Source:
        def __aiter__(self) -> AsyncIterator[LogLine]:
            return self

        async def __anext__(self) -> LogLine:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            await asyncio.Event().wait()

    reader = LineReader(Source(), close_timeout=0.01)
    with pytest.raises(TimeoutError):
        await reader.batch()
    await reader.aclose()


async def test_an_error_nobody_heard_of_is_not_left_behind() -> None:
    async def source() -> AsyncIterator[LogLine]:
        raise RuntimeError("nobody reads this")
        yield

    reader = LineReader(source())
    await asyncio.sleep(0)
    await reader.aclose()

"""Bytes on their way to a reader with a pace of its own: all of them, in order, each acknowledged once."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtual_kubelet.server.byte_queue import ByteQueue


def run(pieces: list[bytes], sizes: list[int]) -> tuple[list[bytes], list[int]]:
    taken: list[int] = []

    async def read_all() -> list[bytes]:
        queue = ByteQueue(taken.append)
        for piece in pieces:
            queue.feed(memoryview(piece))
        queue.end()
        found: list[bytes] = []
        while data := await queue.read(sizes[len(found) % len(sizes)]):
            found.append(data)
        return found

    return asyncio.run(read_all()), taken


@given(
    st.lists(st.integers(1, 9000).map(lambda size: bytes([size % 251]) * size), max_size=8),
    st.lists(st.integers(1000, 20_000), min_size=1, max_size=3),
)
def test_all_bytes_come_in_order_and_are_acknowledged(pieces: list[bytes], sizes: list[int]) -> None:
    found, taken = run(pieces, sizes)
    assert b"".join(found) == b"".join(pieces)
    assert taken == [len(data) for data in found]
    assert all(0 < len(data) <= max(sizes) for data in found)


async def test_a_reader_waits_for_bytes_and_for_the_end() -> None:
    queue = ByteQueue(lambda size: None)
    reader = asyncio.create_task(queue.read())
    await asyncio.sleep(0)
    assert not reader.done()
    queue.feed(b"x")
    assert await reader == b"x"
    reader = asyncio.create_task(queue.read())
    await asyncio.sleep(0)
    queue.end()
    assert await reader == b""
    assert await queue.read() == b""


async def test_what_nobody_reads_any_more_is_acknowledged_too() -> None:
    taken: list[int] = []
    queue = ByteQueue(taken.append)
    queue.feed(bytes(10))
    queue.feed(bytes(5000))
    assert await queue.read(4) == bytes(4)
    queue.drop()
    queue.feed(bytes(7))
    queue.drop()
    assert taken == [4, 5006, 7]
    assert await queue.read() == b""


async def test_tiny_pieces_cost_no_more_than_their_bytes() -> None:
    queue = ByteQueue(lambda size: None)
    tracemalloc.start()
    try:
        for _ in range(100_000):
            queue.feed(b"x")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 300_000


async def test_nothing_can_be_read_in_no_bytes() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        await ByteQueue(lambda size: None).read(0)

"""Sending a stream of chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from virtual_kubelet.server.streaming_body import close_iterator, pump


class Gone(Exception):
    pass


class Client:
    """Takes so many writes, then it is gone."""

    def __init__(self, writes: int = 1_000_000) -> None:
        self.left = writes
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        if not self.left:
            raise Gone
        self.left -= 1
        self.written.append(data)

    async def drain(self) -> None:
        return


async def test_chunks_that_are_ready_go_out_together_and_nothing_is_held_back_while_the_next_is_awaited() -> None:
    go = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"
        await go.wait()
        yield b"c"

    client = Client()
    task = asyncio.create_task(pump(body(), client.write, client.drain, 1000, close_timeout=1))
    while not client.written:
        await asyncio.sleep(0)
    assert client.written == [b"ab"]
    go.set()
    await task
    assert client.written == [b"ab", b"c"]


@pytest.mark.parametrize("cleans_up_slowly", [False, True])
async def test_a_client_that_is_gone_while_the_next_chunk_is_awaited_leaves_nothing_running(
    cleans_up_slowly: bool,
) -> None:
    """The write fails before the wait for the chunk has been handed to the loop."""
    closed = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal closed
        try:
            yield b"a"
            await asyncio.Event().wait()
            yield b"never"
        finally:
            if cleans_up_slowly:
                await asyncio.sleep(0.01)
            closed = True

    client, stream = Client(0), body()
    with pytest.raises(Gone):
        await pump(stream, client.write, client.drain, 1000, close_timeout=1)
    await close_iterator(stream, 1)
    assert closed
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_clean_up_that_hangs_is_given_up() -> None:
    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"a"
            await asyncio.Event().wait()
            yield b"never"
        finally:
            await asyncio.Event().wait()

    client = Client(0)
    with pytest.raises(TimeoutError):
        await pump(body(), client.write, client.drain, 1000, close_timeout=0.01)


async def test_a_body_that_ends_although_it_is_cut_short_is_closed() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return
        yield b"never"

    client, stream = Client(0), body()
    with pytest.raises(Gone):
        await pump(stream, client.write, client.drain, 1000, close_timeout=1)
    await close_iterator(stream, 1)


async def test_cancelling_cancels_the_wait_inside_the_body() -> None:
    waiting = asyncio.Event()
    ended: list[BaseException] = []

    async def body() -> AsyncIterator[bytes]:
        try:
            waiting.set()
            await asyncio.Event().wait()
            yield b"never"
        except BaseException as error:
            ended.append(error)
            raise

    client = Client()
    task = asyncio.create_task(pump(body(), client.write, client.drain, 1000, close_timeout=1))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(ended[0], asyncio.CancelledError)


async def test_an_error_of_the_body_comes_out_after_its_chunks() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0)
        raise Gone

    client = Client()
    with pytest.raises(Gone):
        await pump(body(), client.write, client.drain, 1000, close_timeout=1)
    assert client.written == [b"a"]

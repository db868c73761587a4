"""A port's socket and its client: bytes both ways, ends, and breaks. Real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.stream_clients import PATIENCE, Client, Gone
from virtual_kubelet import PortStream, forward_socket


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The runtime's end of a TCP connection, and the port's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    with ours, theirs:
        theirs.setblocking(False)
        yield ours, theirs


@asynccontextmanager
async def forwarding(connection: socket.socket, client: PortStream) -> AsyncIterator[asyncio.Task[None]]:
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        yield tasks.create_task(forward_socket(connection, client))


async def received(port: socket.socket) -> bytes:
    """All that the port is sent, to its end."""
    loop, got = asyncio.get_running_loop(), bytearray()
    while data := await loop.sock_recv(port, 65536):
        got += data
    return bytes(got)


async def test_the_port_may_answer_after_the_clients_end(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, port = ends
    sent = bytes(range(256)) * 8192
    client = Client(sent)
    async with forwarding(ours, client) as task:
        assert await received(port) == sent
        await asyncio.get_running_loop().sock_sendall(port, sent[::-1])
        assert not task.done()
        port.close()
        await task
    assert bytes(client.data) == sent[::-1]
    assert ours.fileno() == -1


async def test_it_ends_with_the_port_though_the_client_would_send_more(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    ours, port = ends
    client = Client(stays=True)
    async with forwarding(ours, client):
        await asyncio.get_running_loop().sock_sendall(port, b"last words")
        port.close()
    assert bytes(client.data) == b"last words"


async def test_a_connection_that_breaks_is_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, port = ends
    port.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    port.close()  # with a reset
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionResetError):
            await forward_socket(ours, Client(stays=True))
    assert ours.fileno() == -1


async def test_a_client_that_takes_no_more_ends_it(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, port = ends
    await asyncio.get_running_loop().sock_sendall(port, b"x")
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(BrokenPipeError):
            await forward_socket(ours, Gone(stays=True))
        assert await received(port) == b""


class Slow(Client):
    """Takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__(stays=True)
        self.go = asyncio.Event()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        await self.go.wait()
        await super().write(data)


async def test_a_port_is_not_read_faster_than_the_client_takes_it(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, port = ends
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client, size, sent = Slow(), 64 * 1024 * 1024, 0
    async with forwarding(ours, client):
        still = 0
        while still < 5:  # full, and nobody makes room
            try:
                sent += port.send(b"x" * 65536)
                still = 0
            except BlockingIOError:
                still += 1
                await asyncio.sleep(0.02)
            assert sent < size, "all of it was taken"
        client.go.set()
        port.close()
    assert len(client.data) == sent


async def test_cancelled_it_closes_the_connection(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, port = ends
    await asyncio.get_running_loop().sock_sendall(port, b"begun")
    client = Client(stays=True)
    task = asyncio.create_task(forward_socket(ours, client))
    await client.until(b"begun")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(PATIENCE):
        assert await received(port) == b""

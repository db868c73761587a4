"""A socket that a runtime has connected to a pod's port, joined to the client at the other end of a ``PortStream``."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from virtual_kubelet.contracts.streams import PortStream

__all__ = ["forward_socket"]

#: Bytes that are read at a time.
_PIECE: Final = 256 * 1024
#: After so many of them that were there already, everybody else has a turn.
_TURNS: Final = 8


async def forward_socket(connection: socket.socket, stream: PortStream) -> None:
    """Pass bytes both ways, for ``PortForwarder.port_forward`` and ``PodPorts.forward_port``.

    Returns when the port has closed the connection; when the client sends nothing more the port is told, and may still
    answer. Neither side is read faster than the other one takes it.

    Args:
        connection: a TCP connection that is made. It is closed at the end, however that comes.

    Raises:
        ConnectionError: it broke, or the client takes no more.
    """
    broken: ConnectionError | None = None
    try:
        connection.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            sending = tasks.create_task(_send(stream, connection), name="to the port")
            try:
                await _receive(connection, stream)
            except ConnectionError as error:
                broken = error
            sending.cancel()
    finally:
        connection.close()
    if broken is not None:
        raise broken


async def _receive(connection: socket.socket, stream: PortStream) -> None:
    loop = asyncio.get_running_loop()
    pieces = 0
    while data := await loop.sock_recv(connection, _PIECE):
        await stream.write(data)
        pieces += 1
        if pieces % _TURNS == 0:
            await asyncio.sleep(0)


async def _send(stream: PortStream, connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while data := await stream.read(_PIECE):
        try:
            await loop.sock_sendall(connection, data)
        except ConnectionError:  # it reads no more, but may still answer
            return
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:  # it has closed meanwhile
        return

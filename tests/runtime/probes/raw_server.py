"""A TCP server that says what a test wants, whatever it is asked."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from virtual_kubelet.objects.core_v1 import Container, ContainerPort, Pod, PodSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.probes.target import ContainerTarget, ExecCommand

#: Takes the connection after a request has come; it is closed when this returns.
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    def __init__(self, behaviour: Behaviour, *, wait_for_request: bool) -> None:
        self.behaviour = behaviour
        self.wait_for_request = wait_for_request
        self.requests: list[str] = []
        self.closed = asyncio.Event()  # some connection has ended
        self.port = 0
        self._connections: set[asyncio.StreamWriter] = set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            if self.wait_for_request:
                self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            await self.behaviour(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the prober has gone
        finally:
            writer.close()
            self._connections.discard(writer)
            self.closed.set()


@asynccontextmanager
async def raw_server(
    behaviour: Behaviour, *, tls: ssl.SSLContext | None = None, wait_for_request: bool = True, host: str = "127.0.0.1"
) -> AsyncIterator[RawServer]:
    raw = RawServer(behaviour, wait_for_request=wait_for_request)
    server = await asyncio.start_server(raw._serve, host, 0, ssl=tls)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
        for connection in list(raw._connections):
            connection.transport.abort()


def says(*pieces: bytes) -> Behaviour:
    """Send it and close."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
        await writer.drain()

    return behave


def says_and_hangs(*pieces: bytes) -> Behaviour:
    """Send it, then nothing more until the prober goes."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await says(*pieces)(reader, writer)
        await reader.read()

    return behave


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def target(
    *, ports: dict[str, int] | None = None, exec: ExecCommand | None = None, ip: str = "127.0.0.1"
) -> ContainerTarget:
    container = Container(
        name="main", ports=[ContainerPort(name=name, container_port=port) for name, port in (ports or {}).items()]
    )
    pod = Pod(metadata=ObjectMeta(name="p", namespace="n", uid="u"), spec=PodSpec(containers=[container]))
    return ContainerTarget(pod, container, "c1", ip, exec)

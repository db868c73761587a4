"""A network between a client and an API server that can be cut, frozen and closed: TCP, so that TLS is the server's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Network:
    """Forwards connections to a server, until it does not."""

    def __init__(self, server: str) -> None:
        parts = urlsplit(server)
        self._target = (parts.hostname or "", parts.port or 443)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._frozen: set[asyncio.Task[None]] = set()
        self.closed = False
        #: Connections made through it.
        self.connections = 0
        self.url = ""

    def cut(self) -> None:
        """Reset all connections."""
        for writer in list(self._writers):
            writer.transport.abort()

    def freeze(self) -> None:
        """Half-open: the connections there are carry nothing any more and stay open; new ones are good."""
        for task in list(self._tasks):
            self._frozen.add(task)
            task.cancel()

    def close(self) -> None:
        """The server is away: connections are reset, new ones too."""
        self.closed = True
        self.cut()

    def open(self) -> None:
        self.closed = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed:
            writer.transport.abort()
            return
        self.connections += 1
        upstream_reader, upstream = await asyncio.open_connection(*self._target)
        self._writers |= {writer, upstream}
        pumps = {
            asyncio.create_task(self._pump(reader, upstream)),
            asyncio.create_task(self._pump(upstream_reader, writer)),
        }
        self._tasks |= pumps
        done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        if not done & self._frozen:
            for end in (writer, upstream):
                end.close()
            for pump in pumps:
                pump.cancel()
        await asyncio.wait(pumps)
        self._tasks -= pumps

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            return


@asynccontextmanager
async def network_before(kubeconfig: str) -> AsyncIterator[tuple[Network, str]]:
    """A network in front of a kubeconfig's server, and the kubeconfig that goes through it."""
    content = json.loads(kubeconfig)
    cluster = content["clusters"][0]["cluster"]
    network = Network(cluster["server"])
    async with await asyncio.start_server(network.serve, "127.0.0.1", 0) as listening:
        network.url = cluster["server"] = f"https://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield network, json.dumps(content)
        network.close()
        async with asyncio.timeout(60):
            while network._tasks:
                await asyncio.sleep(0.01)

"""The API server's side of streams, over real connections: upgrades a request, and says and hears what it is told."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from tests.server.raw_http_client import RawClient
from virtual_kubelet.streaming.remote_command.session import RemoteCommandOptions
from virtual_kubelet.streaming.remote_command.spdy_client import CommandEnded, OutputData, SpdyRemoteCommandClient
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.events import DataReceived, GoAwayReceived, StreamEnded, StreamReset
from virtual_kubelet.streaming.websocket.channels import (
    ChannelConnection,
    ChannelData,
    ChannelProtocol,
    ChannelsEnded,
)
from virtual_kubelet.streaming.websocket.handshake import accept_key, request_headers
from virtual_kubelet.streaming.websocket.tunnel import TunnelledSpdyConnection

KEY = base64.b64encode(bytes(16)).decode()
Address = tuple[str, int]


def query(options: RemoteCommandOptions, command: Sequence[str] = ()) -> str:
    names = {"input": options.stdin, "output": options.stdout, "error": options.stderr, "tty": options.tty}
    return urlencode([("command", part) for part in command] + [(name, "1") for name, on in names.items() if on])


async def upgraded(client: RawClient, path: str, *, websocket: str = "", spdy: Sequence[str] = ()) -> dict[str, str]:
    """Ask for an upgrade; the headers of the 101."""
    if websocket:
        headers = [f"{name}: {value}" for name, value in request_headers(KEY, [websocket])]
    else:
        headers = ["Connection: Upgrade", "Upgrade: SPDY/3.1"]
        headers += [f"X-Stream-Protocol-Version: {version}" for version in spdy]
    status, found, body = await client.ask("GET" if websocket else "POST", path, *headers)
    assert status == 101, body
    if websocket:
        assert found["sec-websocket-accept"] == accept_key(KEY)
        assert found["sec-websocket-protocol"] == websocket
    return found


class Talk:
    """Bytes between a session of ours and a node."""

    def __init__(self, client: RawClient, session: Any) -> None:
        self.client = client
        self.session = session

    def flush(self) -> None:
        self.client.writer.writelines(self.session.data_to_send())

    async def hear(self, done: Callable[[], bool]) -> None:
        """Read until ``done``, or the node closes."""
        async with asyncio.timeout(30):
            while not done():
                data = await self._read()
                for event in self.session.receive_data(data) if data else self.session.receive_eof() or ():
                    self.take(event)
                if not data:
                    return
                self.flush()

    async def _read(self) -> bytes:
        try:
            return await self.client.reader.read(65536)
        except (ConnectionError, ssl.SSLError):
            return b""

    def take(self, event: Any) -> None:
        raise NotImplementedError


class Command(Talk):
    """One exec or attach, over either protocol."""

    def __init__(self, client: RawClient, session: SpdyRemoteCommandClient | ChannelConnection) -> None:
        super().__init__(client, session)
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.error = bytearray()
        self.status: CommandStatus | None = None
        self.ended = False

    @classmethod
    async def spdy(
        cls, client: RawClient, path: str, options: RemoteCommandOptions, command: Sequence[str] = ()
    ) -> Command:
        found = await upgraded(
            client, f"{path}?{query(options, command)}", spdy=["v5.channel.k8s.io", "v4.channel.k8s.io"]
        )
        started = cls(client, SpdyRemoteCommandClient(options, found["x-stream-protocol-version"]))
        started.flush()
        return started

    @classmethod
    async def websocket(
        cls, client: RawClient, path: str, options: RemoteCommandOptions, command: Sequence[str] = ()
    ) -> Command:
        protocol = "v5.channel.k8s.io"
        await upgraded(client, f"{path}?{query(options, command)}", websocket=protocol)
        return cls(client, ChannelConnection(ChannelProtocol.named(protocol), 5, [1, 2, 3], client=True))

    def send(self, data: bytes) -> None:
        if isinstance(self.session, ChannelConnection):
            self.session.send(0, data)
        else:
            self.session.send_stdin(data)
        self.flush()

    def end_stdin(self) -> None:
        if isinstance(self.session, ChannelConnection):
            self.session.close_channel(0)
        else:
            self.session.end_stdin()
        self.flush()

    async def finish(self) -> CommandStatus:
        """Read to the end; how the command ended."""
        await self.hear(lambda: self.ended)
        if self.error:
            self.status = CommandStatus.decode(bytes(self.error), 5)
        assert self.status is not None
        return self.status

    def take(self, event: Any) -> None:
        match event:
            case OutputData(kind, data):
                (self.stdout if kind == "stdout" else self.stderr).extend(data)
                self.session.acknowledge(kind, len(data))
            case ChannelData(channel, data):
                {1: self.stdout, 2: self.stderr, 3: self.error}[channel].extend(data)
                self.session.acknowledge(len(data))
            case CommandEnded(status):
                self.status, self.ended = status, True
            case ChannelsEnded():
                self.ended = True


class Forwarding(Talk):
    """One port-forward with many connections."""

    def __init__(self, client: RawClient, session: SpdyConnection) -> None:
        super().__init__(client, session)
        self.received: dict[int, bytearray] = {}
        self.ends: dict[int, str] = {}
        self.requests = 0
        self.went_away = False

    @classmethod
    async def open(cls, client: RawClient, path: str, *, tunnelled: bool) -> Forwarding:
        if tunnelled:
            await upgraded(client, path, websocket="SPDY/3.1+portforward.k8s.io")
            return cls(client, TunnelledSpdyConnection(client=True))
        await upgraded(client, path, spdy=["portforward.k8s.io"])
        return cls(client, SpdyConnection(client=True))

    def connect(self, port: int) -> tuple[int, int]:
        """Error and data stream of a new connection."""
        common = [("port", str(port)), ("requestid", str(self.requests))]
        self.requests += 1
        error = self.session.open_stream([("streamtype", "error"), *common])
        self.session.end_stream(error)
        data = self.session.open_stream([("streamtype", "data"), *common])
        for stream in (error, data):
            self.received[stream] = bytearray()
        self.flush()
        return error, data

    def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        self.session.send_data(stream, data, fin=fin)
        self.flush()

    def take(self, event: Any) -> None:
        match event:
            case DataReceived(stream, data):
                self.received[stream] += data
                self.session.acknowledge(stream, len(data))
            case StreamEnded(stream):
                self.ends[stream] = "end"
            case StreamReset(stream):
                self.ends[stream] = "reset"
            case GoAwayReceived():
                self.went_away = True

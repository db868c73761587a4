"""WebSockets of clients turned into the SPDY that every node speaks, as the API server's translators do.

Kubernetes source: ``apiserver/pkg/util/proxy`` (streamtranslator.go, streamtunnel.go) of 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from virtual_kubelet.devcluster.node_streams import CHUNK, ByteStream, close_streams, first_of
from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.remote_command.resize import ResizeParser
from virtual_kubelet.streaming.remote_command.session import RemoteCommandOptions
from virtual_kubelet.streaming.remote_command.spdy_client import (
    ClientEvent,
    CommandEnded,
    OutputData,
    SpdyRemoteCommandClient,
)
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.streaming.remote_command.websocket_session import ERROR, RESIZE, STDERR, STDIN, STDOUT
from virtual_kubelet.streaming.websocket.channels import (
    ChannelClosed,
    ChannelConnection,
    ChannelData,
    ChannelEvent,
    ChannelProtocol,
    ChannelsEnded,
)
from virtual_kubelet.streaming.websocket.connection import CloseReceived, Failed, MessagePart, WebSocketConnection

__all__ = ["CommandTranslation", "tunnel"]

_CHANNELS: Final = 5
_OUTPUTS: Final = {"stdout": STDOUT, "stderr": STDERR}


class CommandTranslation:
    """One exec or attach: channels in the client's WebSocket, SPDY streams to the node."""

    def __init__(
        self,
        options: RemoteCommandOptions,
        client_protocol: str,
        node_protocol: str,
        client: ByteStream,
        node: ByteStream,
    ) -> None:
        """``client_protocol``, ``node_protocol``: what was negotiated with each."""
        self._client, self._node = client, node
        self._protocol = ChannelProtocol.named(client_protocol)
        readable = ([STDIN] if options.stdin else []) + ([RESIZE] if options.tty else [])
        self._channels = ChannelConnection(self._protocol, _CHANNELS, readable)
        self._spdy = SpdyRemoteCommandClient(options, node_protocol)
        self._resize = ResizeParser()
        self._over = False

    async def run(self) -> None:
        """Until the command has ended and its status is sent, or either side has gone."""
        await first_of(self._from_client(), self._from_node())
        await close_streams(self._client, self._node)

    async def _from_client(self) -> None:
        await self._flush()
        while data := await self._client.reader.read(CHUNK):
            for event in self._channels.receive_data(data):
                self._to_node(event)
            await self._flush()
            if self._over:
                return

    def _to_node(self, event: ChannelEvent) -> None:
        match event:
            case ChannelData(channel=channel, data=data):
                if channel == STDIN:
                    try:
                        self._spdy.send_stdin(data)
                    except ProtocolError:
                        pass  # the command reads no more: what it did not read is nobody's
                else:
                    for size in self._resize.feed(data):
                        self._spdy.resize(size)
                self._channels.acknowledge(len(data))
            case ChannelClosed(channel=channel):
                if channel == STDIN:
                    self._spdy.end_stdin()
            case ChannelsEnded():
                self._spdy.close()
                self._over = True

    async def _from_node(self) -> None:
        while not self._over:
            data = await self._node.reader.read(CHUNK)
            events: Iterable[ClientEvent] = self._spdy.receive_data(data) if data else self._spdy.receive_eof()
            for event in events:
                self._to_client(event)
            await self._flush()

    def _to_client(self, event: ClientEvent) -> None:
        match event:
            case OutputData(kind=kind, data=data):
                if self._channels.open:
                    self._channels.send(_OUTPUTS[kind], bytes(data))
                self._spdy.acknowledge(kind, len(data))
            case CommandEnded(status=status, error=error):
                self._over = True
                if status is None:
                    status = CommandStatus.failed(str(error) if error is not None else "error sending request: EOF")
                if self._channels.open:
                    self._channels.send(ERROR, status.encode(self._protocol.version))
                    self._channels.close()

    async def _flush(self) -> None:
        self._node.writer.writelines(self._spdy.data_to_send())
        self._client.writer.writelines(self._channels.data_to_send())
        await self._node.writer.drain()
        await self._client.writer.drain()


async def tunnel(client: ByteStream, node: ByteStream) -> None:
    """Port-forward: the client's WebSocket carries the very bytes of the SPDY connection to the node."""
    websocket = WebSocketConnection(client=False)

    async def flush() -> None:
        client.writer.writelines(websocket.data_to_send())
        await client.writer.drain()

    async def from_client() -> None:
        while data := await client.reader.read(CHUNK):
            pieces: list[Buffer] = []
            ended = False
            for event in websocket.receive_data(data):
                match event:
                    case MessagePart(data=part):
                        pieces.append(part)
                    case CloseReceived() | Failed():
                        ended = True
            node.writer.writelines(pieces)
            await node.writer.drain()
            await flush()
            if ended:
                return

    async def from_node() -> None:
        while data := await node.reader.read(CHUNK):
            if not websocket.open:
                return
            websocket.send_message(data)
            await flush()
        websocket.close()
        await flush()

    await first_of(from_client(), from_node())
    await close_streams(client, node)

"""One target for each parser: any bytes, cut by the first few of them, give events or a documented error.

``test_streaming_fuzzing.py`` runs them with hypothesis; ``tools/fuzz.py`` for as long as one likes, on mutated recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from virtual_kubelet.errors import ProtocolError, SpdyError
from virtual_kubelet.streaming.port_forward.session import ForwardData, ForwardOpened
from virtual_kubelet.streaming.port_forward.spdy_session import SpdyPortForward
from virtual_kubelet.streaming.port_forward.websocket_session import WebSocketPortForward
from virtual_kubelet.streaming.remote_command.resize import ResizeParser
from virtual_kubelet.streaming.remote_command.session import RemoteCommandOptions, StdinData
from virtual_kubelet.streaming.remote_command.spdy_client import SpdyRemoteCommandClient
from virtual_kubelet.streaming.remote_command.spdy_session import SpdyRemoteCommand
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.streaming.remote_command.websocket_session import WebSocketRemoteCommand
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.events import DataReceived, StreamOpened
from virtual_kubelet.streaming.spdy.frame_parser import ParserLimits
from virtual_kubelet.streaming.spdy.header_block import HeaderDecompressor
from virtual_kubelet.streaming.spdy.limits import SpdyLimits
from virtual_kubelet.streaming.websocket.channels import ChannelConnection, ChannelProtocol
from virtual_kubelet.streaming.websocket.connection import WebSocketConnection
from virtual_kubelet.streaming.websocket.tunnel import TunnelledSpdyConnection

__all__ = ["TARGETS"]

ALL: Final = RemoteCommandOptions(stdin=True, stdout=True, stderr=True)
TTY: Final = RemoteCommandOptions(stdin=True, stdout=True, tty=True)
LIMITS: Final = SpdyLimits(parser=ParserLimits(max_control_bytes=4096, max_header_bytes=4096), max_streams=8)


def pieces(data: bytes) -> Iterator[bytes]:
    """The first byte says how long the pieces are: 0 is all at once."""
    size = data[0] if data else 0
    data = data[1:]
    size = size or len(data) or 1
    for start in range(0, len(data), size):
        yield data[start : start + size]


def drive(side: Any, data: bytes, react: Callable[[Any], None] = lambda event: None) -> None:
    """Feed a session; it must bear what comes after its end, too, and answer with no more than it was sent."""
    answered = sum(len(piece) for piece in side.data_to_send())
    for piece in pieces(data):
        for event in side.receive_data(piece):
            react(event)
        answered += sum(len(part) for part in side.data_to_send())
    side.receive_eof()
    answered += sum(len(part) for part in side.data_to_send())
    assert answered <= 4096 + 16 * len(data)


def spdy(data: bytes, *, client: bool, flow_control: bool = False) -> None:
    connection = SpdyConnection(client=client, limits=LIMITS, flow_control=flow_control)
    if client:
        for _ in range(3):
            connection.open_stream([("streamtype", "data")])
        connection.ping()

    def react(event: Any) -> None:
        if isinstance(event, StreamOpened) and connection.takes_data(event.stream_id):
            connection.reply(event.stream_id)
        elif isinstance(event, DataReceived):
            connection.acknowledge(event.stream_id, len(event.data))

    drive(connection, data, react)
    assert connection.streams == connection.unacknowledged == 0


def header_block(data: bytes) -> None:
    reader = HeaderDecompressor(max_bytes=4096, max_headers=16)
    try:
        for piece in pieces(data):
            assert sum(len(name) + len(value) for name, value in reader.decompress(piece)) <= 4096
    except SpdyError:
        pass


def channels(data: bytes, protocol: str) -> None:
    connection = ChannelConnection(ChannelProtocol.named(protocol), 5, [0, 4])
    drive(connection, data)


def spdy_command(data: bytes, options: RemoteCommandOptions) -> None:
    node = SpdyRemoteCommand(options, "v4.channel.k8s.io", limits=LIMITS)
    drive(node, data, lambda event: node.acknowledge(len(event.data)) if isinstance(event, StdinData) else None)
    node.finish(CommandStatus.success())


def websocket_command(data: bytes) -> None:
    node = WebSocketRemoteCommand(TTY, "v5.channel.k8s.io")
    node.begin()
    drive(node, data, lambda event: node.acknowledge(len(event.data)) if isinstance(event, StdinData) else None)
    node.finish(CommandStatus.success())
    assert node.unacknowledged == 0


def port_forward(data: bytes, *, tunnelled: bool) -> None:
    kind = TunnelledSpdyConnection if tunnelled else SpdyConnection
    node = SpdyPortForward(kind(client=False, limits=LIMITS))
    drive(node, data, lambda event: forward(node, event))
    assert node.connections == 0


def forward(node: Any, event: Any) -> None:
    if isinstance(event, ForwardData):
        node.acknowledge(event.forward, len(event.data))
    elif isinstance(event, ForwardOpened) and event.port % 2:
        node.end(event.forward, "refused")


def channel_forward(data: bytes) -> None:
    node = WebSocketPortForward([80, 81], "v4.base64.channel.k8s.io")
    node.begin()
    drive(node, data, lambda event: forward(node, event))


def resize(data: bytes) -> None:
    parser = ResizeParser()
    try:
        for piece in pieces(data):
            parser.feed(piece)
    except ProtocolError:
        pass


#: Name -> target; every one takes any bytes, and raises nothing.
TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "spdy-server": lambda data: spdy(data, client=False),
    "spdy-server-with-windows": lambda data: spdy(data, client=False, flow_control=True),
    "spdy-client": lambda data: spdy(data, client=True),
    "header-block": header_block,
    "websocket-server": lambda data: drive(WebSocketConnection(client=False), data),
    "websocket-client": lambda data: drive(WebSocketConnection(client=True), data),
    "channels": lambda data: channels(data, "v5.channel.k8s.io"),
    "channels-base64": lambda data: channels(data, "v5.base64.channel.k8s.io"),
    "command-spdy": lambda data: spdy_command(data, ALL),
    "command-spdy-tty": lambda data: spdy_command(data, TTY),
    "command-spdy-client": lambda data: drive(SpdyRemoteCommandClient(ALL, "v4.channel.k8s.io"), data),
    "command-websocket": websocket_command,
    "port-forward": lambda data: port_forward(data, tunnelled=False),
    "port-forward-tunnelled": lambda data: port_forward(data, tunnelled=True),
    "port-forward-channels": channel_forward,
    "resize": resize,
}

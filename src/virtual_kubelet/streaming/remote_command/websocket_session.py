"""Remote command over WebSocket channels: 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize."""

from __future__ import annotations

from typing import Final

from virtual_kubelet.errors import ProtocolError, StreamClosedError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.remote_command.resize import ResizeParser
from virtual_kubelet.streaming.remote_command.session import (
    RemoteCommandEvent,
    RemoteCommandOptions,
    Resized,
    SessionEnded,
    StdinClosed,
    StdinData,
    StreamsReady,
)
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.streaming.websocket.channels import (
    ChannelClosed,
    ChannelConnection,
    ChannelData,
    ChannelProtocol,
    ChannelsEnded,
)
from virtual_kubelet.streaming.websocket.connection import WebSocketLimits

__all__ = ["ERROR", "RESIZE", "STDERR", "STDIN", "STDOUT", "WEBSOCKET_PROTOCOLS", "WebSocketRemoteCommand"]

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
ERROR: Final = 3
RESIZE: Final = 4
_CHANNELS: Final = 5

#: Sub-protocols served: versions 2 and 3 say nothing that 1 does not, but cost nothing either.
WEBSOCKET_PROTOCOLS: Final = tuple(
    f"{version}{encoding}channel.k8s.io" for version in ("v5.", "v4.", "v3.", "v2.", "") for encoding in ("", "base64.")
)
_SHUTTING_DOWN: Final = 1001


class WebSocketRemoteCommand:
    """The node's side of one command; see ``RemoteCommandSession``.

    ``begin`` tells the client that it is connected, by an empty message as the kubelet's, and gives ``StreamsReady``.
    """

    def __init__(self, options: RemoteCommandOptions, protocol: str, *, limits: WebSocketLimits | None = None) -> None:
        """``protocol`` is the sub-protocol that was chosen; empty if the client offered none."""
        self._options = options
        self._protocol = ChannelProtocol.named(protocol)
        readable = ([STDIN] if options.stdin else []) + ([RESIZE] if options.tty else [])
        self._channels = ChannelConnection(self._protocol, _CHANNELS, readable, limits=limits)
        self._resize: ResizeParser | None = ResizeParser()
        self._stdout_ended = self._stderr_ended = False
        self._ended = False

    @property
    def closed(self) -> bool:
        return not self._channels.open

    @property
    def unacknowledged(self) -> int:
        return self._channels.unacknowledged

    def acknowledge(self, size: int) -> None:
        self._channels.acknowledge(size)

    def begin(self) -> list[RemoteCommandEvent]:
        """To be called once, after the handshake."""
        lowest = STDOUT if self._options.stdout else STDERR if self._options.stderr else ERROR
        self._channels.send(lowest, b"")
        return [StreamsReady()]

    def data_to_send(self) -> list[Buffer]:
        return self._channels.data_to_send()

    def receive_data(self, data: Buffer) -> list[RemoteCommandEvent]:
        events: list[RemoteCommandEvent] = []
        for event in self._channels.receive_data(data):
            match event:
                case ChannelData(channel, payload) if channel == STDIN:
                    events.append(StdinData(payload))
                case ChannelData(_, payload):
                    self._channels.acknowledge(len(payload))
                    self._receive_resize(payload, events)
                case ChannelClosed(channel) if channel == STDIN:
                    events.append(StdinClosed())
                case ChannelsEnded(error):
                    events += self._end(error)
        return events

    def receive_eof(self) -> list[RemoteCommandEvent]:
        self._channels.receive_eof()
        return self._end(None)

    def send_stdout(self, data: Buffer) -> None:
        if self._stdout_ended or not self._options.stdout:
            raise StreamClosedError("there is no stdout any more")
        self._channels.send(STDOUT, data)

    def send_stderr(self, data: Buffer) -> None:
        if self._stderr_ended or not self._options.stderr:
            raise StreamClosedError("there is no stderr any more")
        self._channels.send(STDERR, data)

    def end_stdout(self) -> None:
        self._stdout_ended = True  # said by nothing: the kubelet closes the connection after the status

    def end_stderr(self) -> None:
        self._stderr_ended = True

    def finish(self, status: CommandStatus) -> None:
        if self._channels.open:
            text = status.encode(self._protocol.version)
            if text:
                self._channels.send(ERROR, text)
            self._channels.close()

    def abort(self, reason: str) -> None:
        self._channels.close(_SHUTTING_DOWN, reason)

    def ping(self) -> None:
        self._channels.ping()

    def _receive_resize(self, data: Buffer, events: list[RemoteCommandEvent]) -> None:
        if self._resize is not None:
            try:
                events += [Resized(size) for size in self._resize.feed(data)]
            except ProtocolError:
                self._resize = None  # the kubelet, too, heeds no resize after a bad one

    def _end(self, error: ProtocolError | None) -> list[RemoteCommandEvent]:
        if self._ended:
            return []
        self._ended = True
        return [SessionEnded(error)]

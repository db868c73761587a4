"""The API server's side of a remote command over SPDY/3.1, as client-go's remotecommand speaks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.remote_command.resize import TerminalSize, encode_size
from virtual_kubelet.streaming.remote_command.session import RemoteCommandOptions
from virtual_kubelet.streaming.remote_command.spdy_session import expected_streams, protocol_version
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.events import DataReceived, SessionFailed, StreamEnded, StreamOpened, StreamReset
from virtual_kubelet.streaming.spdy.limits import SpdyLimits

__all__ = ["ClientEvent", "CommandEnded", "OutputData", "OutputEnded", "SpdyRemoteCommandClient"]

#: client-go opens them in this order.
_ORDER: Final[tuple[str, ...]] = ("error", "stdin", "stdout", "stderr", "resize")


@dataclass(frozen=True, slots=True)
class OutputData:
    """Bytes of ``stdout`` or ``stderr``; ``acknowledge`` them when they are dealt with."""

    kind: str
    data: memoryview


@dataclass(frozen=True, slots=True)
class OutputEnded:
    """Nothing more comes on ``stdout`` or ``stderr``."""

    kind: str


@dataclass(frozen=True, slots=True)
class CommandEnded:
    """The session is over; always the last event. ``status`` is None if the node said none, ``error`` what it broke."""

    status: CommandStatus | None
    error: ProtocolError | None = None


ClientEvent: TypeAlias = OutputData | OutputEnded | CommandEnded


class SpdyRemoteCommandClient:
    """Opens the streams at once. ``receive_data`` gives events; after any call, send what ``data_to_send`` gives."""

    def __init__(
        self,
        options: RemoteCommandOptions,
        protocol: str,
        *,
        limits: SpdyLimits | None = None,
        max_status: int = 64 * 1024,
    ) -> None:
        """
        Args:
            options: the streams to open.
            protocol: what was negotiated; empty if nothing was.
            limits: what the node may use.
            max_status: bytes of the error stream; more is no status.
        """
        self._version = protocol_version(protocol)
        self._spdy = SpdyConnection(client=True, limits=limits)
        wanted = expected_streams(options, self._version)
        self._streams = {kind: self._spdy.open_stream([("streamtype", kind)]) for kind in _ORDER if kind in wanted}
        self._types = {stream_id: kind for kind, stream_id in self._streams.items()}
        self._awaited = {"error", "stdout", "stderr"} & set(self._streams)
        self._max_status = max_status
        self._status = bytearray()
        self._ended = False

    @property
    def unacknowledged(self) -> int:
        """Bytes of output that nobody has acknowledged: stop reading while they are too many."""
        return self._spdy.unacknowledged

    def acknowledge(self, kind: str, size: int) -> None:
        """``size`` bytes of output are dealt with."""
        self._spdy.acknowledge(self._streams[kind], size)

    def data_to_send(self) -> list[Buffer]:
        """What must be written to the network, in order; each piece is given once."""
        return self._spdy.data_to_send()

    def send_stdin(self, data: Buffer) -> None:
        """Input for the command. Raises ``StreamClosedError`` when the node reads none any more."""
        self._spdy.send_data(self._streams["stdin"], data)

    def end_stdin(self) -> None:
        """There is no more input."""
        self._spdy.end_stream(self._streams["stdin"])

    def resize(self, size: TerminalSize) -> None:
        """The terminal has a new size; nothing where the protocol has no word for it."""
        if "resize" in self._streams and self._spdy.takes_data(self._streams["resize"]):
            self._spdy.send_data(self._streams["resize"], encode_size(size))

    def close(self) -> None:
        """End the session."""
        self._spdy.close()

    def receive_data(self, data: Buffer) -> list[ClientEvent]:
        """What bytes from the network mean, in order. Nothing after ``CommandEnded``."""
        events: list[ClientEvent] = []
        for event in self._spdy.receive_data(data):
            if self._ended:
                break
            match event:
                case StreamOpened(stream_id):
                    self._spdy.reset(stream_id)  # a node opens none; what it sends on it meanwhile is dropped
                case DataReceived(stream_id, part):
                    self._receive_bytes(stream_id, part, events)
                case StreamEnded(stream_id) | StreamReset(stream_id):
                    self._receive_end(self._types.get(stream_id, ""), events)
                case SessionFailed(error):
                    events += self._end(error)
        return events

    def receive_eof(self) -> list[ClientEvent]:
        """The network connection has ended."""
        self._spdy.receive_eof()
        return self._end(None)

    def _receive_end(self, kind: str, events: list[ClientEvent]) -> None:
        if kind in self._awaited:
            self._awaited.discard(kind)
            if kind != "error":
                events.append(OutputEnded(kind))
            if not self._awaited:
                events += self._end(None)

    def _receive_bytes(self, stream_id: int, part: memoryview, events: list[ClientEvent]) -> None:
        kind = self._types.get(stream_id)
        if kind in ("stdout", "stderr"):
            events.append(OutputData(kind, part))
            return
        self._spdy.acknowledge(stream_id, len(part))
        if kind == "error":
            self._status += part[: self._max_status + 1 - len(self._status)]

    def _end(self, error: ProtocolError | None) -> list[ClientEvent]:
        if self._ended:
            return []
        self._ended = True
        status = None
        if error is None and len(self._status) > self._max_status:
            error = ProtocolError(f"the node's status has more than {self._max_status} bytes")
        elif error is None and (self._status or "error" not in self._awaited):
            try:
                status = CommandStatus.decode(bytes(self._status), self._version)
            except ValueError:
                error = ProtocolError("the node's status is none")
        return [CommandEnded(status, error)]

"""Remote command over SPDY/3.1: each stream says by its header ``streamtype`` which one it is."""

from __future__ import annotations

from typing import Final

from virtual_kubelet.errors import ProtocolError, StreamClosedError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.remote_command.early_input import EarlyInput
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
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.events import (
    DataReceived,
    Event,
    SessionFailed,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from virtual_kubelet.streaming.spdy.header_block import first_header
from virtual_kubelet.streaming.spdy.limits import SpdyLimits

__all__ = ["SpdyRemoteCommand", "expected_streams", "protocol_version"]

_FIRST_WITH_RESIZE: Final = 3


def protocol_version(name: str) -> int:
    """4 of ``v4.channel.k8s.io``; 1 of ``channel.k8s.io``, and if none was negotiated."""
    return int(name[1]) if name.startswith("v") else 1


def expected_streams(options: RemoteCommandOptions, version: int) -> frozenset[str]:
    """The stream types that a client opens."""
    wanted = {
        "error": True,
        "stdin": options.stdin,
        "stdout": options.stdout,
        "stderr": options.stderr,
        "resize": options.tty and version >= _FIRST_WITH_RESIZE,
    }
    return frozenset(name for name, is_wanted in wanted.items() if is_wanted)


class SpdyRemoteCommand:
    """The node's side of one command; see ``RemoteCommandSession``.

    Streams of unknown or unwanted types, and a second one of a type, are refused: the kubelet takes them and lets the
    client wait for ever. Input that comes before the other streams are there is passed on after ``StreamsReady``.
    """

    def __init__(self, options: RemoteCommandOptions, protocol: str, *, limits: SpdyLimits | None = None) -> None:
        """``protocol`` is what was negotiated; empty if the client asked for none."""
        self._version = protocol_version(protocol)
        self._expected = expected_streams(options, self._version)
        self._spdy = SpdyConnection(client=False, limits=limits)
        self._streams: dict[str, int] = {}
        self._types: dict[int, str] = {}
        self._early: EarlyInput | None = EarlyInput()
        self._resize: ResizeParser | None = ResizeParser()
        self._ended = False

    @property
    def closed(self) -> bool:
        return self._spdy.closed

    @property
    def unacknowledged(self) -> int:
        return self._spdy.unacknowledged

    def acknowledge(self, size: int) -> None:
        self._spdy.acknowledge(self._streams["stdin"], size)

    def data_to_send(self) -> list[Buffer]:
        return self._spdy.data_to_send()

    def receive_data(self, data: Buffer) -> list[RemoteCommandEvent]:
        events: list[RemoteCommandEvent] = []
        for event in self._spdy.receive_data(data):
            self._receive(event, events)
        return events

    def receive_eof(self) -> list[RemoteCommandEvent]:
        self._spdy.receive_eof()
        return self._end(None)

    def send_stdout(self, data: Buffer) -> None:
        self._send("stdout", data)

    def send_stderr(self, data: Buffer) -> None:
        self._send("stderr", data)

    def end_stdout(self) -> None:
        self._end_stream("stdout")

    def end_stderr(self) -> None:
        self._end_stream("stderr")

    def finish(self, status: CommandStatus) -> None:
        self.end_stdout()
        self.end_stderr()
        error = self._streams.get("error")
        if error is not None and self._spdy.takes_data(error):
            self._spdy.send_data(error, status.encode(self._version))
        self._spdy.close()

    def abort(self, reason: str) -> None:
        self._spdy.close()

    def ping(self) -> None:
        self._spdy.ping()

    def _send(self, kind: str, data: Buffer) -> None:
        if kind not in self._streams:
            raise StreamClosedError(f"the client has not opened {kind}")
        self._spdy.send_data(self._streams[kind], data)

    def _end_stream(self, kind: str) -> None:
        if kind in self._streams:
            self._spdy.end_stream(self._streams[kind])

    def _receive(self, event: Event, events: list[RemoteCommandEvent]) -> None:
        match event:
            case StreamOpened():
                self._open(event, events)
            case DataReceived(stream_id, data):
                self._receive_bytes(stream_id, data, events)
            case StreamEnded(stream_id) | StreamReset(stream_id):
                if self._types.get(stream_id) == "stdin":
                    self._pass_on(StdinClosed(), events)
            case SessionFailed(error):
                events += self._end(error)

    def _open(self, event: StreamOpened, events: list[RemoteCommandEvent]) -> None:
        kind = first_header(event.headers, "streamtype")
        if kind not in self._expected or kind in self._streams:
            self._spdy.reset(event.stream_id)
            return
        self._streams[kind] = event.stream_id
        self._types[event.stream_id] = kind
        if self._spdy.takes_data(event.stream_id):
            self._spdy.reply(event.stream_id)
        if len(self._streams) == len(self._expected) and self._early is not None:
            events.append(StreamsReady())
            events += self._early.take()
            self._early = None

    def _receive_bytes(self, stream_id: int, data: memoryview, events: list[RemoteCommandEvent]) -> None:
        kind = self._types.get(stream_id)
        if kind == "stdin":
            self._pass_on(StdinData(data), events)
            return
        self._spdy.acknowledge(stream_id, len(data))
        if kind == "resize" and self._resize is not None:
            try:
                sizes = self._resize.feed(data)
            except ProtocolError:
                self._resize = None  # the kubelet, too, heeds no resize after a bad one
                self._spdy.reset(stream_id)
                return
            for size in sizes:
                self._pass_on(Resized(size), events)

    def _pass_on(self, event: RemoteCommandEvent, events: list[RemoteCommandEvent]) -> None:
        if self._early is None:
            events.append(event)
        else:
            self._early.add(event)

    def _end(self, error: ProtocolError | None) -> list[RemoteCommandEvent]:
        if self._ended:
            return []
        self._ended = True
        return [SessionEnded(error)]

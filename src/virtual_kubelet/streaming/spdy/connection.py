"""One SPDY/3.1 session, seen from one side: bytes in, events out; calls in, bytes out.

Kubernetes' own end is moby/spdystream. It has no flow control: it sends no WINDOW_UPDATE and heeds none, so a session with
windows would stop after 64 KiB. Windows are therefore off unless asked for; ``unacknowledged`` then tells when to stop
reading from the network. Like Go's, a stream is accepted by a SYN_REPLY without headers, refused by a RST_STREAM, and a
session closes by resetting (CANCEL) each stream that we have not ended, and a GOAWAY.

A mistake of the peer about one stream resets that stream; one about the session ends it (``SessionFailed``). What comes for
a stream that is gone already is dropped: it may have been on its way.
"""

from __future__ import annotations

from collections.abc import Iterable

from virtual_kubelet.errors import SpdyError, StreamClosedError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.spdy.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    HeadersReceived,
    PingAcknowledged,
    SessionFailed,
    SettingsReceived,
    StreamEnded,
    StreamOpened,
    StreamReplied,
    StreamReset,
    WindowOpened,
)
from virtual_kubelet.streaming.spdy.flow_control import DEFAULT_WINDOW, ReceiveWindow, SendWindow
from virtual_kubelet.streaming.spdy.frame_parser import FrameParser
from virtual_kubelet.streaming.spdy.frame_writer import FrameWriter
from virtual_kubelet.streaming.spdy.frames import (
    MAX_STREAM_ID,
    MAX_WINDOW,
    Data,
    Frame,
    FrameType,
    GoAway,
    GoAwayStatus,
    HeadersFrame,
    Ping,
    RstStatus,
    RstStream,
    Setting,
    SettingId,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
)
from virtual_kubelet.streaming.spdy.limits import SpdyLimits
from virtual_kubelet.streaming.spdy.stream_table import FIRST_OWN, Stream, StreamTable

__all__ = ["SpdyConnection"]


class SpdyConnection:
    """One side of a session. ``receive_data`` gives events; after any call, send what ``data_to_send`` gives."""

    def __init__(self, *, client: bool, limits: SpdyLimits | None = None, flow_control: bool = False) -> None:
        """
        Args:
            client: whether this side opened the connection; its streams have odd numbers.
            limits: what the peer may use.
            flow_control: keep windows in both directions, as SPDY/3.1 says and Kubernetes does not.
        """
        self._limits = limits or SpdyLimits()
        self._flow_control = flow_control
        self._parser = FrameParser(self._limits.parser)
        self._writer = FrameWriter(self._limits.max_data_frame)
        self._streams = StreamTable(client=client, window=self._limits.window)
        self._next_ping = FIRST_OWN[client]
        self._pings: set[int] = set()
        self._unacknowledged = 0
        self._peer_max_streams = MAX_STREAM_ID
        self._send_window = SendWindow()
        self._receive_window = ReceiveWindow(self._limits.window)
        self._going_away = False  # we said so
        self._peer_going_away = False
        self._closed = False
        if flow_control and self._limits.window != DEFAULT_WINDOW:
            self._writer.settings(Setting(SettingId.INITIAL_WINDOW_SIZE, self._limits.window))
            self._writer.window_update(0, self._limits.window - DEFAULT_WINDOW)

    # What the caller asks

    @property
    def closed(self) -> bool:
        """Whether the session is over for us: nothing is read or sent any more, but for what is yet to be sent."""
        return self._closed

    @property
    def unacknowledged(self) -> int:
        """Bytes received in all streams that nobody has acknowledged: stop reading while they are too many."""
        return self._unacknowledged

    @property
    def streams(self) -> int:
        """Number of open streams."""
        return len(self._streams)

    def takes_data(self, stream_id: int) -> bool:
        """Whether ``send_data`` would take data for this stream (if its window is open)."""
        stream = self._streams.get(stream_id)
        return stream is not None and not stream.ended

    def send_capacity(self, stream_id: int) -> int:
        """Bytes that ``send_data`` takes now: of the windows, or any number without flow control; 0 if it is closed."""
        if not self.takes_data(stream_id):
            return 0
        if not self._flow_control:
            return MAX_WINDOW
        return max(0, min(self._send_window.left, self._streams.writable(stream_id).send_window.left))

    def data_to_send(self) -> list[Buffer]:
        """What must be written to the network, in order; each piece is given once."""
        return self._writer.take()

    # What the caller does

    def open_stream(
        self, headers: Iterable[tuple[str, str]], *, fin: bool = False, unidirectional: bool = False, priority: int = 0
    ) -> int:
        """Open a stream; its number. ``fin``: we send nothing on it; ``unidirectional``: the peer does not.

        Raises ``StreamClosedError`` if the session takes no more streams.
        """
        if self._closed or self._peer_going_away:
            raise StreamClosedError("the session takes no more streams")
        if len(self._streams) - self._streams.of_peer >= self._peer_max_streams:
            raise StreamClosedError(f"the peer allows {self._peer_max_streams} streams")
        stream_id = self._streams.next_own()
        self._writer.syn_stream(stream_id, headers, fin=fin, unidirectional=unidirectional, priority=priority)
        self._streams.open_own(stream_id, fin=fin, unidirectional=unidirectional)
        return stream_id

    def reply(self, stream_id: int, headers: Iterable[tuple[str, str]] = (), *, fin: bool = False) -> None:
        """Accept a stream that the peer opened. Raises ``StreamClosedError`` if it is gone."""
        stream = self._streams.writable(stream_id)
        if stream.ours or stream.replied:
            raise ValueError(f"stream {stream_id} awaits no reply")
        stream.replied = True
        self._writer.headers(FrameType.SYN_REPLY, stream_id, headers, fin)
        self._streams.end(stream_id, stream, fin=fin)

    def send_headers(self, stream_id: int, headers: Iterable[tuple[str, str]], *, fin: bool = False) -> None:
        """More headers of a stream. Raises ``StreamClosedError`` if we have ended it, or it is gone."""
        stream = self._streams.writable(stream_id)
        self._writer.headers(FrameType.HEADERS, stream_id, headers, fin)
        self._streams.end(stream_id, stream, fin=fin)

    def send_data(self, stream_id: int, data: Buffer, *, fin: bool = False) -> None:
        """Send bytes, which must not change afterwards: they are not copied. ``fin``: the last ones.

        Raises ``StreamClosedError`` if we have ended the stream, or it is gone, and ``ValueError`` for more than
        ``send_capacity``.
        """
        stream = self._streams.writable(stream_id)
        length = len(data)
        if self._flow_control:
            if length > self.send_capacity(stream_id) and length:
                raise ValueError(f"{length} bytes do not fit into the window of stream {stream_id}")
            stream.send_window.left -= length
            self._send_window.left -= length
        self._writer.data(stream_id, data, fin)
        self._streams.end(stream_id, stream, fin=fin)

    def end_stream(self, stream_id: int) -> None:
        """Half-close: we send nothing more. No matter if we have done so, or if the stream is gone."""
        if self.takes_data(stream_id):
            self.send_data(stream_id, b"", fin=True)

    def reset(self, stream_id: int, status: RstStatus = RstStatus.CANCEL) -> None:
        """End a stream in both directions at once. No matter if it is gone."""
        if stream_id in self._streams:
            self._writer.reset(stream_id, status)
            self._streams.forget(stream_id)

    def acknowledge(self, stream_id: int, size: int) -> None:
        """``size`` bytes of a stream are dealt with: the peer may send as many again."""
        stream = self._streams.get(stream_id)
        if size > self._unacknowledged or (stream is not None and size > stream.unacknowledged):
            raise ValueError("more bytes are acknowledged than were received")
        if stream is not None:
            stream.unacknowledged -= size
            self._give_back(stream_id, stream, size)
        self._unacknowledged -= size
        self._give_back(0, None, size)

    def ping(self) -> int:
        """Ask the peer for a sign of life: ``PingAcknowledged`` with this number. At most 16 wait for an answer."""
        ping_id = self._next_ping
        self._next_ping = ping_id + 2 if ping_id + 2 <= 0xFFFFFFFF else FIRST_OWN[bool(ping_id % 2)]
        if not self._closed:
            if len(self._pings) >= 16:
                self._pings.discard(min(self._pings))
            self._pings.add(ping_id)
            self._writer.ping(ping_id)
        return ping_id

    def go_away(self, status: GoAwayStatus = GoAwayStatus.OK) -> None:
        """Take no more streams; those that are open go on."""
        if not self._going_away:
            self._going_away = True
            self._writer.go_away(self._streams.last_taken, status)

    def close(self, status: GoAwayStatus = GoAwayStatus.OK) -> None:
        """End the session as Go does: reset each stream that we have not ended, and say GOAWAY."""
        if self._closed:
            return
        for stream_id, stream in self._streams:
            if not stream.ended:
                self._writer.reset(stream_id, RstStatus.CANCEL)
        self.go_away(status)
        self._finish()

    # What the peer sends

    def receive_data(self, data: Buffer) -> list[Event]:
        """What bytes from the network mean, in order. Nothing once the session is closed."""
        events: list[Event] = []
        if self._closed:
            return events
        try:
            for frame in self._parser.feed(data):
                self._receive(frame, events)
                if self._closed:
                    break
        except SpdyError as error:
            self._writer.go_away(self._streams.last_taken, error.goaway)
            self._finish()
            events.append(SessionFailed(error))
        return events

    def receive_eof(self) -> None:
        """The peer has closed the connection: the session is over."""
        self._finish()

    def _receive(self, frame: Frame, events: list[Event]) -> None:
        match frame:
            case Data():
                self._receive_bytes(frame, events)
            case SynStream():
                self._receive_stream(frame, events)
            case SynReply():
                self._receive_reply(frame, events)
            case HeadersFrame():
                self._receive_headers(frame, events)
            case RstStream(stream_id, status):
                self._streams.check_opened(stream_id, "RST_STREAM")
                if stream_id in self._streams:
                    self._streams.forget(stream_id)
                    events.append(StreamReset(stream_id, status, by_peer=True))
            case WindowUpdate(stream_id, delta):
                self._receive_window_update(stream_id, delta, events)
            case Ping(ping_id):
                self._receive_ping(ping_id, events)
            case Settings():
                self._receive_settings(frame, events)
            case GoAway(last_stream_id, status):
                self._receive_go_away(last_stream_id, status, events)

    def _receive_bytes(self, frame: Data, events: list[Event]) -> None:
        stream_id, data, fin = frame.stream_id, frame.data, frame.fin
        size = len(data)
        if self._flow_control and not self._receive_window.take(size):
            raise SpdyError("the peer has sent more than the session's window")
        stream = self._streams.get(stream_id)
        if stream is None:
            self._streams.check_opened(stream_id, "DATA")
            self._give_back(0, None, size)
            return
        if stream.peer_ended:
            status = RstStatus.STREAM_ALREADY_CLOSED
        elif stream.ours and not stream.replied:
            status = RstStatus.PROTOCOL_ERROR
        elif self._flow_control and not stream.receive_window.take(size):
            status = RstStatus.FLOW_CONTROL_ERROR
        else:
            if size:
                self._unacknowledged += size
                stream.unacknowledged += size
                events.append(DataReceived(stream_id, data))
            self._peer_end(stream_id, stream, fin, events)
            return
        self._misused(stream_id, status, events)
        self._give_back(0, None, size)

    def _receive_stream(self, frame: SynStream, events: list[Event]) -> None:
        stream_id = frame.stream_id
        self._streams.see(stream_id)
        if self._going_away:
            return
        if self._streams.of_peer >= self._limits.max_streams:
            self._writer.reset(stream_id, RstStatus.REFUSED_STREAM)
            return
        stream = self._streams.take(stream_id, unidirectional=frame.unidirectional)
        events.append(StreamOpened(stream_id, frame.headers))
        self._peer_end(stream_id, stream, frame.fin, events)

    def _receive_reply(self, frame: SynReply, events: list[Event]) -> None:
        stream_id = frame.stream_id
        self._streams.check_opened(stream_id, "SYN_REPLY")
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if not stream.ours:
            self._misused(stream_id, RstStatus.PROTOCOL_ERROR, events)
        elif stream.replied:
            self._misused(stream_id, RstStatus.STREAM_IN_USE, events)
        elif stream.peer_ended:
            self._misused(stream_id, RstStatus.STREAM_ALREADY_CLOSED, events)
        else:
            stream.replied = True
            events.append(StreamReplied(stream_id, frame.headers))
            self._peer_end(stream_id, stream, frame.fin, events)

    def _receive_headers(self, frame: HeadersFrame, events: list[Event]) -> None:
        stream_id = frame.stream_id
        self._streams.check_opened(stream_id, "HEADERS")
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        if stream.peer_ended:
            self._misused(stream_id, RstStatus.STREAM_ALREADY_CLOSED, events)
        elif stream.ours and not stream.replied:
            self._misused(stream_id, RstStatus.PROTOCOL_ERROR, events)
        else:
            events.append(HeadersReceived(stream_id, frame.headers))
            self._peer_end(stream_id, stream, frame.fin, events)

    def _receive_window_update(self, stream_id: int, delta: int, events: list[Event]) -> None:
        if not delta:
            raise SpdyError("a WINDOW_UPDATE widens a window by nothing")
        if stream_id:
            self._streams.check_opened(stream_id, "WINDOW_UPDATE")
        if not self._flow_control:
            return
        if not stream_id:
            if not self._send_window.widen(delta):
                raise SpdyError("a WINDOW_UPDATE makes the session's window too large")
            events.append(WindowOpened(0))
        elif (stream := self._streams.get(stream_id)) is not None:
            if stream.send_window.widen(delta):
                events.append(WindowOpened(stream_id))
            else:
                self._misused(stream_id, RstStatus.FLOW_CONTROL_ERROR, events)

    def _receive_ping(self, ping_id: int, events: list[Event]) -> None:
        if not self._streams.is_own_number(ping_id):
            self._writer.ping(ping_id)
        elif ping_id in self._pings:
            self._pings.discard(ping_id)
            events.append(PingAcknowledged(ping_id))

    def _receive_settings(self, frame: Settings, events: list[Event]) -> None:
        values = {setting.id: setting.value for setting in frame.settings}
        window = values.get(SettingId.INITIAL_WINDOW_SIZE)
        if window is not None:
            if window > MAX_WINDOW:
                raise SpdyError("the initial window of the peer's SETTINGS is too large")
            for _, stream in self._streams:
                if not stream.send_window.widen(window - self._streams.peer_window):
                    raise SpdyError("the peer's SETTINGS make a window too large")
            self._streams.peer_window = window
        self._peer_max_streams = values.get(SettingId.MAX_CONCURRENT_STREAMS, self._peer_max_streams)
        events.append(SettingsReceived(values))

    def _receive_go_away(self, last_stream_id: int, status: int, events: list[Event]) -> None:
        self._peer_going_away = True
        for number in self._streams.unseen(last_stream_id):
            self._streams.forget(number)
            events.append(StreamReset(number, RstStatus.REFUSED_STREAM, by_peer=True))
        events.append(GoAwayReceived(last_stream_id, status))

    # Bookkeeping

    def _peer_end(self, stream_id: int, stream: Stream, fin: bool, events: list[Event]) -> None:
        if fin:
            self._streams.peer_end(stream_id, stream)
            events.append(StreamEnded(stream_id))

    def _misused(self, stream_id: int, status: RstStatus, events: list[Event]) -> None:
        self.reset(stream_id, status)
        events.append(StreamReset(stream_id, status, by_peer=False))

    def _give_back(self, stream_id: int, stream: Stream | None, size: int) -> None:
        if self._flow_control and size and not (stream is not None and stream.peer_ended):
            window = self._receive_window if stream is None else stream.receive_window
            delta = window.give_back(size)
            if delta and not self._closed:
                self._writer.window_update(stream_id, delta)

    def _finish(self) -> None:
        self._closed = True
        self._streams.clear()
        self._pings.clear()

"""Port-forward over SPDY/3.1, bare or in a WebSocket: each connection is a data and an error stream with one request id.

The kubelet's rules (httpstream.go): each stream has the headers ``port`` (1 to 65535), ``streamtype`` (``data`` or
``error``) and ``requestid``; clients older than that header open the error stream first and the data stream next. A stream
that breaks them is reset; a second one of a kind, or a pair that is not whole in time, is told so on the error stream.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from virtual_kubelet.errors import ProtocolError, StreamClosedError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.port_forward.session import (
    ForwardData,
    ForwardEnded,
    ForwardIncomplete,
    ForwardOpened,
    ForwardReset,
    PortForwardEvent,
    SessionEnded,
)
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.events import (
    DataReceived,
    Event,
    SessionFailed,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from virtual_kubelet.streaming.spdy.header_block import Headers, first_header

__all__ = ["PortForwardLimits", "SpdyPortForward"]

_NUMBER: Final = re.compile(r"[0-9]{1,5}\Z")


@dataclass(frozen=True, slots=True)
class PortForwardLimits:
    """What a client may use of one session, beyond what SPDY allows.

    Attributes:
        max_early_bytes: data of one connection that comes before its error stream; more resets it.
        max_request_id: characters of a request id; a stream with a longer one is refused. kubectl counts from 0.
    """

    max_early_bytes: int = 64 * 1024
    max_request_id: int = 256


@dataclass(slots=True)
class _Pair:
    request_id: str
    data: int | None = None
    error: int | None = None
    port: int = 0
    early: bytearray = field(default_factory=bytearray)
    early_end: bool = False

    @property
    def whole(self) -> bool:
        return self.data is not None and self.error is not None


class SpdyPortForward:
    """The node's side of one port-forward; see ``PortForwardSession``. A connection is named by its data stream."""

    def __init__(self, spdy: SpdyConnection, limits: PortForwardLimits | None = None) -> None:
        """``spdy`` is a server's, without flow control; it may be a tunnelled one."""
        self._spdy = spdy
        self._limits = limits or PortForwardLimits()
        self._pairs: dict[str, _Pair] = {}
        self._of: dict[int, _Pair] = {}
        self._ended = False

    @property
    def closed(self) -> bool:
        return self._spdy.closed

    @property
    def unacknowledged(self) -> int:
        return self._spdy.unacknowledged

    @property
    def connections(self) -> int:
        """Number of connections, those that wait for their second stream included."""
        return len(self._pairs)

    def acknowledge(self, forward: int, size: int) -> None:
        self._spdy.acknowledge(forward, size)

    def data_to_send(self) -> list[Buffer]:
        return self._spdy.data_to_send()

    def receive_data(self, data: Buffer) -> list[PortForwardEvent]:
        events: list[PortForwardEvent] = []
        for event in self._spdy.receive_data(data):
            self._receive(event, events)
        if self._spdy.closed:
            events += self._end_session(None)
        return events

    def receive_eof(self) -> list[PortForwardEvent]:
        self._spdy.receive_eof()
        return self._end_session(None)

    def send(self, forward: int, data: Buffer) -> None:
        if forward not in self._of:
            raise StreamClosedError("the client has dropped this connection")
        self._spdy.send_data(forward, data)

    def end(self, forward: int, error: str = "") -> None:
        pair = self._of.get(forward)
        if pair is None or pair.data is None:
            return
        self._spdy.end_stream(pair.data)
        self._say(pair, error)
        self._drop(pair)

    def reset(self, forward: int) -> None:
        pair = self._of.get(forward)
        if pair is not None:
            self._reset(pair)

    def expire(self, request_id: str) -> None:
        pair = self._pairs.get(request_id)
        if pair is not None and not pair.whole:
            self._say(pair, f"timed out waiting for streams of request {request_id}")
            if pair.data is not None:
                self._spdy.reset(pair.data)
            self._drop(pair)

    def close(self) -> None:
        self._spdy.close()
        self._pairs.clear()
        self._of.clear()

    def ping(self) -> None:
        self._spdy.ping()

    def _receive(self, event: Event, events: list[PortForwardEvent]) -> None:
        match event:
            case StreamOpened(stream_id, headers):
                self._open(stream_id, headers, events)
            case DataReceived(stream_id, data):
                self._receive_bytes(stream_id, data, events)
            case StreamEnded(stream_id):
                pair = self._of.get(stream_id)
                if pair is not None and stream_id == pair.data:
                    if pair.whole:
                        events.append(ForwardEnded(stream_id))
                    else:
                        pair.early_end = True
            case StreamReset(stream_id):
                pair = self._of.get(stream_id)
                if pair is not None:
                    self._receive_reset(pair, stream_id, events)
            case SessionFailed(error):
                events += self._end_session(error)

    def _open(self, stream_id: int, headers: Headers, events: list[PortForwardEvent]) -> None:
        kind = first_header(headers, "streamtype")
        port = _port(first_header(headers, "port"))
        request_id = first_header(headers, "requestid") or str(stream_id if kind == "error" else stream_id - 2)
        if port is None or kind not in ("data", "error") or len(request_id) > self._limits.max_request_id:
            self._spdy.reset(stream_id)
            return
        if self._spdy.takes_data(stream_id):
            self._spdy.reply(stream_id)
        pair = self._pairs.get(request_id)
        if pair is None:
            pair = self._pairs[request_id] = _Pair(request_id)
        elif (pair.data if kind == "data" else pair.error) is not None:
            self._spdy.reset(stream_id)
            if pair.error is not None and self._spdy.takes_data(pair.error):
                message = f"error processing stream for request {request_id}: {kind} stream already assigned"
                self._spdy.send_data(pair.error, message.encode(errors="replace"))
            return
        self._of[stream_id] = pair
        if kind == "data":
            pair.data, pair.port = stream_id, port
        else:
            pair.error = stream_id
        if pair.data is None or pair.error is None:
            events.append(ForwardIncomplete(request_id))
            return
        events.append(ForwardOpened(pair.data, pair.port))
        if pair.early:
            events.append(ForwardData(pair.data, bytes(pair.early)))
            pair.early.clear()
        if pair.early_end:
            events.append(ForwardEnded(pair.data))

    def _receive_bytes(self, stream_id: int, data: memoryview, events: list[PortForwardEvent]) -> None:
        pair = self._of.get(stream_id)
        if pair is None or stream_id != pair.data:
            self._spdy.acknowledge(stream_id, len(data))  # nobody listens on an error stream
        elif pair.whole:
            events.append(ForwardData(stream_id, data))
        elif len(pair.early) + len(data) > self._limits.max_early_bytes:
            self._spdy.acknowledge(stream_id, len(data))
            self._reset(pair)
        else:
            pair.early += data

    def _receive_reset(self, pair: _Pair, stream_id: int, events: list[PortForwardEvent]) -> None:
        del self._of[stream_id]
        if stream_id == pair.data:
            if pair.error is not None:
                events.append(ForwardReset(stream_id))
            self._reset(pair)
        elif not pair.whole:
            self._drop(pair)
        # else the client listens for no error, but the connection goes on, as the kubelet's does

    def _say(self, pair: _Pair, error: str) -> None:
        """What went wrong, on the error stream; the kubelet resets that stream then, and ends it where nothing did."""
        if pair.error is not None and self._spdy.takes_data(pair.error):
            if error:
                self._spdy.send_data(pair.error, error.encode(errors="replace"))
                self._spdy.reset(pair.error)
            else:
                self._spdy.end_stream(pair.error)

    def _reset(self, pair: _Pair) -> None:
        for stream_id in (pair.data, pair.error):
            if stream_id is not None:
                self._spdy.reset(stream_id)
        self._drop(pair)

    def _drop(self, pair: _Pair) -> None:
        self._pairs.pop(pair.request_id, None)
        for stream_id in (pair.data, pair.error):
            if stream_id is not None:
                self._of.pop(stream_id, None)
        if pair.early and pair.data is not None:
            self._spdy.acknowledge(pair.data, len(pair.early))
            pair.early.clear()

    def _end_session(self, error: ProtocolError | None) -> list[PortForwardEvent]:
        self._pairs.clear()
        self._of.clear()
        if self._ended:
            return []
        self._ended = True
        return [SessionEnded(error)]


def _port(text: str) -> int | None:
    port = int(text) if _NUMBER.match(text) else 0
    return port if 1 <= port <= 65535 else None

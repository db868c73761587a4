"""One WebSocket connection after its handshake, seen from one side: bytes in, events out; calls in, bytes out.

Messages are passed on in parts as they come, so that none is ever held, whatever its length. Pings are answered, a Close
frame too. A mistake of the peer is answered with a Close frame that says which, and ends the connection (``Failed``).
"""

from __future__ import annotations

import codecs
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from virtual_kubelet.errors import StreamClosedError, WebSocketError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.websocket.frames import (
    ControlFrame,
    FrameParser,
    Opcode,
    Payload,
    apply_mask,
    frame_header,
)

__all__ = [
    "CloseReceived",
    "Event",
    "Failed",
    "MessagePart",
    "PongReceived",
    "WebSocketConnection",
    "WebSocketLimits",
]


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """What a peer may send; crossing one closes the connection.

    Attributes:
        max_message: bytes of one message, all its fragments together; 1009. Messages are never held, so this is no limit
            of memory; it is that of Go's reader in the kubelet.
        max_fragments: frames of one message; 1009.
        max_frame: bytes that one frame of ours carries at most; longer messages are fragmented.
    """

    max_message: int = 32 * 1024 * 1024
    max_fragments: int = 4096
    max_frame: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class MessagePart:
    """A part of a message: a view of what was received, or what was masked in it.

    Attributes:
        data: its bytes; maybe none.
        text: whether it is a text message (the parts together are UTF-8, one alone may not be).
        first: whether a message begins with it.
        last: whether the message ends with it.
    """

    data: Buffer
    text: bool
    first: bool
    last: bool


@dataclass(frozen=True, slots=True)
class PongReceived:
    """The peer is there."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """The peer closes: nothing more comes from it. 1005 means that it gave no code."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The peer broke the protocol: a Close frame is to be sent, nothing more is read. Always the last event."""

    error: WebSocketError


Event: TypeAlias = MessagePart | PongReceived | CloseReceived | Failed

_NO_CODE: Final = 1005


class WebSocketConnection:
    """One side of a connection. ``receive_data`` gives events; after any call, send what ``data_to_send`` gives."""

    def __init__(
        self,
        *,
        client: bool,
        limits: WebSocketLimits | None = None,
        make_mask: Callable[[], bytes] = lambda: secrets.token_bytes(4),
    ) -> None:
        """
        Args:
            client: whether this side opened the connection; it masks its frames then.
            limits: what the peer may send.
            make_mask: a client's mask for one frame: four bytes that nobody can foresee.
        """
        self._limits = limits or WebSocketLimits()
        self._make_mask = make_mask if client else None
        self._parser = FrameParser(masked=not client)
        self._out: list[Buffer] = []
        self._message: Opcode | None = None  # of the message that is coming
        self._begun = False  # whether a part of it has been passed on
        self._size = 0
        self._fragments = 0
        self._utf8: codecs.IncrementalDecoder | None = None
        self._close_sent = False
        self._closed = False  # nothing is read any more

    @property
    def closed(self) -> bool:
        """Whether both sides have said Close, or the connection failed or broke off."""
        return self._closed and self._close_sent

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return not self._close_sent

    def data_to_send(self) -> list[Buffer]:
        """What must be written to the network, in order; each piece is given once."""
        out, self._out = self._out, []
        return out

    def send_message(self, data: Buffer, *, prefix: bytes = b"", text: bool = False) -> None:
        """Send ``prefix`` and ``data`` as one message; ``data`` must not change afterwards: a server does not copy it.

        Raises ``StreamClosedError`` once we have said Close.
        """
        if self._close_sent:
            raise StreamClosedError("the WebSocket is closed")
        opcode = Opcode.TEXT if text else Opcode.BINARY
        most = max(1, self._limits.max_frame - len(prefix))
        if len(data) > most:
            view = memoryview(data)
            for start in range(0, len(data), most):
                piece = view[start : start + most]
                self._send_frame(opcode, prefix, piece, fin=start + most >= len(data))
                opcode, prefix = Opcode.CONTINUATION, b""
        else:
            self._send_frame(opcode, prefix, data, fin=True)

    def ping(self, payload: bytes = b"") -> None:
        """Ask the peer for a sign of life: ``PongReceived``. At most 125 bytes. Nothing once we have said Close."""
        if not self._close_sent:
            self._send_control(Opcode.PING, payload)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Say Close; the peer's answer ends the connection. A ``reason`` is cut to what fits. No matter if it was said."""
        if not self._close_sent:
            self._close_sent = True
            text = reason.encode()[:123].decode(errors="ignore").encode()
            self._send_control(Opcode.CLOSE, code.to_bytes(2, "big") + text)

    def receive_data(self, data: Buffer) -> list[Event]:
        """What bytes from the network mean, in order. Nothing once the peer has said Close.

        After our own Close its messages are dropped.
        """
        events: list[Event] = []
        if self._closed:
            return events
        try:
            for frame in self._parser.feed(data):
                if isinstance(frame, Payload):
                    self._receive_payload(frame, events)
                else:
                    self._receive_control(frame, events)
                    if self._closed:
                        break
        except WebSocketError as error:
            self.close(error.code, str(error))
            self._closed = True
            events.append(Failed(error))
        return events

    def receive_eof(self) -> None:
        """The peer has closed the network connection."""
        self._closed = self._close_sent = True

    def _receive_payload(self, part: Payload, events: list[Event]) -> None:
        data = part.data
        if part.frame_start:
            self._begin_frame(part.opcode)
        self._size += len(data)
        if self._size > self._limits.max_message:
            raise WebSocketError(f"a message has more than {self._limits.max_message} bytes", code=1009)
        last = part.frame_end and part.fin
        text = self._message is Opcode.TEXT
        if text:
            self._check_text(data, last)
        if not self._close_sent and (data or last):
            events.append(MessagePart(data, text, not self._begun, last))
            self._begun = True
        if last:
            self._message = None

    def _begin_frame(self, opcode: Opcode) -> None:
        if opcode is Opcode.CONTINUATION:
            if self._message is None:
                raise WebSocketError("a message begins with a continuation")
            self._fragments += 1
            if self._fragments > self._limits.max_fragments:
                raise WebSocketError(f"a message has more than {self._limits.max_fragments} fragments", code=1009)
            return
        if self._message is not None:
            raise WebSocketError("a message begins before the one before it has ended")
        self._message, self._begun, self._size, self._fragments = opcode, False, 0, 1
        if opcode is Opcode.TEXT:
            self._utf8 = codecs.getincrementaldecoder("utf-8")()

    def _check_text(self, data: Buffer, last: bool) -> None:
        assert self._utf8 is not None
        try:
            self._utf8.decode(bytes(data), last)
        except UnicodeDecodeError:
            raise WebSocketError("a text message is not UTF-8", code=1007) from None

    def _receive_control(self, frame: ControlFrame, events: list[Event]) -> None:
        opcode, payload = frame.opcode, frame.payload
        if opcode is Opcode.PING:
            if not self._close_sent:
                self._send_control(Opcode.PONG, payload)
        elif opcode is Opcode.PONG:
            events.append(PongReceived(payload))
        else:
            code, reason = _parse_close(payload)
            self._closed = True
            if not self._close_sent:
                self._close_sent = True
                self._send_control(Opcode.CLOSE, payload[:2])
            events.append(CloseReceived(code, reason))

    def _send_control(self, opcode: Opcode, payload: bytes) -> None:
        if len(payload) > 125:
            raise ValueError("a control frame has at most 125 bytes")
        self._send_frame(opcode, payload, b"", fin=True)

    def _send_frame(self, opcode: Opcode, prefix: bytes, data: Buffer, *, fin: bool) -> None:
        length = len(prefix) + len(data)
        if self._make_mask is None:
            self._out.append(frame_header(opcode, length, fin=fin) + prefix)
            if data:
                self._out.append(data)
        else:
            mask = self._make_mask()
            self._out.append(frame_header(opcode, length, fin=fin, mask=mask) + apply_mask(prefix, mask))
            if data:
                self._out.append(apply_mask(data, mask, len(prefix)))


def _parse_close(payload: bytes) -> tuple[int, str]:
    if not payload:
        return _NO_CODE, ""
    if len(payload) == 1:
        raise WebSocketError("a Close frame has half a status code")
    code = int.from_bytes(payload[:2], "big")
    if not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise WebSocketError(f"a Close frame has the status code {code}, which must not be sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise WebSocketError("the reason of a Close frame is not UTF-8", code=1007) from None

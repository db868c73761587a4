"""What a SPDY session tells of its peer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from virtual_kubelet.errors import SpdyError
from virtual_kubelet.streaming.spdy.header_block import Headers

__all__ = [
    "DataReceived",
    "Event",
    "GoAwayReceived",
    "HeadersReceived",
    "PingAcknowledged",
    "SessionFailed",
    "SettingsReceived",
    "StreamEnded",
    "StreamOpened",
    "StreamReplied",
    "StreamReset",
    "WindowOpened",
]


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The peer wants a stream: answer with ``reply`` or ``reset``."""

    stream_id: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class StreamReplied:
    """The peer accepted our stream."""

    stream_id: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class HeadersReceived:
    """More headers of a stream."""

    stream_id: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Bytes of a stream: a view of what was received. ``acknowledge`` them when they are dealt with."""

    stream_id: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The peer sends nothing more on this stream; we still may."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The stream is gone in both directions: by the peer's wish, or by ours because the peer misused it."""

    stream_id: int
    status: int
    by_peer: bool


@dataclass(frozen=True, slots=True)
class WindowOpened:
    """There is room to send more: on a stream, or on any (0)."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class SettingsReceived:
    """The peer's settings, already in force."""

    settings: dict[int, int]


@dataclass(frozen=True, slots=True)
class PingAcknowledged:
    """The peer is there: it answered our ``ping``."""

    ping_id: int


@dataclass(frozen=True, slots=True)
class GoAwayReceived:
    """The peer takes no more streams. Those of ours above ``last_stream_id`` it has not looked at."""

    last_stream_id: int
    status: int


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """The peer broke the protocol: a GOAWAY is to be sent, nothing more is read. Always the last event."""

    error: SpdyError


Event: TypeAlias = (
    StreamOpened
    | StreamReplied
    | HeadersReceived
    | DataReceived
    | StreamEnded
    | StreamReset
    | WindowOpened
    | SettingsReceived
    | PingAcknowledged
    | GoAwayReceived
    | SessionFailed
)

"""What a SPDY session tells of its peer."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

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


class StreamOpened(Struct, frozen=True):
    """The peer wants a stream: answer with ``reply`` or ``reset``."""

    stream_id: int
    headers: Headers


class StreamReplied(Struct, frozen=True):
    """The peer accepted our stream."""

    stream_id: int
    headers: Headers


class HeadersReceived(Struct, frozen=True):
    """More headers of a stream."""

    stream_id: int
    headers: Headers


class DataReceived(Struct, frozen=True):
    """Bytes of a stream: a view of what was received. ``acknowledge`` them when they are dealt with."""

    stream_id: int
    data: memoryview


class StreamEnded(Struct, frozen=True):
    """The peer sends nothing more on this stream; we still may."""

    stream_id: int


class StreamReset(Struct, frozen=True):
    """The stream is gone in both directions: by the peer's wish, or by ours because the peer misused it."""

    stream_id: int
    status: int
    by_peer: bool


class WindowOpened(Struct, frozen=True):
    """There is room to send more: on a stream, or on any (0)."""

    stream_id: int


class SettingsReceived(Struct, frozen=True):
    """The peer's settings, already in force."""

    settings: dict[int, int]


class PingAcknowledged(Struct, frozen=True):
    """The peer is there: it answered our ``ping``."""

    ping_id: int


class GoAwayReceived(Struct, frozen=True):
    """The peer takes no more streams. Those of ours above ``last_stream_id`` it has not looked at."""

    last_stream_id: int
    status: int


class SessionFailed(Struct, frozen=True):
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

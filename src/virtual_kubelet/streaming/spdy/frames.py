"""SPDY/3.1 frames as values, and how each is written."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple, TypeAlias

from msgspec import Struct

from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.spdy.header_block import Headers

__all__ = [
    "FLAG_FIN",
    "FLAG_UNIDIRECTIONAL",
    "MAX_DATA",
    "MAX_STREAM_ID",
    "MAX_WINDOW",
    "VERSION",
    "Data",
    "Frame",
    "FrameType",
    "GoAway",
    "GoAwayStatus",
    "HeadersFrame",
    "Ping",
    "RstStatus",
    "RstStream",
    "Setting",
    "SettingId",
    "Settings",
    "SynReply",
    "SynStream",
    "WindowUpdate",
    "control_frame",
    "data_header",
    "number_frame",
    "pair_frame",
    "settings_frame",
    "stream_block",
    "syn_stream_block",
]

VERSION: Final = 3
FLAG_FIN: Final = 0x01
FLAG_UNIDIRECTIONAL: Final = 0x02
MAX_STREAM_ID: Final = 0x7FFFFFFF
MAX_WINDOW: Final = 0x7FFFFFFF
#: Bytes of one frame's payload: its length has 24 bits.
MAX_DATA: Final = 0xFFFFFF


class FrameType(IntEnum):
    """Types of control frames. NOOP (5) and CREDENTIAL (10) are of other versions; they are skipped as unknown ones."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class RstStatus(IntEnum):
    """Why a stream is reset."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7
    STREAM_IN_USE = 8
    STREAM_ALREADY_CLOSED = 9
    INVALID_CREDENTIALS = 10
    FRAME_TOO_LARGE = 11


class GoAwayStatus(IntEnum):
    """Why a session ends."""

    OK = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


class SettingId(IntEnum):
    """Settings that mean something here."""

    MAX_CONCURRENT_STREAMS = 4
    INITIAL_WINDOW_SIZE = 7


class SynStream(Struct, frozen=True):
    """A peer opens a stream. ``associated`` is the stream it belongs to, 0 for none; priority 0 is the highest."""

    stream_id: int
    associated: int
    priority: int
    fin: bool
    unidirectional: bool
    headers: Headers


class SynReply(Struct, frozen=True):
    """A peer accepts a stream."""

    stream_id: int
    fin: bool
    headers: Headers


class HeadersFrame(Struct, frozen=True):
    """More headers of a stream."""

    stream_id: int
    fin: bool
    headers: Headers


class RstStream(Struct, frozen=True):
    """A stream ends at once, in both directions. The status need not be one of ``RstStatus``."""

    stream_id: int
    status: int


class Setting(NamedTuple):
    """One entry of a SETTINGS frame."""

    id: int
    value: int
    flags: int = 0


class Settings(Struct, frozen=True):
    """A peer's settings."""

    settings: tuple[Setting, ...]


class Ping(Struct, frozen=True):
    """To be sent back as it is, if it is not our own."""

    ping_id: int


class GoAway(Struct, frozen=True):
    """A peer accepts no more streams; ``last_stream_id`` is the last one of ours that it has taken."""

    last_stream_id: int
    status: int


class WindowUpdate(Struct, frozen=True):
    """A peer has room for ``delta`` more bytes on a stream; stream 0 is the session."""

    stream_id: int
    delta: int


class Data(Struct, frozen=True):
    """A part of a DATA frame: frames are passed on as their bytes come. ``fin`` comes with the last part."""

    stream_id: int
    data: memoryview
    fin: bool


Frame: TypeAlias = SynStream | SynReply | HeadersFrame | RstStream | Settings | Ping | GoAway | WindowUpdate | Data

_CONTROL: Final = struct.Struct(">HHI")
_DATA: Final = struct.Struct(">II")
_PAIR: Final = struct.Struct(">HHIII")
_NUMBER: Final = struct.Struct(">HHII")
_SYN_STREAM: Final = struct.Struct(">IIBB")


def control_frame(kind: FrameType, flags: int, payload: Buffer) -> bytes:
    """Any control frame."""
    return _CONTROL.pack(0x8000 | VERSION, kind, flags << 24 | len(payload)) + payload


def data_header(stream_id: int, length: int, fin: bool) -> bytes:
    """What comes before the payload of a DATA frame."""
    return _DATA.pack(stream_id, FLAG_FIN << 24 | length if fin else length)


def pair_frame(kind: FrameType, first: int, second: int) -> bytes:
    """RST_STREAM, GOAWAY, WINDOW_UPDATE: two numbers."""
    return _PAIR.pack(0x8000 | VERSION, kind, 8, first, second)


def number_frame(kind: FrameType, number: int) -> bytes:
    """PING: one number."""
    return _NUMBER.pack(0x8000 | VERSION, kind, 4, number)


def settings_frame(settings: Sequence[Setting]) -> bytes:
    """SETTINGS."""
    entries = b"".join(_DATA.pack(s.flags << 24 | s.id, s.value) for s in settings)
    return control_frame(FrameType.SETTINGS, 0, len(settings).to_bytes(4, "big") + entries)


def syn_stream_block(stream_id: int, associated: int, priority: int, block: bytes) -> bytes:
    """The payload of SYN_STREAM; ``block`` are its compressed headers."""
    return _SYN_STREAM.pack(stream_id, associated, priority << 5, 0) + block


def stream_block(stream_id: int, block: bytes) -> bytes:
    """The payload of SYN_REPLY and HEADERS."""
    return stream_id.to_bytes(4, "big") + block

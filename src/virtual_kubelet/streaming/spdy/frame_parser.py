"""From bytes, in any pieces, to SPDY/3.1 frames."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from virtual_kubelet.errors import SpdyError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.spdy.frames import (
    FLAG_FIN,
    FLAG_UNIDIRECTIONAL,
    MAX_STREAM_ID,
    VERSION,
    Data,
    Frame,
    FrameType,
    GoAway,
    HeadersFrame,
    Ping,
    RstStream,
    Setting,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
)
from virtual_kubelet.streaming.spdy.header_block import HeaderDecompressor

__all__ = ["FrameParser", "ParserLimits"]


@dataclass(frozen=True, slots=True)
class ParserLimits:
    """What a peer's frames may cost; crossing one ends the session with ``SpdyError``.

    Attributes:
        max_control_bytes: payload of one control frame that is read (headers compressed). Frames of unknown types are
            skipped, whatever their length. Payload of DATA frames is never held.
        max_header_bytes: one header block, expanded. Kubernetes' are below 200 bytes; Go's reader takes a megabyte.
        max_headers: names in one header block.
        max_settings: entries in one SETTINGS frame.
    """

    max_control_bytes: int = 64 * 1024
    max_header_bytes: int = 64 * 1024
    max_headers: int = 128
    max_settings: int = 64


#: Fixed lengths, and the least one of the others.
_FIXED: Final = {FrameType.RST_STREAM: 8, FrameType.PING: 4, FrameType.GOAWAY: 8, FrameType.WINDOW_UPDATE: 8}
_LEAST: Final = {FrameType.SYN_STREAM: 10, FrameType.SYN_REPLY: 4, FrameType.HEADERS: 4, FrameType.SETTINGS: 4}
_KNOWN: Final = frozenset(FrameType)
_HEADER: Final = struct.Struct(">II")
_PAIR: Final = struct.Struct(">II")


class FrameParser:
    """Reads the frames that one side sends. After an error it must not be fed again."""

    def __init__(self, limits: ParserLimits | None = None) -> None:
        self._limits = limits or ParserLimits()
        self._headers = HeaderDecompressor(
            max_bytes=self._limits.max_header_bytes, max_headers=self._limits.max_headers
        )
        self._partial = bytearray()  # of a header, or of a control frame's payload
        self._control: tuple[FrameType, int, int] | None = None  # type, flags, length of the frame being read
        self._stream_id = 0
        self._fin = False
        self._left = 0  # bytes still to come of a DATA frame
        self._skip = 0  # or of one that means nothing to us

    @property
    def held(self) -> int:
        """Bytes held back because their frame is not whole."""
        return len(self._partial)

    def feed(self, data: Buffer) -> Iterator[Frame]:
        """The frames that end, and the parts of DATA frames that lie, within ``data``. Views of it, not copies.

        To be iterated to its end before the next call. Raises ``SpdyError`` after the frames before the mistake.
        """
        view = memoryview(data).toreadonly()
        position, end = 0, len(view)
        while position < end:
            if self._left:
                position, part = self._take_data(view, position, end)
                yield part
            elif self._skip:
                step = min(self._skip, end - position)
                self._skip -= step
                position += step
            elif self._control is not None:
                kind, flags, length = self._control
                position = self._fill(view, position, length)
                if len(self._partial) == length:
                    yield self._end_control(kind, flags)
            elif not self._partial and end - position >= 8:
                frame = self._begin(view[position : position + 8])
                position += 8
                if frame is not None:
                    yield frame
            else:
                position = self._fill(view, position, 8)
                if len(self._partial) == 8:
                    head = bytes(self._partial)
                    self._partial.clear()
                    frame = self._begin(head)
                    if frame is not None:
                        yield frame

    def _fill(self, view: memoryview, position: int, length: int) -> int:
        step = min(length - len(self._partial), len(view) - position)
        self._partial += view[position : position + step]
        return position + step

    def _take_data(self, view: memoryview, position: int, end: int) -> tuple[int, Data]:
        step = min(self._left, end - position)
        self._left -= step
        return position + step, Data(self._stream_id, view[position : position + step], self._fin and not self._left)

    def _begin(self, head: Buffer) -> Data | None:
        """Act on the eight bytes that every frame begins with; an empty DATA frame is whole with them."""
        first, second = _HEADER.unpack(head)
        flags, length = second >> 24, second & 0xFFFFFF
        if not first & 0x80000000:
            if not first:
                raise SpdyError("a DATA frame is for stream 0")
            self._stream_id, self._left, self._fin = first, length, bool(flags & FLAG_FIN)
            return None if length else Data(first, memoryview(b""), self._fin)
        if first >> 16 & 0x7FFF != VERSION:
            raise SpdyError("a control frame is not of SPDY version 3")
        kind = first & 0xFFFF
        if kind not in _KNOWN:
            self._skip = length
            return None
        kind = FrameType(kind)
        fixed = _FIXED.get(kind)
        if length != fixed if fixed is not None else length < _LEAST[kind]:
            raise SpdyError(f"a {kind.name} frame has {length} bytes")
        if length > self._limits.max_control_bytes:
            raise SpdyError(f"a {kind.name} frame has more than {self._limits.max_control_bytes} bytes")
        self._control = (kind, flags, length)
        return None

    def _end_control(self, kind: FrameType, flags: int) -> Frame:
        payload = bytes(self._partial)
        self._partial.clear()
        self._control = None
        if kind is FrameType.PING:
            return Ping(int.from_bytes(payload, "big"))
        if kind is FrameType.SETTINGS:
            return self._settings(payload)
        stream_id = int.from_bytes(payload[:4], "big") & MAX_STREAM_ID
        if kind in _FIXED:
            number = int.from_bytes(payload[4:], "big")
            if kind is FrameType.RST_STREAM:
                return RstStream(stream_id, number)
            if kind is FrameType.GOAWAY:
                return GoAway(stream_id, number)
            return WindowUpdate(stream_id, number & 0x7FFFFFFF)
        if not stream_id:
            raise SpdyError(f"a {kind.name} frame is for stream 0")
        fin = bool(flags & FLAG_FIN)
        if kind is FrameType.SYN_STREAM:
            associated = int.from_bytes(payload[4:8], "big") & MAX_STREAM_ID
            headers = self._headers.decompress(payload[10:])
            return SynStream(stream_id, associated, payload[8] >> 5, fin, bool(flags & FLAG_UNIDIRECTIONAL), headers)
        headers = self._headers.decompress(payload[4:])
        return (SynReply if kind is FrameType.SYN_REPLY else HeadersFrame)(stream_id, fin, headers)

    def _settings(self, payload: bytes) -> Settings:
        count = int.from_bytes(payload[:4], "big")
        if count > self._limits.max_settings:
            raise SpdyError(f"a SETTINGS frame has more than {self._limits.max_settings} entries")
        if len(payload) != 4 + 8 * count:
            raise SpdyError("a SETTINGS frame is not as long as its entries")
        return Settings(
            tuple(Setting(first & 0xFFFFFF, value, first >> 24) for first, value in _PAIR.iter_unpack(payload[4:]))
        )

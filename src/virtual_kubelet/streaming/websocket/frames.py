"""WebSocket frames (RFC 6455, section 5): how they are written, masked, and read in any pieces. No extensions."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from virtual_kubelet.errors import WebSocketError
from virtual_kubelet.streaming.buffers import Buffer

__all__ = ["ControlFrame", "FrameParser", "Opcode", "Payload", "apply_mask", "frame_header"]


class Opcode(IntEnum):
    """What a frame is."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


_mask_in_place: Callable[[bytes, bytearray], None] | None
try:  # what aiohttp's own WebSockets use, written in C: 15 times as fast
    _mask_in_place = importlib.import_module("aiohttp._websocket.mask")._websocket_mask_cython
except (ImportError, AttributeError):  # it is not public, and not everywhere
    _mask_in_place = None

_FIN: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_CONTROL: Final = 0x08
_MAX_CONTROL: Final = 125
_OPCODES: Final = frozenset(Opcode)
#: Masking goes over so many bytes at a time: a repeated mask is the mask times this number.
_STRIDE: Final = 16 * 1024
_ONES: Final = int.from_bytes(b"\x01\x00\x00\x00" * (_STRIDE // 4), "little")


@dataclass(frozen=True, slots=True)
class Payload:
    """A part of a data frame: frames are passed on as their bytes come.

    Attributes:
        data: its bytes: a view of what was received if the frame was not masked.
        opcode: TEXT, BINARY, or CONTINUATION.
        frame_start: whether the frame begins with this part.
        frame_end: whether the frame ends with this part.
        fin: whether that frame is its message's last.
    """

    data: Buffer
    opcode: Opcode
    frame_start: bool
    frame_end: bool
    fin: bool


@dataclass(frozen=True, slots=True)
class ControlFrame:
    """CLOSE, PING or PONG; at most 125 bytes."""

    opcode: Opcode
    payload: bytes


Frame: TypeAlias = Payload | ControlFrame


def frame_header(opcode: Opcode, length: int, *, fin: bool = True, mask: bytes | None = None) -> bytes:
    """What comes before a frame's payload; ``mask`` has four bytes."""
    first = (_FIN if fin else 0) | opcode
    masked = 0 if mask is None else _MASKED
    if length < 126:
        head = bytes((first, masked | length))
    elif length < 1 << 16:
        head = struct.pack(">BBH", first, masked | 126, length)
    else:
        head = struct.pack(">BBQ", first, masked | 127, length)
    return head if mask is None else head + mask


def apply_mask(data: Buffer, mask: bytes, offset: int = 0) -> bytes | bytearray:
    """XOR ``data`` with the mask repeated; ``offset`` is where in its frame's payload it begins."""
    shift = offset % 4
    mask = mask[shift:] + mask[:shift]
    if _mask_in_place is not None:
        masked = bytearray(data)
        _mask_in_place(mask, masked)
        return masked
    factor = int.from_bytes(mask, "little")
    length = len(data)
    if length < _STRIDE:
        return _xor(data, factor * (_ONES >> 8 * (_STRIDE - (length + 3 & ~3))))
    repeated = factor * _ONES
    view = memoryview(data)
    return b"".join([_xor(view[start : start + _STRIDE], repeated) for start in range(0, length, _STRIDE)])


def _xor(data: Buffer, repeated: int) -> bytes:
    length = len(data)
    if length < _STRIDE:
        repeated &= (1 << 8 * length) - 1
    return (int.from_bytes(data, "little") ^ repeated).to_bytes(length, "little")


class FrameParser:
    """Reads the frames that one side sends. After an error it must not be fed again."""

    def __init__(self, *, masked: bool) -> None:
        """``masked``: whether the peer's frames must be masked (a client's) or must not (a server's)."""
        self._masked = masked
        self._head = bytearray()
        self._wanted = 2  # bytes of the header, as far as is known
        self._control: Opcode | None = None
        self._payload = bytearray()  # of a control frame
        self._opcode = Opcode.CONTINUATION
        self._fin = False
        self._mask: bytes | None = None
        self._length = 0
        self._done = 0  # bytes of the payload that have come
        self._in_payload = False

    @property
    def held(self) -> int:
        """Bytes held back because their frame is not whole."""
        return len(self._head) + len(self._payload)

    def feed(self, data: Buffer) -> Iterator[Frame]:
        """The control frames that end, and the parts of data frames that lie, within ``data``.

        To be iterated to its end before the next call. Raises ``WebSocketError`` after the frames before the mistake.
        """
        view = memoryview(data).toreadonly()
        position, end = 0, len(view)
        while position < end:
            if not self._in_payload:
                step = min(self._wanted - len(self._head), end - position)
                self._head += view[position : position + step]
                position += step
                if len(self._head) < self._wanted or not self._parse_header():
                    continue
            step = min(self._length - self._done, end - position)
            part = view[position : position + step]
            position += step
            if self._length and not step:
                return
            if self._control is None:
                piece: Buffer = part if self._mask is None else apply_mask(part, self._mask, self._done)
                start = not self._done
                self._done += step
                yield Payload(piece, self._opcode, start, self._end_of_frame(), self._fin)
            else:
                self._payload += part
                self._done += step
                opcode = self._control
                if self._end_of_frame():
                    payload = bytes(self._payload)
                    self._payload.clear()
                    yield ControlFrame(
                        opcode, payload if self._mask is None else bytes(apply_mask(payload, self._mask))
                    )

    def _end_of_frame(self) -> bool:
        whole = self._done == self._length
        if whole:
            self._in_payload = False
        return whole

    def _parse_header(self) -> bool:
        """Whether the header is whole; if not, ``_wanted`` says how long it is going to be."""
        head = self._head
        if self._wanted == 2:
            self._check_first(head[0], head[1])
            length = head[1] & 0x7F
            self._wanted += {126: 2, 127: 8}.get(length, 0) + (4 if self._masked else 0)
            if len(head) < self._wanted:
                return False
        length = head[1] & 0x7F
        end = self._wanted - (4 if self._masked else 0)
        if length >= 126:
            short, length = length == 126, int.from_bytes(head[2:end], "big")
            if length < (126 if short else 1 << 16) or length >> 63:
                raise WebSocketError("a frame's length is not written as it must be")
        self._mask = bytes(head[end:]) if self._masked else None
        self._length, self._done = length, 0
        self._in_payload = True
        self._head.clear()
        self._wanted = 2
        return True

    def _check_first(self, first: int, second: int) -> None:
        if first & _RESERVED:
            raise WebSocketError("a frame has reserved bits set, but no extension was agreed on")
        code = first & 0x0F
        if code not in _OPCODES:
            raise WebSocketError(f"a frame has the reserved opcode {code}")
        if bool(second & _MASKED) != self._masked:
            raise WebSocketError("a frame is not masked" if self._masked else "a frame is masked")
        opcode, self._fin = Opcode(code), bool(first & _FIN)
        if code & _CONTROL:
            if not self._fin:
                raise WebSocketError("a control frame is fragmented")
            if second & 0x7F > _MAX_CONTROL:
                raise WebSocketError(f"a control frame has more than {_MAX_CONTROL} bytes")
            self._control = opcode
        else:
            self._control = None
            self._opcode = opcode

"""Lines of a container's log, out of the engine's frames. Pure.

With a terminal the engine sends text; without, frames of eight bytes and a message, each a line or a part of a long one.
Every message begins with its time. Parts of one line (longer than 16 KiB, or written bit by bit with Podman) are joined.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from virtual_kubelet import LogLine

__all__ = ["LogStream", "time_of"]

_HEADER: Final = struct.Struct(">BxxxL")
#: Bytes. Docker writes longer lines in parts.
_PART: Final = 16 * 1024
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Nothing that an engine writes is longer; a line without end is given in parts of this size.
_LONGEST: Final = 1024 * 1024


class LogStream:
    """Feed it bytes, take lines; ``rest`` at the end."""

    def __init__(self, *, tty: bool) -> None:
        self._tty = tty
        self._buffer = bytearray()
        self._parts: dict[int, tuple[int, bytearray]] = {}

    def feed(self, data: bytes) -> Iterator[LogLine]:
        for stream, message in self.messages(data):
            yield from self._take(stream, message)

    def messages(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """As the engine sends them: (1 or 2 for stdout or stderr, time and text)."""
        self._buffer += data
        while (message := self._message()) is not None:
            yield message

    def rest(self) -> Iterator[LogLine]:
        """What the container wrote last, without a newline."""
        if self._tty and self._buffer:
            yield from self._take(1, bytes(self._buffer))
            self._buffer.clear()
        for at, line in self._parts.values():
            if line:
                yield LogLine(at, bytes(line))
        self._parts.clear()

    def _message(self) -> tuple[int, bytes] | None:
        if self._tty:
            end = self._buffer.find(b"\n") + 1
            if not end:
                return None
            text = bytes(self._buffer[:end])
            del self._buffer[:end]
            return 1, text
        if len(self._buffer) < _HEADER.size:
            return None
        stream, length = _HEADER.unpack_from(self._buffer)
        if len(self._buffer) < _HEADER.size + length:
            return None
        text = bytes(self._buffer[_HEADER.size : _HEADER.size + length])
        del self._buffer[: _HEADER.size + length]
        return stream, text

    def _take(self, stream: int, message: bytes) -> Iterator[LogLine]:
        stamp, _, text = message.partition(b" ")
        at = time_of(stamp)
        if at is None:
            at, text = 0, message
        if self._tty:
            text = _without_times(text)
        known = self._parts.pop(stream, None)
        if known is not None:
            at, line = known
            line += text
        else:
            line = bytearray(text)
        if line.endswith(b"\n") or len(line) >= _LONGEST:
            yield LogLine(at, bytes(line))
        else:
            self._parts[stream] = at, line


def _without_times(text: bytes) -> bytes:
    """A long line of a terminal: its parts of 16 KiB are not framed, and each has its time before it."""
    parts = []
    while len(text) > _PART:
        parts.append(text[:_PART])
        stamp, space, _ = text[_PART : _PART + 64].partition(b" ")
        inside = bool(space) and time_of(stamp) is not None
        text = text[_PART + len(stamp) + 1 :] if inside else text[_PART:]
    return b"".join([*parts, text])


def time_of(stamp: bytes) -> int | None:
    """Nanoseconds since the epoch of an RFC 3339 time; None if it is none."""
    try:
        text = stamp.decode("ascii")
        main, dot, rest = text.partition(".")
        if not dot:
            moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
            return int((moment - _EPOCH).total_seconds()) * 1_000_000_000
        digits = rest.rstrip("Z") if rest.endswith("Z") else rest[:-6]
        zone = "+00:00" if rest.endswith("Z") else rest[-6:]
        moment = datetime.fromisoformat(main + zone)
        return int((moment - _EPOCH).total_seconds()) * 1_000_000_000 + int(digits.ljust(9, "0")[:9])
    except (UnicodeDecodeError, ValueError, TypeError):
        return None

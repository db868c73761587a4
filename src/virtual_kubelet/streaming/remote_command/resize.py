"""The resize stream: JSON objects ``{"Width":80,"Height":24}`` one after the other, in any pieces."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.streaming.buffers import Buffer

__all__ = ["ResizeParser", "TerminalSize", "encode_size"]

_MAX_SIZE: Final = 0xFFFF


class TerminalSize(NamedTuple):
    """Columns and rows; kubectl sends 0 and 0 where it has no terminal itself."""

    width: int
    height: int


def encode_size(size: TerminalSize) -> bytes:
    """One message of the resize stream, as client-go writes it."""
    return json.dumps({"Width": size.width, "Height": size.height}, separators=(",", ":")).encode() + b"\n"


class ResizeParser:
    """Reads a resize stream. After an error it must not be fed again."""

    def __init__(self, *, max_message: int = 1024) -> None:
        """``max_message``: bytes of one message; client-go's have at most 32."""
        self._max_message = max_message
        self._partial = b""

    def feed(self, data: Buffer) -> list[TerminalSize]:
        """The sizes that end within ``data``. Raises ``ProtocolError`` for what is none, or is too long."""
        sizes: list[TerminalSize] = []
        text = self._partial + data
        start = 0
        # Objects hold nothing but two numbers: the next brace ends one.
        while (end := text.find(b"}", start)) >= 0:
            if end + 1 - start > self._max_message:
                break
            sizes.append(_size(text[start : end + 1]))
            start = end + 1
        self._partial = text[start:].lstrip(b" \t\r\n")
        if len(self._partial) > self._max_message:
            raise ProtocolError(f"a resize message has more than {self._max_message} bytes")
        return sizes


def _size(text: bytes) -> TerminalSize:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError("a resize message is not JSON") from None
    if not isinstance(found, dict):
        raise ProtocolError("a resize message is no object")
    fields = {key.lower(): value for key, value in found.items()}  # as Go's decoder does
    size = TerminalSize(fields.get("width", 0), fields.get("height", 0))
    if not all(type(number) is int and 0 <= number <= _MAX_SIZE for number in size):
        raise ProtocolError("a resize message has no size of a terminal")
    return size

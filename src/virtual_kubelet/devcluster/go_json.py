"""JSON read as Go's decoder reads it, and what that says about text which is no JSON. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

__all__ = ["NotJson", "decode_go_json", "json_problem"]

_MOST_NESTED: Final = 10_000
_SPACE: Final = b" \t\r\n"
_DIGITS: Final = b"0123456789"


#: Escapes in the order of the text: a backslash, a whole surrogate pair, or half of one (the group).
_ESCAPES: Final = re.compile(r"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)")
_decoder: Final = msgspec.json.Decoder()


class NotJson(Exception):
    """Text that is no JSON; the message is Go's."""


class _Problem(Exception):
    pass


def decode_go_json(data: bytes) -> Any:
    """``data`` as plain values; bytes that are no UTF-8 become U+FFFD, as in Go. Raises ``NotJson``."""
    try:
        return _decoder.decode(data)
    except RecursionError:
        raise NotJson(json_problem(data) or "exceeded max depth") from None
    except (msgspec.DecodeError, ValueError) as error:
        problem = json_problem(data)
        if problem:
            raise NotJson(problem) from None
        mended = _ESCAPES.sub(_mend, data.decode(errors="replace")).encode()
        if mended == data:
            raise NotJson(str(error)) from None
        return decode_go_json(mended)


def _mend(escape: re.Match[str]) -> str:
    """Half a surrogate pair is no character either."""
    return "\\ufffd" if escape.group(1) else escape.group()


def json_problem(data: bytes) -> str:
    """The first problem in ``data``, as Go's ``encoding/json`` words it; empty: it is JSON (to Go)."""
    try:
        _Scanner(data).scan()
    except _Problem as problem:
        return str(problem)
    return ""


class _Scanner:
    """One pass without recursion: what is open is on a list."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def scan(self) -> None:
        open_: list[int] = []  # of { and [
        state = "value"
        while True:
            byte = self._skip_space()
            if byte is None:
                if state == "end" and not open_:
                    return
                raise _Problem("unexpected end of JSON input")
            if state == "end":
                if not open_:
                    raise self._invalid("after top-level value")
                state = self._after_value(byte, open_)
            elif state in ("key", "first key"):
                if byte == 0x7D and state == "first key":
                    self._at += 1
                    open_.pop()
                    state = "end"
                elif byte == 0x22:
                    self._string()
                    if self._skip_space() != 0x3A:
                        raise self._invalid("after object key")
                    self._at += 1
                    state = "value"
                else:
                    raise self._invalid("looking for beginning of object key string")
            elif byte == 0x5D and state == "first value":
                self._at += 1
                open_.pop()
                state = "end"
            elif byte in b"{[":
                open_.append(byte)
                if len(open_) > _MOST_NESTED:
                    raise self._invalid("exceeded max depth")
                self._at += 1
                state = "first key" if byte == 0x7B else "first value"
            else:
                self._scalar(byte)
                state = "end"

    def _after_value(self, byte: int, open_: list[int]) -> str:
        self._at += 1
        in_object = open_[-1] == 0x7B
        if byte == 0x2C:
            return "key" if in_object else "value"
        if byte == (0x7D if in_object else 0x5D):
            open_.pop()
            return "end"
        self._at -= 1
        raise self._invalid("after object key:value pair" if in_object else "after array element")

    def _skip_space(self) -> int | None:
        data = self._data
        while self._at < len(data) and data[self._at] in _SPACE:
            self._at += 1
        return data[self._at] if self._at < len(data) else None

    def _invalid(self, where: str) -> _Problem:
        if self._at >= len(self._data):
            return _Problem("unexpected end of JSON input")
        byte = self._data[self._at]
        shown = {0x27: "'\\''", 0x22: "'\"'", 0x0A: "'\\n'", 0x09: "'\\t'", 0x0D: "'\\r'", 0x5C: "'\\\\'"}.get(byte)
        if shown is None:
            if byte < 0x20 or byte == 0x7F:
                shown = f"'\\x{byte:02x}'"
            else:
                shown = f"'{chr(byte)}'"
        return _Problem(f"invalid character {shown} {where}")

    def _scalar(self, byte: int) -> None:
        if byte == 0x22:
            self._string()
        elif byte in b"-0123456789":
            self._number()
        elif byte in b"tfn":
            self._literal({0x74: b"true", 0x66: b"false", 0x6E: b"null"}[byte])
        else:
            raise self._invalid("looking for beginning of value")

    def _literal(self, word: bytes) -> None:
        for index, expected in enumerate(word):
            if self._at >= len(self._data) or self._data[self._at] != expected:
                raise self._invalid(f"in literal {word.decode()} (expecting '{chr(word[index])}')")
            self._at += 1

    def _number(self) -> None:
        self._take(b"-")
        if self._take(b"0"):
            pass
        elif not self._digits():
            raise self._invalid("in numeric literal")
        if self._take(b".") and not self._digits():
            raise self._invalid("after decimal point in numeric literal")
        if self._take(b"eE"):
            self._take(b"+-")
            if not self._digits():
                raise self._invalid("in exponent of numeric literal")

    def _take(self, characters: bytes) -> bool:
        if self._at < len(self._data) and self._data[self._at] in characters:
            self._at += 1
            return True
        return False

    def _digits(self) -> bool:
        start = self._at
        while self._at < len(self._data) and self._data[self._at] in _DIGITS:
            self._at += 1
        return self._at > start

    def _string(self) -> None:
        data = self._data
        self._at += 1
        while self._at < len(data):
            byte = data[self._at]
            if byte == 0x22:
                self._at += 1
                return
            if byte == 0x5C:
                self._at += 1
                if self._at < len(data) and data[self._at] == 0x75:
                    for _ in range(4):
                        self._at += 1
                        if self._at >= len(data) or data[self._at] not in b"0123456789abcdefABCDEF":
                            raise self._invalid("in \\u hexadecimal character escape")
                elif self._at >= len(data) or data[self._at] not in b'bfnrt\\/"':
                    raise self._invalid("in string escape code")
            elif byte < 0x20:
                raise self._invalid("in string literal")
            self._at += 1
        raise _Problem("unexpected end of JSON input")

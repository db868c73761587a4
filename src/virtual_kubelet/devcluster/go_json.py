"""JSON read as Go's decoder reads it, and what that says about text which is no JSON. Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec

__all__ = ["NotJson", "decode_go_json", "decode_shallow", "json_problem", "repeated_fields"]

_MOST_NESTED: Final = 10_000
#: Levels that are kept of what Python cannot nest.
_KEPT: Final = 200
_SPACE: Final = b" \t\r\n"
_DIGITS: Final = b"0123456789"


#: Escapes in the order of the text: a backslash, a whole surrogate pair, or half of one (the group).
_ESCAPES: Final = re.compile(r"\\\\|\\u[dD][89abAB]..\\u[dD][c-fC-F]..|(\\u[dD][89a-fA-F]..)")
_decoder: Final = msgspec.json.Decoder()
_encoder: Final = msgspec.json.Encoder()


class NotJson(Exception):
    """Text that is no JSON; the message is Go's."""


class _Problem(Exception):
    pass


def decode_go_json(data: bytes) -> Any:
    """``data`` as plain values; bytes that are no UTF-8 become U+FFFD, as in Go. Raises ``NotJson``.

    Of data that is nested too deep for Python, but not for Go, objects and lists are empty from some depth on, in which
    no type of Kubernetes has a field.
    """
    try:
        return _decoder.decode(data)
    except RecursionError:
        return decode_shallow(data)
    except (msgspec.DecodeError, ValueError) as error:
        problem = json_problem(data)
        if problem:
            raise NotJson(problem) from None
        mended = _ESCAPES.sub(_mend, data.decode(errors="replace")).encode()
        if mended == data:
            raise NotJson(str(error)) from None
        return decode_go_json(mended)


class _Repeated(Exception):
    pass


def decode_shallow(data: bytes) -> Any:
    """``data``, with objects and lists that are empty from some depth on. Raises ``NotJson``."""
    scanner = _Scanner(data)
    try:
        scanner.scan()
    except _Problem as problem:
        raise NotJson(str(problem)) from None
    parts: list[bytes] = []
    at = 0
    for begin, end in scanner.deep:
        parts.append(data[at : begin + 1])
        at = end - 1
    return decode_go_json(b"".join([*parts, data[at:]]))


class _Pairs(list[tuple[str, Any]]):
    """An object with all of its keys."""


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _Repeated


_strict: Final = json.JSONDecoder(object_pairs_hook=_refuse_repeated)
_paired: Final = json.JSONDecoder(object_pairs_hook=_Pairs)


def repeated_fields(data: bytes, value: Any) -> list[str]:
    """Sentences about keys that one object of ``data`` (which is JSON) has twice: the last of them counts.

    ``value`` is what was read from it.
    """
    if b"\\" not in data:  # then all quotes are those of keys and strings, of which a repeated key takes its own away
        try:
            if _encoder.encode(value).count(b'"') == data.count(b'"'):
                return []  # nothing was lost by reading it: the usual case, told without a call for each object
        except (ValueError, RecursionError):  # msgspec.DecodeError is one; others say so
            pass
    text = data.decode(errors="replace")
    try:
        _strict.decode(text)
    except _Repeated:
        found: list[str] = []
        _find_repeated(_paired.decode(text), "", found)
        return found
    except (ValueError, RecursionError):  # JSON to Go only, or nested deeper than any object: others say so
        pass
    return []


def _find_repeated(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, item in value:
            where = f"{path}.{key}" if path else key
            if key in seen:
                found.append(f'duplicate field "{where}"')
            seen.add(key)
            _find_repeated(item, where, found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _find_repeated(item, f"{path}[{index}]", found)


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


_SHORT: Final = dict(zip(b"\a\b\t\n\v\f\r'\\", "abtnvfr'\\", strict=True))


def _shown(byte: int) -> str:
    """As Go quotes the character of this number."""
    if byte in _SHORT:
        return "\\" + _SHORT[byte]
    if byte < 0x20 or byte == 0x7F:
        return f"\\x{byte:02x}"
    # Those above are taken for Latin-1; not all of it can be printed.
    return f"\\u{byte:04x}" if 0x80 <= byte <= 0xA0 or byte == 0xAD else chr(byte)


class _Scanner:
    """One pass without recursion: what is open is on a list."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        #: Where objects and lists of more than ``_KEPT`` levels begin and end, the brackets included.
        self.deep: list[tuple[int, int]] = []
        self._deep_from = 0

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
                    self._close(open_)
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
                self._close(open_)
                state = "end"
            elif byte in b"{[":
                open_.append(byte)
                if len(open_) > _MOST_NESTED:
                    raise self._invalid("exceeded max depth")
                if len(open_) == _KEPT:
                    self._deep_from = self._at
                self._at += 1
                state = "first key" if byte == 0x7B else "first value"
            else:
                self._scalar(byte)
                state = "end"

    def _close(self, open_: list[int]) -> None:
        self._at += 1
        if len(open_) == _KEPT:
            self.deep.append((self._deep_from, self._at))
        open_.pop()

    def _after_value(self, byte: int, open_: list[int]) -> str:
        in_object = open_[-1] == 0x7B
        if byte == 0x2C:
            self._at += 1
            return "key" if in_object else "value"
        if byte == (0x7D if in_object else 0x5D):
            self._close(open_)
            return "end"
        raise self._invalid("after object key:value pair" if in_object else "after array element")

    def _skip_space(self) -> int | None:
        data = self._data
        while self._at < len(data) and data[self._at] in _SPACE:
            self._at += 1
        return data[self._at] if self._at < len(data) else None

    def _invalid(self, where: str) -> _Problem:
        if self._at >= len(self._data):
            return _Problem("unexpected end of JSON input")
        return _Problem(f"invalid character '{_shown(self._data[self._at])}' {where}")

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

"""HTTP/1.1 of one connection, as h11 speaks it, with a short way for plain requests. No I/O.

Nearly all requests arrive whole, in one piece, and are answered whole: for those h11's care costs more than everything
else that is done about them. What is not certainly plain (an unusual head, an unknown length, a body in parts, a
streamed answer, an upgrade, an error) takes h11's way from its first byte on, so that h11 decides all that is doubtful.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import h11

__all__ = ["ServerConnection"]

_REQUEST_LINE: Final = re.compile(rb"(DELETE|GET|PATCH|POST|PUT) (/[!-~]*) HTTP/1\.1")
#: A field of RFC 9110, without leading or trailing white space in its value.
_FIELD: Final = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+):[ \t]*([!-~\x80-\xff]+(?:[ \t]+[!-~\x80-\xff]+)*)[ \t]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,10}")
#: Fields that change how a message is read, or what becomes of its connection: h11 knows what to make of them.
_DOUBTFUL: Final = frozenset([b"connection", b"expect", b"keep-alive", b"transfer-encoding", b"upgrade"])
#: Never remembered: they are secrets. Browsers have a token among their WebSockets' protocols.
_SECRET: Final = frozenset([b"authorization", b"cookie", b"proxy-authorization", b"sec-websocket-protocol"])
#: Lines of fields that have been read before; clients send the same ones again and again.
_REMEMBERED: Final = 1024
_LONGEST_REMEMBERED: Final = 256
_NO_BODY: Final = frozenset([204, 304])
_END: Final = h11.EndOfMessage()

Field = tuple[bytes, bytes]
_lines: dict[bytes, Field] = {}


def _field(line: bytes) -> Field | None:
    """Name in lower case, and value; None: this is not certainly a plain field."""
    known = _lines.get(line)
    if known is not None:
        return known
    match = _FIELD.fullmatch(line)
    if match is None:
        return None
    field = (match[1].lower(), match[2])
    if field[0] in _DOUBTFUL:
        return None
    if field[0] not in _SECRET and len(line) <= _LONGEST_REMEMBERED:
        if len(_lines) >= _REMEMBERED:
            _lines.clear()
        _lines[line] = field
    return field


def _plain(data: bytes, longest_head: int) -> tuple[h11.Request, bytes] | None:
    """The request that is the whole of ``data``, and its body; None: it is not certainly one."""
    end = data.find(b"\r\n\r\n", 0, longest_head)
    if end < 0:
        return None
    first, *lines = data[:end].split(b"\r\n")
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        return None
    headers: list[Field] = []
    hosts, length = 0, None
    for line in lines:
        field = _field(line)
        if field is None:
            return None
        if field[0] == b"host":
            hosts += 1
        elif field[0] == b"content-length":
            if length is not None or not _LENGTH.fullmatch(field[1]):
                return None
            length = int(field[1])
        headers.append(field)
    body = data[end + 4 :]
    if hosts != 1 or len(body) != (length or 0):
        return None
    request: h11.Request = object.__new__(h11.Request)
    for name, value in (("method", match[1]), ("target", match[2]), ("http_version", b"1.1"), ("headers", headers)):
        object.__setattr__(request, name, value)
    return request, body


@lru_cache(maxsize=256)
def _head_lines(status: int, reason: bytes, headers: tuple[tuple[str, str], ...]) -> bytes | None:
    """A head without date and length, which h11 has found fit to be sent; None: its fields are doubtful.

    Raises ``h11.LocalProtocolError``.
    """
    made = h11.Response(status_code=status, headers=list(headers), reason=reason)
    if any(name in _DOUBTFUL or name in (b"content-length", b"date") for name, _ in made.headers):
        return None
    lines = [b"HTTP/1.1 %d %s" % (status, reason), *(name + b": " + value for name, value in made.headers.raw_items())]
    return b"\r\n".join(lines) + b"\r\n"


class ServerConnection:
    """What ``h11.Connection(h11.SERVER)`` offers, as far as a server needs it."""

    def __init__(self, max_incomplete_event_size: int) -> None:
        """``max_incomplete_event_size``: bytes of a head, or of the size of a chunk, that is not whole yet."""
        self._limit = max_incomplete_event_size
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=max_incomplete_event_size)
        #: The request that takes the short way, as it came; None: h11 has the connection.
        self._raw: bytes | None = None
        self._events: list[h11.Event] = []
        self._taken = 0
        #: What is left of the answer's Content-Length; None: its head has not been sent.
        self._left: int | None = None
        self._done = False
        #: Nothing has been given to h11 that it has not made events of.
        self._clean = True

    def receive_data(self, data: bytes) -> None:
        if self._raw is None and self._clean and self._h11.their_state is h11.IDLE:
            found = _plain(bytes(data), self._limit)
            if found is not None:
                request, body = found
                self._raw, self._left, self._done, self._taken = bytes(data), None, False, 0
                # Taken from the end.
                self._events = [_END, h11.Data(data=body), request] if body else [_END, request]
                return
        self._clean = False
        self._h11.receive_data(data)

    def next_event(self) -> Any:
        if self._raw is not None:
            if not self._events:
                return h11.PAUSED
            self._taken += 1
            return self._events.pop()
        if self._clean:
            return h11.NEED_DATA
        event = self._h11.next_event()
        if event is h11.NEED_DATA and not self._h11.trailing_data[0]:
            self._clean = True
        return event

    def send(self, event: Any) -> bytes | None:
        """The bytes of an event. Raises ``h11.LocalProtocolError`` for one that may not be sent now."""
        if self._raw is None:
            made: bytes | None = self._h11.send(event)
            return made
        if type(event) is h11.Response and self._left is None:
            head = self._head(event)
            if head is not None:
                return head
        elif self._left is not None and type(event) is h11.Data:
            self._left -= len(event.data)
            if self._left < 0:
                raise h11.LocalProtocolError("Too much data for declared Content-Length")
            return bytes(event.data)
        elif self._left is not None and type(event) is h11.EndOfMessage and not self._done:
            if self._left:
                raise h11.LocalProtocolError("Too little data for declared Content-Length")
            self._done = True
            return b""
        self._hand_over()
        return self.send(event)

    def whole_answer(
        self, status: int, reason: bytes, headers: tuple[tuple[str, str], ...], date: str, body: bytes
    ) -> bytes | None:
        """All of an answer at once, which is then sent; None: the short way is not open for it.

        ``headers``: the same ones as in many answers, which are looked at once. Raises ``h11.LocalProtocolError``.
        """
        if self._raw is None or self._left is not None or status in _NO_BODY:
            return None
        lines = _head_lines(status, reason, headers)
        if lines is None:
            return None
        self._left, self._done = 0, True
        return b"%sDate: %s\r\nContent-Length: %d\r\n\r\n%s" % (lines, date.encode("ascii"), len(body), body)

    def _head(self, response: h11.Response) -> bytes | None:
        """A head with a Content-Length and nothing that ends the connection; None: h11 is to make it."""
        length = None
        parts = [b"HTTP/1.1 %d %s\r\n" % (response.status_code, bytes(response.reason))]
        for name, value in response.headers.raw_items():
            lower = name.lower()
            if lower == b"content-length":
                length = int(value)
            elif lower in _DOUBTFUL:
                return None
            parts.append(name + b": " + value + b"\r\n")
        if length is None or response.status_code in _NO_BODY:
            return None
        self._left = length
        parts.append(b"\r\n")
        return b"".join(parts)

    def _hand_over(self) -> None:
        """Let h11 see the request after all, and what came behind it."""
        assert self._raw is not None
        if self._left is not None:
            raise h11.LocalProtocolError("the head of the answer has been sent")
        behind, _ = self._h11.trailing_data
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=self._limit)
        self._h11.receive_data(self._raw)
        if behind:
            self._h11.receive_data(behind)
        self._raw, self._clean = None, False
        for _ in range(self._taken):  # the others are still to come, from there
            self._h11.next_event()

    def start_next_cycle(self) -> None:
        if self._raw is None:
            self._h11.start_next_cycle()
        elif self._done:
            self._raw = None
        else:
            raise h11.LocalProtocolError("not in a reusable state")

    @property
    def our_state(self) -> Any:
        if self._raw is None:
            return self._h11.our_state
        return h11.DONE if self._done else h11.SEND_BODY if self._left is not None else h11.SEND_RESPONSE

    @property
    def their_state(self) -> Any:
        return self._h11.their_state if self._raw is None else h11.SEND_BODY if self._events else h11.DONE

    @property
    def trailing_data(self) -> tuple[bytes, bool]:
        return self._h11.trailing_data

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        return self._raw is None and self._h11.they_are_waiting_for_100_continue

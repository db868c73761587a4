"""HTTP/1.1 of one connection, as h11 speaks it, with a short way for plain requests. No I/O.

Nearly all requests arrive whole, in one piece, and are answered whole: for those h11's care costs more than everything
else that is done about them. What is not certainly plain (an unusual head, an unknown length, a body in parts, a
streamed answer, an upgrade, an error) takes h11's way from its first byte on, so that h11 decides all that is doubtful.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

import h11

from virtual_kubelet.server.http_messages import Headers

__all__ = ["PlainRequest", "ServerConnection"]

_REQUEST_LINE: Final = re.compile(rb"(DELETE|GET|PATCH|POST|PUT) (/[!-~]*) HTTP/1\.1")
#: A field of RFC 9110, without leading or trailing white space in its value.
_FIELD: Final = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+):[ \t]*([!-~\x80-\xff]+(?:[ \t]+[!-~\x80-\xff]+)*)[ \t]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,10}")
#: Fields that change how a message is read, or what becomes of its connection: h11 knows what to make of them.
_DOUBTFUL: Final = frozenset([b"connection", b"expect", b"keep-alive", b"transfer-encoding", b"upgrade"])
#: Never remembered: they are secrets. Browsers have a token among their WebSockets' protocols.
_SECRET: Final = frozenset([b"authorization", b"cookie", b"proxy-authorization", b"sec-websocket-protocol"])
#: Lines of fields, and all lines of a head, that have been read before: clients send the same ones again and again.
_REMEMBERED: Final = 1024
_LONGEST_REMEMBERED: Final = 256
_HEADS_REMEMBERED: Final = 512
_LONGEST_HEAD_REMEMBERED: Final = 1024
_NO_BODY: Final = frozenset([204, 304])
_END: Final = h11.EndOfMessage()

Field = tuple[bytes, bytes]
_lines: dict[bytes, Field] = {}


class _Fields(NamedTuple):
    """The fields of a head, their size as ``max_header_bytes`` counts it, and what their Content-Length says."""

    items: list[Field]
    headers: Headers
    size: int
    length: int


_heads: dict[bytes, _Fields] = {}


class PlainRequest(NamedTuple):
    """A request that came whole."""

    method: bytes
    target: bytes
    fields: _Fields
    body: bytes

    def events(self) -> list[h11.Event]:
        """What h11 would make of it, the last one first."""
        request: h11.Request = object.__new__(h11.Request)
        made = {"method": self.method, "target": self.target, "http_version": b"1.1", "headers": self.fields.items}
        for name, value in made.items():
            object.__setattr__(request, name, value)
        return [_END, h11.Data(data=self.body), request] if self.body else [_END, request]


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


def _fields(lines: bytes) -> _Fields | None:
    """All fields of a head; None: they are not certainly those of a plain request."""
    known = _heads.get(lines)
    if known is not None:
        return known
    items: list[Field] = []
    hosts, length, size, secret = 0, None, 0, False
    for line in lines.split(b"\r\n"):
        field = _field(line)
        if field is None:
            return None
        name, value = field
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            if length is not None or not _LENGTH.fullmatch(value):
                return None
            length = int(value)
        elif name in _SECRET:
            secret = True
        size += len(name) + len(value) + 4
        items.append(field)
    if hosts != 1:
        return None
    found = _Fields(items, Headers(items), size, length or 0)
    if not secret and len(lines) <= _LONGEST_HEAD_REMEMBERED:
        if len(_heads) >= _HEADS_REMEMBERED:
            _heads.clear()
        _heads[lines] = found
    return found


def _plain(data: bytes, longest_head: int) -> PlainRequest | None:
    """The request that is the whole of ``data``; None: it is not certainly one."""
    end = data.find(b"\r\n\r\n", 0, longest_head)
    first = data.find(b"\r\n", 0, end)
    if end < 0 or first < 0:
        return None
    match = _REQUEST_LINE.fullmatch(data, 0, first)
    if match is None:
        return None
    fields = _fields(data[first + 2 : end])
    if fields is None or len(data) - end - 4 != fields.length:
        return None
    return PlainRequest(match[1], match[2], fields, data[end + 4 :])


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
        self._plain: PlainRequest | None = None  # until something of it is taken
        self._events: list[h11.Event] = []
        self._taken = 0
        #: What is left of the answer's Content-Length; None: its head has not been sent.
        self._left: int | None = None
        self._done = False
        #: Nothing has been given to h11 that it has not made events of.
        self._clean = True

    def receive_data(self, data: bytes) -> None:
        if self._raw is None and self._clean and self._h11.their_state is h11.IDLE:
            raw = bytes(data)
            self._plain = _plain(raw, self._limit)
            if self._plain is not None:
                self._raw, self._left, self._done, self._taken = raw, None, False, 0
                return
        self._clean = False
        self._h11.receive_data(data)

    def take_plain(self) -> PlainRequest | None:
        """The request at once, instead of its events; None: it did not come whole, or there is none."""
        plain, self._plain = self._plain, None
        if plain is not None:
            self._taken = 3 if plain.body else 2
        return plain

    def next_event(self) -> Any:
        if self._raw is not None:
            if self._plain is not None:
                self._events, self._plain = self._plain.events(), None
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
        self._raw, self._plain, self._clean = None, None, False
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
        return (
            self._h11.their_state if self._raw is None else h11.SEND_BODY if self._plain or self._events else h11.DONE
        )

    @property
    def trailing_data(self) -> tuple[bytes, bool]:
        return self._h11.trailing_data

    @property
    def they_are_waiting_for_100_continue(self) -> bool:
        return self._raw is None and self._h11.they_are_waiting_for_100_continue

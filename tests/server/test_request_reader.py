"""The short way for plain requests says and does what h11 does, or leaves it to h11."""

from __future__ import annotations

from typing import Any

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from virtual_kubelet.server.request_reader import ServerConnection

LIMIT = 4096
PLAIN = b"POST /a?b=c HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nContent-Length: 3\r\n\r\nabc"
GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


def both() -> tuple[ServerConnection, h11.Connection]:
    return ServerConnection(LIMIT), h11.Connection(h11.SERVER, max_incomplete_event_size=LIMIT)


def shown(event: Any) -> Any:
    if isinstance(event, h11.Request):
        return ("request", event.method, event.target, event.http_version, list(event.headers))
    if isinstance(event, h11.Data):
        return ("data", bytes(event.data))
    return type(event).__name__ if isinstance(event, h11.Event) else event


def events(connection: Any) -> list[Any]:
    """All that it makes of what it has, until it wants more."""
    found: list[Any] = []
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            return [*found, ("error", str(error), error.error_status_hint)]
        if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
            return found
        if found and isinstance(event, h11.Data) and found[-1][0] == "data":
            found[-1] = ("data", found[-1][1] + bytes(event.data))
        else:
            found.append(shown(event))


def answered(connection: Any, status: int = 200, body: bytes = b"hello", more: tuple[str, str] | None = None) -> bytes:
    fields = [("Content-Length", str(len(body))), *([more] if more else [])]
    sent = connection.send(h11.Response(status_code=status, headers=fields, reason=b"OK"))
    sent += connection.send(h11.Data(data=body)) or b""
    return bytes(sent + (connection.send(h11.EndOfMessage()) or b""))


def states(connection: Any) -> tuple[Any, Any]:
    return (connection.our_state, connection.their_state)


def short(connection: ServerConnection) -> bool:
    """Whether h11 has not seen the request."""
    return connection._raw is not None


@pytest.mark.parametrize(
    "data", [PLAIN, GET, GET.replace(b"Host: h", b"hOsT:\th \t"), GET.replace(b"h\r\n", b"h\r\nX: a \xe9 b\r\n", 1)]
)
def test_a_plain_request_takes_the_short_way_and_reads_the_same(data: bytes) -> None:
    ours, theirs = both()
    for connection in (ours, theirs):
        connection.receive_data(data)
    assert short(ours)
    assert events(ours) == events(theirs)
    assert states(ours) == states(theirs)
    assert answered(ours) == answered(theirs)
    assert states(ours) == states(theirs)
    for connection in (ours, theirs):
        connection.start_next_cycle()
        connection.receive_data(GET)
    assert events(ours) == events(theirs)


TYPE = (("Cache-Control", "no-cache"), ("Content-Type", "text/plain"))
DATE = "Sat, 28 Nov 2026 02:18:00 GMT"


def test_a_whole_answer_reads_as_the_one_that_h11_sends() -> None:
    ours, theirs = both()
    for connection in (ours, theirs):
        connection.receive_data(PLAIN)
    events(ours), events(theirs)
    fields = [*TYPE, ("Date", DATE), ("Content-Length", "5")]
    expected = theirs.send(h11.Response(status_code=201, headers=fields, reason=b"Created")) or b""
    expected += (theirs.send(h11.Data(data=b"hello")) or b"") + (theirs.send(h11.EndOfMessage()) or b"")
    assert ours.whole_answer(201, b"Created", TYPE, DATE, b"hello") == expected
    assert states(ours) == states(theirs)
    assert ours.whole_answer(201, b"Created", TYPE, DATE, b"hello") is None  # there is one answer to a request
    for connection in (ours, theirs):
        connection.start_next_cycle()
        connection.receive_data(GET)
    assert events(ours) == events(theirs)


@pytest.mark.parametrize("field", [("Connection", "close"), ("Content-Length", "5"), ("Date", DATE)])
def test_an_answer_with_doubtful_fields_is_left_to_h11(field: tuple[str, str]) -> None:
    ours, _ = both()
    ours.receive_data(GET)
    assert ours.whole_answer(200, b"OK", (*TYPE, field), DATE, b"hello") is None
    assert ours.our_state is h11.SEND_RESPONSE


def test_an_answer_without_body_and_one_to_what_h11_has_read_are_left_to_h11() -> None:
    ours, _ = both()
    ours.receive_data(GET)
    assert ours.whole_answer(204, b"No Content", TYPE, DATE, b"") is None
    other, _ = both()
    other.receive_data(GET.replace(b"GET", b"HEAD"))
    assert other.whole_answer(200, b"OK", TYPE, DATE, b"hello") is None


@pytest.mark.parametrize("field", [("X Y", "z"), ("X", "a\r\nSet-Cookie: b"), ("X", "a\0")])
def test_fields_that_may_not_be_sent_are_refused_each_time(field: tuple[str, str]) -> None:
    ours, _ = both()
    ours.receive_data(GET)
    for _ in range(2):
        with pytest.raises(h11.LocalProtocolError, match="Illegal header"):
            ours.whole_answer(200, b"OK", (field,), DATE, b"hello")
    assert ours.our_state is h11.SEND_RESPONSE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n" + GET,
        GET + b"x",
        GET + GET,
        PLAIN[:-1],
        PLAIN + b"d",
        b"GET /a HTTP/1.0\r\nHost: h\r\n\r\n",
        b"GET /a HTTP/1.1\r\n\r\n",
        b"GET a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET  /a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"get /a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /a HTTP/1.1\nHost: h\n\n",
        b"GET /\x80 HTTP/1.1\r\nHost: h\r\n\r\n",
        GET.replace(b"\r\n\r\n", b"\r\nHost: i\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nContent-Length: +0\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nContent-Length: 1, 1\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nX : y\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nX: a\r\n b\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nX: a\x00b\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nX: a\nHost: i\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nX: a\rb\r\n\r\n"),
        GET.replace(b"\r\n\r\n", b"\r\nX\xe9: a\r\n\r\n"),
        b"GET /" + b"a" * LIMIT + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
)
def test_what_is_not_plain_is_left_to_h11(data: bytes) -> None:
    ours, theirs = both()
    for connection in (ours, theirs):
        connection.receive_data(data)
    assert not short(ours)
    assert events(ours) == events(theirs)


@settings(max_examples=400, deadline=None)
@given(st.data())
@example(None)
def test_whatever_comes_in_whatever_pieces_reads_as_h11_reads_it(data: st.DataObject | None) -> None:
    text = PLAIN + GET if data is None else data.draw(_requests)
    cuts = [] if data is None else sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    ours, theirs = both()
    connections: list[Any] = [ours, theirs]
    found: list[list[Any]] = [[], []]
    for piece in pieces:
        if not piece:
            continue
        for index, connection in enumerate(connections):
            try:
                connection.receive_data(piece)
            except h11.RemoteProtocolError as error:
                found[index].append(("error", str(error)))
                continue
            found[index].append(_served(connection))
    assert _joined(found[0]) == _joined(found[1])


def _served(connection: Any) -> list[Any]:
    """Events, and answers as soon as a request is whole."""
    seen: list[Any] = []
    while True:
        seen += events(connection)
        if not seen or seen[-1] != "EndOfMessage":
            return seen
        if connection.our_state is not h11.SEND_RESPONSE:
            return seen
        seen.append(("sent", answered(connection)))
        if states(connection) != (h11.DONE, h11.DONE):
            return seen
        connection.start_next_cycle()


def _joined(found: list[list[Any]]) -> list[Any]:
    """One list, parts of a body in one."""
    result: list[Any] = []
    for item in (item for part in found for item in part):
        last = result[-1] if result else None
        if isinstance(item, tuple) and isinstance(last, tuple) and item[0] == last[0] == "data":
            result[-1] = ("data", last[1] + item[1])
        else:
            result.append(item)
    return result


_PARTS = [
    b"GET", b"POST", b" ", b"/", b"/a", b"HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b"Host: h", b"host:", b"X: y",
    b"Content-Length: 3", b"Content-Length: 0", b"Content-Length:", b"Transfer-Encoding: chunked", b"Connection: close",
    b"Expect: 100-continue", b"abc", b":", b"\t", b"\x00", b"\xff", b"3\r\nabc\r\n0\r\n\r\n",
]  # fmt: skip
_requests = st.one_of(
    st.lists(st.sampled_from([PLAIN, GET]), min_size=1, max_size=3).map(b"".join),
    st.lists(st.sampled_from(_PARTS), max_size=24).map(b"".join),
    st.lists(st.sampled_from(_PARTS), max_size=8).map(
        lambda parts: b"POST /a HTTP/1.1\r\nHost: h\r\n" + b"".join(parts) + b"\r\n\r\nabc" + GET
    ),
)


def test_an_answer_that_is_not_plain_is_made_by_h11_whatever_came_behind_the_request() -> None:
    ours, theirs = both()
    for connection in (ours, theirs):
        connection.receive_data(PLAIN)
    assert events(ours) == events(theirs)
    for connection in (ours, theirs):
        connection.receive_data(GET)
    sent = []
    for connection in (ours, theirs):
        made = connection.send(h11.Response(status_code=200, headers=[("X", "y")], reason=b"OK"))
        assert made is not None
        made += connection.send(h11.Data(data=b"part")) or b""
        sent.append(made + (connection.send(h11.EndOfMessage()) or b""))
        connection.start_next_cycle()
    assert sent[0] == sent[1]
    assert b"chunked" in sent[0]
    assert events(ours) == events(theirs) != []


def test_a_request_that_is_answered_before_it_was_read_goes_on_in_h11() -> None:
    ours, theirs = both()
    sent = []
    for connection in (ours, theirs):
        connection.receive_data(PLAIN)
        assert shown(connection.next_event())[0] == "request"
        sent.append(answered(connection, 403, more=("Connection", "close")))
    assert sent[0] == sent[1]
    assert events(ours) == events(theirs)
    assert states(ours) == states(theirs)


def test_an_answer_that_is_longer_or_shorter_than_it_says_is_refused() -> None:
    for body in (b"four", b"no"):
        ours, _ = both()
        ours.receive_data(GET)
        events(ours)
        ours.send(h11.Response(status_code=200, headers=[("Content-Length", "3")], reason=b"OK"))
        with pytest.raises(h11.LocalProtocolError):
            ours.send(h11.Data(data=body))
            ours.send(h11.EndOfMessage())


def test_a_cycle_that_is_not_over_cannot_begin_anew_and_a_head_is_sent_once() -> None:
    ours, _ = both()
    ours.receive_data(GET)
    events(ours)
    with pytest.raises(h11.LocalProtocolError):
        ours.start_next_cycle()
    response = h11.Response(status_code=200, headers=[("Content-Length", "3")], reason=b"OK")
    ours.send(response)
    with pytest.raises(h11.LocalProtocolError):
        ours.send(response)


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization: Bearer abcdef",
        b"authorization:abcdef",
        b"Cookie: a=abcdef",
        b"Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.abcdef, v4.channel.k8s.io",
    ],
)
def test_secrets_are_not_remembered(line: bytes) -> None:
    from virtual_kubelet.server import request_reader

    ours, _ = both()
    ours.receive_data(GET.replace(b"\r\n\r\n", b"\r\n" + line + b"\r\n\r\n"))
    assert short(ours)
    assert not any(b"abcdef" in text for text in (*request_reader._lines, *request_reader._heads))


def test_what_is_remembered_has_a_bound() -> None:
    from virtual_kubelet.server import request_reader

    for number in range(3000):
        ours, _ = both()
        ours.receive_data(GET.replace(b"\r\n\r\n", b"\r\nX: %d\r\n\r\n" % number))
    assert len(request_reader._lines) <= 1024
    assert len(request_reader._heads) <= 512
    ours.receive_data(GET.replace(b"\r\n\r\n", b"\r\nX: %s\r\n\r\n" % (b"x" * 2000)))
    assert max(map(len, request_reader._heads)) <= 1024


def test_a_request_that_is_taken_whole_leaves_no_events_and_is_answered_as_any() -> None:
    ours, theirs = both()
    for connection in (ours, theirs):
        connection.receive_data(PLAIN)
    plain = ours.take_plain()
    assert plain is not None
    assert (plain.method, plain.target, plain.body, plain.fields.length) == (b"POST", b"/a?b=c", b"abc", 3)
    assert [plain.fields.headers.get(name) for name in ("host", "Accept")] == ["h", "*/*"]
    events(theirs)
    assert events(ours) == []
    assert ours.take_plain() is None
    assert states(ours) == states(theirs)
    # An answer that h11 has to make, of a request that it has not seen until now.
    made = [
        connection.send(h11.Response(status_code=200, headers=[("X", "y")], reason=b"OK"))
        for connection in (ours, theirs)
    ]
    assert made[0] == made[1] != b""
    assert ours.send(h11.EndOfMessage()) == theirs.send(h11.EndOfMessage()) == b"0\r\n\r\n"
    ours.start_next_cycle()
    assert events(ours) == []
    ours.receive_data(GET)
    assert ours.take_plain() is not None

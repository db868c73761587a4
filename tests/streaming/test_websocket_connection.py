"""A WebSocket connection: messages in parts, pings answered, the closing handshake, mistakes and limits of the peer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.streaming.pieces import cut, cuts
from virtual_kubelet.errors import StreamClosedError
from virtual_kubelet.streaming.websocket.connection import (
    CloseReceived,
    Event,
    Failed,
    MessagePart,
    PongReceived,
    WebSocketConnection,
    WebSocketLimits,
)
from virtual_kubelet.streaming.websocket.frames import Opcode, apply_mask, frame_header


def pair(limits: WebSocketLimits | None = None) -> tuple[WebSocketConnection, WebSocketConnection]:
    return WebSocketConnection(client=True, limits=limits), WebSocketConnection(client=False, limits=limits)


def wire(connection: WebSocketConnection) -> bytes:
    return b"".join(connection.data_to_send())


def frame(opcode: Opcode, payload: bytes, fin: bool = True) -> bytes:
    """As a client sends it."""
    mask = b"\x0a\x1b\x2c\x3d"
    return frame_header(opcode, len(payload), fin=fin, mask=mask) + apply_mask(payload, mask)


def messages(events: list[Event]) -> list[tuple[bytes, bool]]:
    found: list[tuple[bytes, bool]] = []
    open_message = False
    for event in events:
        if isinstance(event, MessagePart):
            assert event.first is not open_message
            if event.first:
                found.append((b"", event.text))
            found[-1] = (found[-1][0] + bytes(event.data), event.text)
            open_message = not event.last
    return found


@given(
    st.lists(st.tuples(st.text(max_size=30), st.booleans(), st.binary(max_size=2)), max_size=6),
    st.booleans(),
    st.integers(1, 20),
    cuts(),
)
def test_messages_in_any_fragments_and_pieces_arrive_as_they_were_sent(
    sent: list[tuple[str, bool, bytes]], from_client: bool, most: int, places: list[int]
) -> None:
    client, server = pair(WebSocketLimits(max_frame=most))
    source, target = (client, server) if from_client else (server, client)
    expected = []
    for text, is_text, prefix in sent:
        prefix = b"" if is_text else prefix
        source.send_message(text.encode(), prefix=prefix, text=is_text)
        source.ping(b"between")
        expected.append((prefix + text.encode(), is_text))
    events = [event for piece in cut(wire(source), places) for event in target.receive_data(piece)]
    assert messages(events) == expected
    assert source.receive_data(wire(target)) == [PongReceived(b"between")] * len(sent)


def test_a_servers_payload_is_not_copied() -> None:
    _, server = pair()
    payload = bytes(1000)
    server.send_message(payload, prefix=b"\1")
    head, body = server.data_to_send()
    assert bytes(head) == b"\x82\x7e\x03\xe9\x01"
    assert body is payload


def test_a_clients_mask_is_new_with_every_frame() -> None:
    client = WebSocketConnection(client=True)
    for _ in range(20):
        client.send_message(b"")
    assert len({bytes(header[2:]) for header in client.data_to_send()}) > 1


def test_close_is_answered_once_and_ends_the_connection() -> None:
    client, server = pair()
    client.close(1001, "going away")
    client.close(1000)
    assert server.receive_data(wire(client)) == [CloseReceived(1001, "going away")]
    assert server.closed
    assert not client.closed
    assert client.receive_data(wire(server)) == [CloseReceived(1001, "")]
    assert client.closed
    assert wire(client) == wire(server) == b""
    for connection in (client, server):
        with pytest.raises(StreamClosedError):
            connection.send_message(b"x")
        connection.ping()
        assert wire(connection) == b""


def test_a_close_without_a_code_is_answered_alike() -> None:
    _, server = pair()
    assert server.receive_data(frame(Opcode.CLOSE, b"")) == [CloseReceived(1005, "")]
    assert wire(server) == b"\x88\x00"


def test_messages_after_our_close_are_dropped_until_the_peers() -> None:
    client, server = pair()
    server.close()
    client.send_message(b"on its way")
    client.ping()
    assert server.receive_data(wire(client)) == []
    client.receive_data(wire(server))
    assert server.receive_data(wire(client)) == [CloseReceived(1000, "")]
    assert server.closed


def test_nothing_counts_after_the_peers_close() -> None:
    _, server = pair()
    assert server.receive_data(frame(Opcode.CLOSE, b"\x03\xe8") + frame(Opcode.PING, b"")) == [CloseReceived(1000, "")]
    assert server.receive_data(frame(Opcode.BINARY, b"x")) == []


def test_a_reason_is_cut_to_what_fits_between_characters() -> None:
    client, server = pair()
    client.close(1000, "é" * 100)
    assert server.receive_data(wire(client)) == [CloseReceived(1000, "é" * 61)]


def test_a_ping_carries_at_most_125_bytes() -> None:
    client, _ = pair()
    client.ping(bytes(125))
    with pytest.raises(ValueError, match="125"):
        client.ping(bytes(126))


def test_the_end_of_the_network_connection_closes() -> None:
    client, _ = pair()
    client.receive_eof()
    assert client.closed


def assert_fails(received: bytes, code: int, message: str, limits: WebSocketLimits | None = None) -> None:
    server = WebSocketConnection(client=False, limits=limits)
    event = server.receive_data(received)[-1]
    assert isinstance(event, Failed)
    assert message in str(event.error)
    assert event.error.code == code
    answer = wire(server)
    assert answer[:1] == b"\x88"
    assert int.from_bytes(answer[2:4], "big") == code
    assert server.receive_data(frame(Opcode.PING, b"")) == []
    assert wire(server) == b""
    assert server.closed


@pytest.mark.parametrize(
    ("received", "code", "message"),
    [
        (b"\x82\x00", 1002, "not masked"),
        (frame(Opcode.CONTINUATION, b"x"), 1002, "begins with a continuation"),
        (frame(Opcode.BINARY, b"x", fin=False) + frame(Opcode.TEXT, b"x"), 1002, "before the one before it"),
        (frame(Opcode.BINARY, b"", fin=False) + frame(Opcode.BINARY, b""), 1002, "before the one before it"),
        (frame(Opcode.CLOSE, b"\x03"), 1002, "half a status code"),
        (frame(Opcode.CLOSE, (1005).to_bytes(2, "big")), 1002, "1005, which must not be sent"),
        (frame(Opcode.CLOSE, (999).to_bytes(2, "big")), 1002, "must not be sent"),
        (frame(Opcode.CLOSE, (2999).to_bytes(2, "big")), 1002, "must not be sent"),
        (frame(Opcode.CLOSE, (5000).to_bytes(2, "big")), 1002, "must not be sent"),
        (frame(Opcode.CLOSE, b"\x03\xe8\xff"), 1007, "reason"),
        (frame(Opcode.TEXT, b"\xff"), 1007, "not UTF-8"),
        (frame(Opcode.TEXT, b"\xc3"), 1007, "not UTF-8"),
        (frame(Opcode.TEXT, b"\xc3", fin=False) + frame(Opcode.CONTINUATION, b"("), 1007, "not UTF-8"),
    ],
)
def test_mistakes_are_answered_with_a_close_that_says_which(received: bytes, code: int, message: str) -> None:
    assert_fails(received, code, message)


def test_text_may_be_cut_within_a_character() -> None:
    _, server = pair()
    events = server.receive_data(frame(Opcode.TEXT, b"\xc3", fin=False) + frame(Opcode.CONTINUATION, b"\xa9"))
    assert messages(events) == [("é".encode(), True)]


def test_a_message_over_the_limit_fails_as_soon_as_it_is_known() -> None:
    limits = WebSocketLimits(max_message=10)
    received = frame(Opcode.BINARY, bytes(6), fin=False) + frame(Opcode.CONTINUATION, bytes(4))
    assert messages(WebSocketConnection(client=False, limits=limits).receive_data(received)) == [(bytes(10), False)]
    over = frame(Opcode.BINARY, bytes(6), fin=False) + frame(Opcode.CONTINUATION, bytes(5))
    assert_fails(over, 1009, "more than 10 bytes", limits)


def test_fragments_of_one_message_are_limited_though_they_are_empty() -> None:
    limits = WebSocketLimits(max_fragments=3)
    received = frame(Opcode.BINARY, b"", fin=False) + frame(Opcode.CONTINUATION, b"", fin=False)
    last = frame(Opcode.CONTINUATION, b"x")
    assert messages(WebSocketConnection(client=False, limits=limits).receive_data(received + last)) == [(b"x", False)]
    assert_fails(received + frame(Opcode.CONTINUATION, b"", fin=False) + last, 1009, "more than 3 fragments", limits)


@given(st.binary(max_size=300), st.booleans(), cuts())
def test_where_bytes_are_cut_does_not_change_what_they_mean(tail: bytes, client: bool, places: list[int]) -> None:
    before = b"\x82\x03one\x01\x02tw" if client else frame(Opcode.BINARY, b"one") + frame(Opcode.TEXT, b"tw", fin=False)

    def meaning(pieces: list[bytes]) -> tuple[list[object], bytes | int]:
        connection = WebSocketConnection(client=client, make_mask=lambda: b"mask")
        found: list[object] = []
        for piece in pieces:
            for event in connection.receive_data(piece):
                if isinstance(event, MessagePart):
                    found += list(event.data)
                    if event.last:
                        found.append("end of message")
                else:
                    found.append(str(event.error) if isinstance(event, Failed) else event)
        return found, wire(connection)

    assert meaning([before + tail]) == meaning(list(cut(before + tail, places)))

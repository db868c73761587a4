"""Kubernetes' channels in a WebSocket, binary and base64, and their half-close from version 5 on."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.streaming.pieces import cut, cuts
from virtual_kubelet.errors import StreamClosedError, WebSocketError
from virtual_kubelet.streaming.websocket.channels import (
    ChannelClosed,
    ChannelConnection,
    ChannelData,
    ChannelEvent,
    ChannelProtocol,
    ChannelsEnded,
)
from virtual_kubelet.streaming.websocket.connection import WebSocketConnection, WebSocketLimits

NAMES = [
    f"{version}{encoding}channel.k8s.io" for version in ("", "v2.", "v3.", "v4.", "v5.") for encoding in ("", "base64.")
]


def server(name: str = "v5.channel.k8s.io", limits: WebSocketLimits | None = None) -> ChannelConnection:
    return ChannelConnection(ChannelProtocol.named(name), 5, [0, 4], limits=limits)


def client(name: str = "v5.channel.k8s.io") -> ChannelConnection:
    return ChannelConnection(ChannelProtocol.named(name), 5, [1, 2, 3], client=True)


def wire(connection: ChannelConnection | WebSocketConnection) -> bytes:
    return b"".join(connection.data_to_send())


def messages(*payloads: bytes, text: bool = False) -> bytes:
    websocket = WebSocketConnection(client=True)
    for payload in payloads:
        websocket.send_message(payload, text=text)
    return wire(websocket)


def by_channel(events: Sequence[ChannelEvent]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for event in events:
        if isinstance(event, ChannelData):
            found[event.channel] = found.get(event.channel, b"") + bytes(event.data)
    return found


@pytest.mark.parametrize(
    ("name", "version", "encoded"),
    [
        ("", 1, False),
        ("channel.k8s.io", 1, False),
        ("base64.channel.k8s.io", 1, True),
        ("v4.channel.k8s.io", 4, False),
        ("v4.base64.channel.k8s.io", 4, True),
        ("v5.channel.k8s.io", 5, False),
        ("v5.base64.channel.k8s.io", 5, True),
    ],
)
def test_names_say_version_and_encoding(name: str, version: int, encoded: bool) -> None:
    protocol = ChannelProtocol.named(name)
    assert (protocol.version, protocol.base64) == (version, encoded)


@pytest.mark.parametrize("name", ["v6.channel.k8s.io", "portforward.k8s.io", "x"])
def test_other_names_are_no_channel_protocols(name: str) -> None:
    with pytest.raises(ValueError, match="not a channel protocol"):
        ChannelProtocol.named(name)


@given(
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=30)), max_size=8),
    st.booleans(),
    cuts(),
)
def test_what_is_sent_on_a_channel_arrives_on_it_and_nothing_on_the_others(
    name: str, sent: list[tuple[int, bytes]], from_client: bool, places: list[int]
) -> None:
    source, target = (client(name), server(name)) if from_client else (server(name), client(name))
    readable = {0, 4} if from_client else {1, 2, 3}
    expected: dict[int, bytes] = {}
    for channel, data in sent:
        source.send(channel, data)
        if channel in readable and data:
            expected[channel] = expected.get(channel, b"") + data
    events = [event for piece in cut(wire(source), places) for event in target.receive_data(piece)]
    assert by_channel(events) == expected
    assert target.unacknowledged == sum(map(len, expected.values()))
    target.acknowledge(target.unacknowledged)
    with pytest.raises(ValueError, match="more bytes"):
        target.acknowledge(1)


def test_the_binary_form_is_the_channel_and_the_bytes() -> None:
    connection = server()
    connection.send(1, b"out")
    connection.send(1, b"")
    assert wire(connection) == b"\x82\x04\x01out\x82\x01\x01"


def test_the_base64_form_is_a_digit_and_text() -> None:
    connection = server("v4.base64.channel.k8s.io")
    connection.send(1, b"out")
    assert wire(connection) == b"\x81\x051" + base64.b64encode(b"out")


@pytest.mark.parametrize("name", ["v5.channel.k8s.io", "v5.base64.channel.k8s.io"])
def test_closing_a_channel_half_closes_it(name: str) -> None:
    source, target = client(name), server(name)
    source.send(0, b"in")
    source.close_channel(0)
    source.send(0, b"late")
    source.close_channel(0)
    assert target.receive_data(wire(source)) == [ChannelData(0, b"in"), ChannelClosed(0)]
    target.send(1, b"out")
    assert source.receive_data(wire(target)) == [ChannelData(1, b"out")]


@pytest.mark.parametrize("channel", [1, 3])
def test_closing_a_channel_that_the_peer_may_not_use_means_nothing(channel: int) -> None:
    assert server().receive_data(messages(bytes([255, channel]))) == []


def test_before_version_5_no_channel_can_be_closed() -> None:
    with pytest.raises(ValueError, match="cannot close"):
        client("v4.channel.k8s.io").close_channel(0)
    assert server("v4.channel.k8s.io").receive_data(messages(b"\xff\x00")) == []


@pytest.mark.parametrize("message", [b"\xff", b"\xff\x00\x00", b"\xff\x05", b"\xff\xff"])
def test_a_close_of_anything_but_one_channel_ends_the_connection(message: bytes) -> None:
    connection = server()
    (event,) = connection.receive_data(messages(message))
    assert isinstance(event, ChannelsEnded)
    assert isinstance(event.error, WebSocketError)
    assert wire(connection)[:4] == b"\x88" + wire_length(str(event.error)) + b"\x03\xea"
    assert connection.receive_data(messages(b"\x00x")) == []


def wire_length(reason: str) -> bytes:
    return bytes([2 + len(reason)])


def test_what_the_peer_may_not_send_is_dropped_as_kubernetes_does() -> None:
    connection = server()
    assert connection.receive_data(messages(b"\x01x", b"\x09y", b"", b"\x00z")) == [ChannelData(0, b"z")]


@pytest.mark.parametrize("text", [b"0!!!!", b"0YQ", b"0YQ==YQ==", b"0Y=Q=", b"0YQ=="[:-1]])
def test_what_is_no_base64_ends_the_connection(text: bytes) -> None:
    (event,) = server("v4.base64.channel.k8s.io").receive_data(messages(text, text=True))
    assert isinstance(event, ChannelsEnded)
    assert event.error is not None
    assert event.error.code == 1007


@given(st.binary(max_size=50), cuts())
def test_base64_in_any_pieces_is_base64_or_the_same_error(text: bytes, places: list[int]) -> None:
    def meaning(pieces: list[bytes]) -> tuple[dict[int, bytes], bool]:
        connection = server("v4.base64.channel.k8s.io")
        events = [event for piece in pieces for event in connection.receive_data(piece)]
        ended = any(isinstance(event, ChannelsEnded) for event in events)
        return ({} if ended else by_channel(events)), ended

    for received in (messages(b"0" + text), messages(b"0" + base64.b64encode(text))):
        assert meaning([received]) == meaning(list(cut(received, places)))


def test_close_and_the_end_of_the_network_connection_end_the_channels_once() -> None:
    source, target = client(), server()
    source.close()
    assert target.receive_data(wire(source)) == [ChannelsEnded(None)]
    assert target.receive_eof() == []
    assert not target.open
    with pytest.raises(StreamClosedError):
        target.send(1, b"x")
    assert source.receive_eof() == [ChannelsEnded(None)]


def test_a_broken_websocket_ends_the_channels_with_its_error() -> None:
    (event,) = server(limits=WebSocketLimits(max_message=3)).receive_data(messages(b"\x00long"))
    assert isinstance(event, ChannelsEnded)
    assert "more than 3 bytes" in str(event.error)


def test_pings_are_sent_and_answered() -> None:
    source, target = client(), server()
    target.ping()
    assert source.receive_data(wire(target)) == []
    assert target.receive_data(wire(source)) == []

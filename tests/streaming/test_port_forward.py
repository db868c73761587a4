"""Port-forward on the wire: pairs of streams by request id, many at once, and clients that break the kubelet's rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.streaming.pieces import cut, cuts
from virtual_kubelet.errors import ProtocolError, StreamClosedError
from virtual_kubelet.streaming.port_forward.session import (
    ForwardData,
    ForwardEnded,
    ForwardIncomplete,
    ForwardOpened,
    ForwardReset,
    SessionEnded,
)
from virtual_kubelet.streaming.port_forward.spdy_session import PortForwardLimits, SpdyPortForward
from virtual_kubelet.streaming.port_forward.websocket_session import (
    CHANNEL_PROTOCOLS,
    MAX_PORTS,
    WebSocketPortForward,
    parse_ports,
)
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.events import DataReceived, Event, StreamEnded, StreamReplied, StreamReset
from virtual_kubelet.streaming.websocket.channels import (
    ChannelConnection,
    ChannelData,
    ChannelProtocol,
    ChannelsEnded,
)
from virtual_kubelet.streaming.websocket.tunnel import TunnelledSpdyConnection


def wire(side: Any) -> bytes:
    return b"".join(side.data_to_send())


class Client:
    """kubectl's side: opens streams as it likes."""

    def __init__(self, *, tunnelled: bool = False) -> None:
        kind = TunnelledSpdyConnection if tunnelled else SpdyConnection
        self.spdy: SpdyConnection = kind(client=True)
        self.node = SpdyPortForward(kind(client=False), PortForwardLimits(max_early_bytes=10, max_request_id=5))
        self.text: dict[int, bytes] = {}

    def open(self, kind: str, port: str = "80", request_id: str | None = "0") -> int:
        headers = [("streamtype", kind), ("port", port)]
        return self.spdy.open_stream(headers + ([("requestid", request_id)] if request_id is not None else []))

    def pair(self, request_id: str = "0", port: str = "80") -> tuple[int, int]:
        return self.open("error", port, request_id), self.open("data", port, request_id)

    def talk(self) -> list[Any]:
        return list(self.node.receive_data(wire(self.spdy)))

    def listen(self) -> list[Event]:
        events = self.spdy.receive_data(wire(self.node))
        for event in events:
            if isinstance(event, DataReceived):
                self.text[event.stream_id] = self.text.get(event.stream_id, b"") + bytes(event.data)
        return [event for event in events if not isinstance(event, StreamReplied | DataReceived)]


@pytest.mark.parametrize("tunnelled", [True, False])
def test_a_connection_is_a_pair_of_streams(tunnelled: bool) -> None:
    client = Client(tunnelled=tunnelled)
    error, forward = client.pair()
    assert client.talk() == [ForwardIncomplete("0"), ForwardOpened(forward, 80)]
    client.listen()
    client.spdy.end_stream(error)
    client.spdy.send_data(forward, b"GET", fin=True)
    assert client.talk() == [ForwardData(forward, memoryview(b"GET")), ForwardEnded(forward)]
    assert client.node.unacknowledged == 3
    client.node.acknowledge(forward, 3)
    client.node.send(forward, b"200")
    client.node.end(forward)
    assert client.listen() == [StreamEnded(forward), StreamEnded(error)]
    assert client.text == {forward: b"200"}
    assert client.node.connections == client.node.unacknowledged == client.spdy.streams == 0


def test_the_data_stream_may_come_first_with_data() -> None:
    client = Client()
    forward = client.open("data")
    client.spdy.send_data(forward, b"ea")
    client.spdy.send_data(forward, b"rly", fin=True)
    client.open("error")
    assert client.talk() == [
        ForwardIncomplete("0"),
        ForwardOpened(forward, 80),
        ForwardData(forward, b"early"),
        ForwardEnded(forward),
    ]
    assert client.node.unacknowledged == 5


def test_many_connections_are_kept_apart() -> None:
    client = Client()
    forwards = [client.pair(str(number), str(8000 + number))[1] for number in range(50)]
    events = client.talk()
    opened = [event for event in events if isinstance(event, ForwardOpened)]
    assert opened == [ForwardOpened(f, 8000 + n) for n, f in enumerate(forwards)]
    client.listen()
    for forward in forwards:
        client.spdy.send_data(forward, str(forward).encode())
    assert client.talk() == [ForwardData(f, memoryview(str(f).encode())) for f in forwards]
    for forward in reversed(forwards):
        client.node.send(forward, str(-forward).encode())
        client.node.end(forward)
    client.listen()
    assert client.text == {f: str(-f).encode() for f in forwards}
    assert client.node.connections == 0


def test_clients_older_than_request_ids_open_error_and_then_data() -> None:
    client = Client()
    first_error, first = client.open("error", request_id=None), client.open("data", request_id=None)
    _, second = client.open("error", "81", None), client.open("data", "81", None)
    events = client.talk()
    assert [e for e in events if isinstance(e, ForwardOpened)] == [ForwardOpened(first, 80), ForwardOpened(second, 81)]
    client.node.end(first, "no")
    client.listen()
    assert client.text == {first_error: b"no"}


def test_a_failed_connection_says_why_on_its_error_stream_as_the_kubelet_does() -> None:
    client = Client()
    error, forward = client.pair()
    client.talk()
    client.node.end(forward, "error forwarding port 80 to pod x, uid : connection refused")
    assert client.listen() == [StreamEnded(forward), StreamReset(error, 5, by_peer=True)]
    assert client.text == {error: b"error forwarding port 80 to pod x, uid : connection refused"}
    client.spdy.send_data(forward, b"late")
    assert client.talk() == []
    assert client.node.unacknowledged == 0
    client.node.end(forward)
    client.node.reset(forward)
    assert client.node.data_to_send() == []
    with pytest.raises(StreamClosedError):
        client.node.send(forward, b"x")


def test_a_broken_connection_is_reset_so_that_nobody_takes_it_for_whole() -> None:
    client = Client()
    error, forward = client.pair()
    client.talk()
    client.node.reset(forward)
    assert client.listen() == [StreamReset(forward, 5, by_peer=True), StreamReset(error, 5, by_peer=True)]
    assert client.node.connections == 0


def test_a_connection_that_the_client_drops_is_gone() -> None:
    client = Client()
    error, forward = client.pair()
    client.talk()
    client.listen()
    client.spdy.reset(forward)
    assert client.talk() == [ForwardReset(forward)]
    assert client.listen() == [StreamReset(error, 5, by_peer=True)]
    with pytest.raises(StreamClosedError):
        client.node.send(forward, b"x")


def test_a_connection_goes_on_when_the_client_drops_its_error_stream() -> None:
    client = Client()
    error, forward = client.pair()
    client.talk()
    client.listen()
    client.spdy.reset(error)
    client.spdy.send_data(forward, b"x")
    assert client.talk() == [ForwardData(forward, memoryview(b"x"))]
    client.node.end(forward, "nobody hears this")
    assert client.listen() == [StreamEnded(forward)]


@pytest.mark.parametrize("kind", ["error", "data"])
def test_half_a_pair_that_is_dropped_is_forgotten(kind: str) -> None:
    client = Client()
    stream = client.open(kind)
    client.spdy.send_data(stream, b"x")
    client.talk()
    client.spdy.reset(stream)
    assert client.talk() == []
    assert client.node.connections == client.node.unacknowledged == 0


@pytest.mark.parametrize(
    ("kind", "port", "request_id"),
    [
        ("data", "0", "0"),
        ("data", "65536", "0"),
        ("data", "-1", "0"),
        ("data", "", "0"),
        ("data", "http", "0"),
        ("data", "+80", "0"),
        ("nonsense", "80", "0"),
        ("", "80", "0"),
        ("data", "80", "123456"),
    ],
)
def test_a_stream_that_breaks_the_rules_is_reset(kind: str, port: str, request_id: str) -> None:
    client = Client()
    stream = client.open(kind, port, request_id)
    assert client.talk() == []
    assert client.listen() == [StreamReset(stream, 5, by_peer=True)]
    assert client.node.connections == 0


@pytest.mark.parametrize("kind", ["error", "data"])
def test_a_second_stream_of_a_kind_is_reset_and_said_on_the_error_stream(kind: str) -> None:
    client = Client()
    error, forward = client.pair()
    second = client.open(kind)
    assert client.talk() == [ForwardIncomplete("0"), ForwardOpened(forward, 80)]
    assert client.listen() == [StreamReset(second, 5, by_peer=True)]
    assert client.text == {error: f"error processing stream for request 0: {kind} stream already assigned".encode()}
    client.spdy.send_data(forward, b"x")
    assert client.talk() == [ForwardData(forward, memoryview(b"x"))]  # the first pair goes on


def test_a_second_data_stream_without_an_error_stream_is_just_reset() -> None:
    client = Client()
    client.open("data")
    second = client.open("data")
    client.talk()
    assert client.listen() == [StreamReset(second, 5, by_peer=True)]


def test_half_a_pair_that_stays_alone_is_told_so() -> None:
    client = Client()
    error = client.open("error")
    client.talk()
    client.node.expire("0")
    assert client.listen() == [StreamReset(error, 5, by_peer=True)]
    assert client.text == {error: b"timed out waiting for streams of request 0"}
    assert client.node.connections == 0
    client.node.expire("0")


def test_a_data_stream_that_stays_alone_is_reset() -> None:
    client = Client()
    stream = client.open("data")
    client.spdy.send_data(stream, b"x")
    client.talk()
    client.node.expire("0")
    assert client.listen() == [StreamReset(stream, 5, by_peer=True)]
    assert client.node.unacknowledged == 0


def test_a_whole_pair_does_not_expire() -> None:
    client = Client()
    _, forward = client.pair()
    client.talk()
    client.node.expire("0")
    client.node.send(forward, b"x")
    client.listen()
    assert client.text == {forward: b"x"}


def test_early_data_beyond_the_limit_resets_the_stream() -> None:
    client = Client()
    stream = client.open("data")
    client.spdy.send_data(stream, bytes(10))
    assert client.talk() == [ForwardIncomplete("0")]
    client.spdy.send_data(stream, b"1")
    assert client.talk() == []
    assert client.listen() == [StreamReset(stream, 5, by_peer=True)]
    assert client.node.connections == client.node.unacknowledged == 0


def test_a_request_id_may_be_used_again() -> None:
    client = Client()
    _, first = client.pair()
    client.talk()
    client.node.end(first)
    _, second = client.pair()
    assert ForwardOpened(second, 80) in client.talk()


@pytest.mark.parametrize("tunnelled", [True, False])
def test_the_session_ends_once_with_its_connection(tunnelled: bool) -> None:
    client = Client(tunnelled=tunnelled)
    _, forward = client.pair()
    client.talk()
    assert client.node.receive_eof() == [SessionEnded(None)]
    assert client.node.receive_eof() == []
    client.node.end(forward)
    assert client.node.closed


def test_a_close_frame_ends_a_tunnelled_session() -> None:
    client = Client(tunnelled=True)
    client.pair()
    client.talk()
    client.spdy.close()
    events = client.talk()
    assert events[-1] == SessionEnded(None)
    assert client.node.closed


def test_a_client_that_breaks_spdy_ends_the_session_with_the_error() -> None:
    client = Client()
    (event,) = client.node.receive_data(b"\0\0\0\0\0\0\0\0")
    assert isinstance(event, SessionEnded)
    assert "stream 0" in str(event.error)


def test_a_client_that_breaks_websocket_ends_the_session_with_the_error() -> None:
    client = Client(tunnelled=True)
    (event,) = client.node.receive_data(b"\x82\x00")
    assert isinstance(event, SessionEnded)
    assert "not masked" in str(event.error)


def test_closing_and_pings() -> None:
    client = Client()
    error, forward = client.pair()
    client.talk()
    client.node.ping()
    client.node.close()
    assert {e.stream_id for e in client.listen() if isinstance(e, StreamReset)} == {error, forward}


@given(st.booleans(), st.lists(st.tuples(st.integers(0, 4), st.binary(max_size=20)), max_size=20), cuts())
def test_bytes_of_each_connection_arrive_in_order(
    tunnelled: bool, sent: list[tuple[int, bytes]], places: list[int]
) -> None:
    client = Client(tunnelled=tunnelled)
    forwards = [client.pair(str(number))[1] for number in range(5)]
    for number, data in sent:
        client.spdy.send_data(forwards[number], data)
    received = dict.fromkeys(forwards, b"")
    for piece in cut(wire(client.spdy), places):
        for event in client.node.receive_data(piece):
            if isinstance(event, ForwardData):
                received[event.forward] += bytes(event.data)
    assert received == {f: b"".join(d for n, d in sent if n == i) for i, f in enumerate(forwards)}


def test_a_tunnel_sends_small_pieces_in_one_message_and_large_ones_without_a_copy() -> None:
    client = Client(tunnelled=True)
    _, forward = client.pair()
    client.talk()
    client.listen()
    payload = bytes(10_000)
    client.node.send(forward, b"small")
    client.node.send(forward, payload)
    pieces = client.node.data_to_send()
    assert bytes(pieces[0]) == b"\x82\x15"  # header, "small", header
    assert pieces[-1] is payload
    assert len(pieces) == 4


# Channels


def test_ports_are_read_from_the_query() -> None:
    assert parse_ports(["80", "81,82"]) == [80, 81, 82]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], 'query parameter "port" is required'),
        (["http"], 'unable to parse "http" as a port'),
        ([""], 'unable to parse "" as a port'),
        (["80,"], 'unable to parse "" as a port'),
        (["65536"], 'unable to parse "65536" as a port'),
        (["٨٠"], "unable to parse"),
        (["0"], 'port "0" must be > 0'),
        (["1"] * (MAX_PORTS + 1), "at most 32 ports"),
    ],
)
def test_bad_ports_are_refused_in_the_kubelets_words(values: list[str], message: str) -> None:
    with pytest.raises(ProtocolError, match=message) as caught:
        parse_ports(values)
    assert caught.value.status == 400


def channels(protocol: str, ports: list[int]) -> tuple[ChannelConnection, WebSocketPortForward]:
    spoken = ChannelProtocol.named(CHANNEL_PROTOCOLS[protocol])
    client = ChannelConnection(spoken, 2 * len(ports), range(2 * len(ports)), client=True)
    return client, WebSocketPortForward(ports, protocol)


@pytest.mark.parametrize("protocol", list(CHANNEL_PROTOCOLS))
def test_each_port_has_a_data_and_an_error_channel_that_begin_with_it(protocol: str) -> None:
    client, node = channels(protocol, [80, 0x1234])
    assert node.begin() == [ForwardOpened(0, 80), ForwardOpened(2, 0x1234)]
    assert client.receive_data(wire(node)) == [
        ChannelData(0, b"\x50\x00"),
        ChannelData(1, b"\x50\x00"),
        ChannelData(2, b"\x34\x12"),
        ChannelData(3, b"\x34\x12"),
    ]
    client.send(2, b"GET")
    assert node.receive_data(wire(client)) == [ForwardData(2, b"GET")]
    node.acknowledge(2, 3)
    node.send(2, b"200")
    assert client.receive_data(wire(node)) == [ChannelData(2, b"200")]


def test_channels_end_with_the_last_connection() -> None:
    client, node = channels("v4.channel.k8s.io", [80, 81])
    node.begin()
    client.receive_data(wire(node))
    node.end(0, "connection refused")
    node.end(0, "again")
    assert client.receive_data(wire(node)) == [ChannelData(1, b"connection refused")]
    client.send(0, b"late")
    client.send(1, b"an error channel takes nothing")
    assert node.receive_data(wire(client)) == []
    assert node.unacknowledged == 0
    with pytest.raises(StreamClosedError):
        node.send(0, b"x")
    node.reset(2)
    assert client.receive_data(wire(node)) == [ChannelData(3, b"the connection was reset"), ChannelsEnded(None)]
    assert node.closed


def test_channels_end_with_their_client() -> None:
    client, node = channels("v4.channel.k8s.io", [80])
    node.begin()
    client.close()
    assert node.receive_data(wire(client)) == [SessionEnded(None)]
    assert node.receive_eof() == []
    node.expire("0")
    node.end(0, "x")
    with pytest.raises(StreamClosedError):
        node.send(0, b"x")


def test_channels_can_be_closed_and_kept_alive() -> None:
    client, node = channels("v4.channel.k8s.io", [80])
    node.ping()
    node.close()
    assert client.receive_data(wire(node)) == [ChannelsEnded(None)]
    _, other = channels("v4.channel.k8s.io", [80])
    assert other.receive_eof() == [SessionEnded(None)]

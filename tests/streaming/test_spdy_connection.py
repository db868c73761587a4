"""A SPDY session as each side sees it: streams opened, answered, half-closed and reset, mistakes of the peer, limits."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.streaming.pieces import cut, cuts
from virtual_kubelet.errors import SpdyError, StreamClosedError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    HeadersReceived,
    PingAcknowledged,
    SessionFailed,
    SettingsReceived,
    StreamEnded,
    StreamOpened,
    StreamReplied,
    StreamReset,
)
from virtual_kubelet.streaming.spdy.frame_parser import FrameParser, ParserLimits
from virtual_kubelet.streaming.spdy.frames import (
    FLAG_FIN,
    FLAG_UNIDIRECTIONAL,
    Frame,
    FrameType,
    GoAway,
    GoAwayStatus,
    Ping,
    RstStatus,
    RstStream,
    Setting,
    SettingId,
    SynReply,
    control_frame,
    data_header,
    number_frame,
    pair_frame,
    settings_frame,
    stream_block,
    syn_stream_block,
)
from virtual_kubelet.streaming.spdy.header_block import HeaderCompressor
from virtual_kubelet.streaming.spdy.limits import SpdyLimits


def wire(connection: SpdyConnection) -> bytes:
    return b"".join(connection.data_to_send())


def pair(limits: SpdyLimits | None = None) -> tuple[SpdyConnection, SpdyConnection]:
    return SpdyConnection(client=True), SpdyConnection(client=False, limits=limits)


def transfer(source: SpdyConnection, target: SpdyConnection) -> list[Event]:
    return target.receive_data(wire(source))


class Peer:
    """Writes frames by hand, right or wrong, and reads the answers."""

    def __init__(self) -> None:
        self.compressor = HeaderCompressor()
        self.parser = FrameParser()

    def syn_stream(self, stream_id: int, flags: int = 0) -> bytes:
        block = self.compressor.compress([("streamtype", "data")])
        return control_frame(FrameType.SYN_STREAM, flags, syn_stream_block(stream_id, 0, 0, block))

    def block(self, kind: FrameType, stream_id: int, flags: int = 0) -> bytes:
        return control_frame(kind, flags, stream_block(stream_id, self.compressor.compress([("a", "b")])))

    def answers(self, connection: SpdyConnection) -> list[Frame]:
        return list(self.parser.feed(wire(connection)))


def data(stream_id: int, payload: bytes, fin: bool = False) -> bytes:
    return data_header(stream_id, len(payload), fin) + payload


# What two sides of a session say to each other


def test_a_stream_is_opened_answered_used_and_ended_by_both_sides() -> None:
    client, server = pair()
    stream = client.open_stream([("streamtype", "stdin"), ("port", "80")])
    assert transfer(client, server) == [StreamOpened(stream, (("streamtype", "stdin"), ("port", "80")))]
    server.reply(stream, [("status", "ok")])
    assert transfer(server, client) == [StreamReplied(stream, (("status", "ok"),))]
    client.send_data(stream, b"question")
    client.send_headers(stream, [("more", "yes")])
    client.end_stream(stream)
    assert transfer(client, server) == [
        DataReceived(stream, memoryview(b"question")),
        HeadersReceived(stream, (("more", "yes"),)),
        StreamEnded(stream),
    ]
    with pytest.raises(StreamClosedError):
        client.send_data(stream, b"!")
    server.send_data(stream, b"answer", fin=True)  # half-closed is not closed
    assert transfer(server, client) == [DataReceived(stream, memoryview(b"answer")), StreamEnded(stream)]
    assert (client.streams, server.streams) == (0, 0)


def test_streams_have_odd_numbers_from_the_client_and_even_ones_from_the_server() -> None:
    client, server = pair()
    assert [client.open_stream([]), client.open_stream([])] == [1, 3]
    assert [server.open_stream([]), server.open_stream([])] == [2, 4]
    assert [event.stream_id for event in transfer(server, client) if isinstance(event, StreamOpened)] == [2, 4]
    assert [event.stream_id for event in transfer(client, server) if isinstance(event, StreamOpened)] == [1, 3]


@pytest.mark.parametrize("client_ends", [True, False])
def test_a_one_way_stream_is_gone_when_its_one_way_is(client_ends: bool) -> None:
    client, server = pair()
    stream = client.open_stream([], unidirectional=True)
    transfer(client, server)
    assert not server.takes_data(stream)
    client.send_data(stream, b"x", fin=client_ends)
    transfer(client, server)
    assert server.streams == client.streams == (0 if client_ends else 1)


def test_a_stream_without_either_way_is_gone_at_once() -> None:
    client, server = pair()
    stream = client.open_stream([], fin=True, unidirectional=True)
    assert transfer(client, server) == [StreamOpened(stream, ()), StreamEnded(stream)]
    assert server.streams == client.streams == 0


def test_reset_ends_both_directions_and_what_is_on_its_way_is_dropped() -> None:
    client, server = pair()
    stream = client.open_stream([])
    transfer(client, server)
    server.reply(stream)
    transfer(server, client)
    client.send_data(stream, b"on its way")
    server.reset(stream, RstStatus.CANCEL)
    with pytest.raises(StreamClosedError):
        server.send_data(stream, b"x")
    assert transfer(client, server) == []
    assert transfer(server, client) == [StreamReset(stream, RstStatus.CANCEL, by_peer=True)]
    server.reset(stream)
    server.end_stream(stream)
    assert wire(server) == b""
    assert server.unacknowledged == 0


def test_closing_resets_what_we_have_not_ended_and_says_goaway_as_go_does() -> None:
    peer, (client, server) = Peer(), pair()
    streams = [client.open_stream([]) for _ in range(3)]
    transfer(client, server)
    for stream in streams:
        server.reply(stream)
    server.end_stream(streams[1])
    server.close()
    frames = peer.answers(server)
    assert frames[-3:] == [
        RstStream(streams[0], RstStatus.CANCEL),
        RstStream(streams[2], RstStatus.CANCEL),
        GoAway(streams[2], GoAwayStatus.OK),
    ]
    assert server.closed
    server.close()
    client.send_data(streams[1], b"late")
    assert transfer(client, server) == []
    assert wire(server) == b""
    with pytest.raises(StreamClosedError):
        server.open_stream([])


def test_after_going_away_open_streams_go_on_and_new_ones_are_ignored() -> None:
    client, server = pair()
    old = client.open_stream([])
    transfer(client, server)
    server.reply(old)
    server.go_away()
    server.go_away()
    new = client.open_stream([("a", "b")])
    client.send_data(old, b"x")
    client.send_data(new, b"y")
    assert transfer(client, server) == [DataReceived(old, memoryview(b"x"))]
    assert transfer(server, client)[1:] == [
        StreamReset(new, RstStatus.REFUSED_STREAM, by_peer=True),
        GoAwayReceived(old, GoAwayStatus.OK),
    ]
    with pytest.raises(StreamClosedError):
        client.open_stream([])


def test_pings_are_answered_and_our_own_noticed_once() -> None:
    client, server = pair()
    number = client.ping()
    assert transfer(client, server) == []
    answer = wire(server)
    assert client.receive_data(answer) == [PingAcknowledged(number)]
    assert client.receive_data(answer) == []
    assert client.ping() == number + 2
    assert server.ping() == 2


def test_pings_that_nobody_answers_are_forgotten() -> None:
    client, _ = pair()
    numbers = [client.ping() for _ in range(100)]
    wire(client)
    pongs = b"".join(number_frame(FrameType.PING, number) for number in numbers)
    assert client.receive_data(pongs) == [PingAcknowledged(number) for number in numbers[-16:]]


def test_data_is_sent_without_a_copy_and_large_data_in_several_frames() -> None:
    client, server = pair(SpdyLimits(max_data_frame=10))
    stream = client.open_stream([])
    transfer(client, server)
    payload = bytes(range(25))
    server.send_data(stream, payload, fin=True)
    pieces = server.data_to_send()
    assert [bytes(piece) for piece in pieces] == [
        data_header(stream, 10, False),
        payload[:10],
        data_header(stream, 10, False),
        payload[10:20],
        data_header(stream, 5, True),
        payload[20:],
    ]
    assert all(isinstance(piece, memoryview) and piece.obj is payload for piece in pieces[1::2])


@given(st.integers(1, 12), st.binary(max_size=100))
def test_data_of_any_length_arrives_whole(most: int, payload: bytes) -> None:
    client, server = pair(SpdyLimits(max_data_frame=most))
    stream = client.open_stream([])
    transfer(client, server)
    server.reply(stream)
    server.send_data(stream, payload, fin=True)
    events = transfer(server, client)
    assert b"".join(event.data for event in events if isinstance(event, DataReceived)) == payload
    assert events[-1] == StreamEnded(stream)


def test_nothing_is_sent_for_no_data() -> None:
    client, _ = pair()
    stream = client.open_stream([])
    wire(client)
    client.send_data(stream, b"")
    assert client.data_to_send() == []


def test_a_reply_is_given_once_and_only_to_the_peers_streams() -> None:
    client, server = pair()
    stream = client.open_stream([])
    transfer(client, server)
    with pytest.raises(ValueError, match="awaits no reply"):
        client.reply(stream)
    server.reply(stream)
    with pytest.raises(ValueError, match="awaits no reply"):
        server.reply(stream)


def test_the_peers_settings_limit_how_many_streams_we_open() -> None:
    client, _ = pair()
    assert client.receive_data(settings_frame([Setting(SettingId.MAX_CONCURRENT_STREAMS, 1)])) == [
        SettingsReceived({SettingId.MAX_CONCURRENT_STREAMS: 1})
    ]
    client.open_stream([])
    with pytest.raises(StreamClosedError, match="allows 1 streams"):
        client.open_stream([])


def test_numbers_for_streams_run_out() -> None:
    client, _ = pair()
    client._streams._next_own = 0x7FFFFFFF  # two thousand million streams take too long
    assert client.open_stream([]) == 0x7FFFFFFF
    with pytest.raises(StreamClosedError, match="no stream numbers left"):
        client.open_stream([])


def test_unacknowledged_counts_what_nobody_has_dealt_with() -> None:
    client, server = pair()
    stream = client.open_stream([])
    client.send_data(stream, b"12345")
    transfer(client, server)
    assert server.unacknowledged == 5
    server.acknowledge(stream, 3)
    assert server.unacknowledged == 2
    with pytest.raises(ValueError, match="more bytes"):
        server.acknowledge(stream, 3)
    server.reset(stream)
    server.acknowledge(stream, 2)  # also of a stream that is gone
    assert server.unacknowledged == 0
    with pytest.raises(ValueError, match="more bytes"):
        server.acknowledge(stream, 1)


# What a peer does wrong


def failure(events: Sequence[Event]) -> SpdyError:
    assert isinstance(events[-1], SessionFailed)
    return events[-1].error


def assert_session_ends(received: bytes, message: str, *, client: bool = False) -> None:
    connection = SpdyConnection(client=client)
    error = failure(connection.receive_data(received))
    assert message in str(error)
    frames = Peer().answers(connection)
    assert isinstance(frames[-1], GoAway)
    assert frames[-1].status == GoAwayStatus.PROTOCOL_ERROR
    assert connection.closed
    assert connection.receive_data(number_frame(FrameType.PING, 1)) == []
    assert wire(connection) == b""


@pytest.mark.parametrize(
    ("received", "message"),
    [
        (Peer().syn_stream(2), "a number of ours"),
        (data(1, b"x"), "never opened"),
        (data(2, b"x"), "never opened"),
        (Peer().block(FrameType.HEADERS, 1), "never opened"),
        (Peer().block(FrameType.SYN_REPLY, 2), "never opened"),
        (pair_frame(FrameType.RST_STREAM, 1, 5), "never opened"),
        (pair_frame(FrameType.RST_STREAM, 0, 5), "never opened"),
        (pair_frame(FrameType.WINDOW_UPDATE, 1, 5), "never opened"),
        (pair_frame(FrameType.WINDOW_UPDATE, 0, 0), "by nothing"),
        (settings_frame([Setting(SettingId.INITIAL_WINDOW_SIZE, 1 << 31)]), "initial window"),
        (struct.pack(">HHI", 0x8002, 1, 10), "version 3"),
    ],
)
def test_mistakes_about_the_session_end_it(received: bytes, message: str) -> None:
    assert_session_ends(received, message)


@pytest.mark.parametrize("second", [1, 3])
def test_a_number_that_was_used_or_passed_ends_the_session(second: int) -> None:
    peer = Peer()
    connection = SpdyConnection(client=False)
    events = connection.receive_data(peer.syn_stream(3) + peer.syn_stream(second))
    assert "used or passed" in str(failure(events))


def test_frames_before_a_mistake_count_and_those_after_it_do_not() -> None:
    peer = Peer()
    connection = SpdyConnection(client=False)
    events = connection.receive_data(peer.syn_stream(1) + data(9, b"") + peer.syn_stream(3))
    assert [type(event) for event in events] == [StreamOpened, SessionFailed]
    assert peer.answers(connection) == [GoAway(1, GoAwayStatus.PROTOCOL_ERROR)]


@pytest.mark.parametrize("late", ["data", "headers"])
def test_more_after_the_end_of_a_stream_resets_it(late: str) -> None:
    peer = Peer()
    connection = SpdyConnection(client=False)
    connection.receive_data(peer.syn_stream(1, FLAG_FIN))
    connection.reply(1)
    more = data(1, b"x") if late == "data" else peer.block(FrameType.HEADERS, 1)
    assert connection.receive_data(more) == [StreamReset(1, RstStatus.STREAM_ALREADY_CLOSED, by_peer=False)]
    assert peer.answers(connection) == [SynReply(1, False, ()), RstStream(1, RstStatus.STREAM_ALREADY_CLOSED)]
    assert connection.receive_data(data(1, b"y")) == []  # once is enough
    assert not connection.closed


@pytest.mark.parametrize("early", ["data", "headers"])
def test_anything_before_the_reply_to_our_stream_resets_it(early: str) -> None:
    peer = Peer()
    connection = SpdyConnection(client=True)
    stream = connection.open_stream([])
    more = data(stream, b"x") if early == "data" else peer.block(FrameType.HEADERS, stream)
    assert connection.receive_data(more) == [StreamReset(stream, RstStatus.PROTOCOL_ERROR, by_peer=False)]


def test_a_second_reply_resets_the_stream() -> None:
    peer = Peer()
    connection = SpdyConnection(client=True)
    stream = connection.open_stream([])
    events = connection.receive_data(peer.block(FrameType.SYN_REPLY, stream) + peer.block(FrameType.SYN_REPLY, stream))
    assert events == [
        StreamReplied(stream, (("a", "b"),)),
        StreamReset(stream, RstStatus.STREAM_IN_USE, by_peer=False),
    ]
    assert connection.receive_data(peer.block(FrameType.SYN_REPLY, stream)) == []


def test_a_reply_to_a_one_way_stream_resets_it() -> None:
    connection = SpdyConnection(client=True)
    stream = connection.open_stream([], unidirectional=True)
    assert connection.receive_data(Peer().block(FrameType.SYN_REPLY, stream)) == [
        StreamReset(stream, RstStatus.STREAM_ALREADY_CLOSED, by_peer=False)
    ]


def test_a_reply_to_the_peers_own_stream_resets_it() -> None:
    peer = Peer()
    connection = SpdyConnection(client=False)
    connection.receive_data(peer.syn_stream(1, FLAG_UNIDIRECTIONAL))
    assert connection.receive_data(peer.block(FrameType.SYN_REPLY, 1)) == [
        StreamReset(1, RstStatus.PROTOCOL_ERROR, by_peer=False)
    ]


def test_one_stream_more_than_the_limit_is_refused_until_another_ends() -> None:
    peer = Peer()
    connection = SpdyConnection(client=False, limits=SpdyLimits(max_streams=2))
    opened = connection.receive_data(b"".join(peer.syn_stream(number) for number in (1, 3, 5)))
    assert [event.stream_id for event in opened if isinstance(event, StreamOpened)] == [1, 3]
    assert peer.answers(connection) == [RstStream(5, RstStatus.REFUSED_STREAM)]
    assert connection.receive_data(data(5, b"on its way")) == []
    connection.reset(1)
    assert len(connection.receive_data(peer.syn_stream(7))) == 1


def test_a_bad_header_block_ends_the_session() -> None:
    assert_session_ends(
        control_frame(FrameType.SYN_STREAM, 0, bytes([0, 0, 0, 1, *bytes(6)]) + b"zip?"), "decompressed"
    )


def test_the_parsers_limits_are_the_sessions() -> None:
    limits = SpdyLimits(parser=ParserLimits(max_control_bytes=64))
    connection = SpdyConnection(client=False, limits=limits)
    assert "more than 64 bytes" in str(failure(connection.receive_data(struct.pack(">HHI", 0x8003, 1, 65))))


@pytest.mark.parametrize(
    "limits", [{"window": 100}, {"window": 1 << 31}, {"max_data_frame": 0}, {"max_data_frame": 1 << 24}]
)
def test_limits_that_spdy_cannot_keep_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="bytes, not"):
        SpdyLimits(**limits)  # type: ignore[arg-type]


def test_the_end_of_the_connection_ends_the_session() -> None:
    client, server = pair()
    stream = client.open_stream([])
    transfer(client, server)
    server.receive_eof()
    assert server.closed
    assert server.streams == 0
    with pytest.raises(StreamClosedError):
        server.send_data(stream, b"x")


def test_a_ping_of_the_peer_is_answered_though_it_is_large() -> None:
    connection = SpdyConnection(client=False)
    connection.receive_data(number_frame(FrameType.PING, 0xFFFFFFFF))
    assert Peer().answers(connection) == [Ping(0xFFFFFFFF)]


@given(st.binary(max_size=200), cuts())
def test_where_bytes_are_cut_does_not_change_what_they_mean(tail: bytes, places: list[int]) -> None:
    peer = Peer()
    received = peer.syn_stream(1) + data(1, b"hello") + peer.syn_stream(3, FLAG_FIN) + tail

    def meaning(pieces: Sequence[Buffer]) -> tuple[list[object], bytes, bool]:
        connection = SpdyConnection(client=False)
        found: list[object] = []
        for piece in pieces:
            for event in connection.receive_data(piece):
                if isinstance(event, DataReceived):
                    found += [(event.stream_id, byte) for byte in event.data]
                elif isinstance(event, SessionFailed):
                    found.append(str(event.error))
                else:
                    found.append(event)
        return found, wire(connection), connection.closed

    assert meaning([received]) == meaning(list(cut(received, places)))

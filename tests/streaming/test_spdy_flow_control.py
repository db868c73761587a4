"""Windows, where they are on: nobody sends more than the other has room for, and all of it arrives."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.events import (
    DataReceived,
    SessionFailed,
    StreamEnded,
    StreamReset,
    WindowOpened,
)
from virtual_kubelet.streaming.spdy.flow_control import DEFAULT_WINDOW
from virtual_kubelet.streaming.spdy.frames import (
    FrameType,
    RstStatus,
    Setting,
    SettingId,
    data_header,
    pair_frame,
    settings_frame,
)
from virtual_kubelet.streaming.spdy.limits import SpdyLimits

SMALL = SpdyLimits(window=DEFAULT_WINDOW)


def opened(
    client_limits: SpdyLimits = SMALL, server_limits: SpdyLimits = SMALL
) -> tuple[SpdyConnection, SpdyConnection, int]:
    client = SpdyConnection(client=True, limits=client_limits, flow_control=True)
    server = SpdyConnection(client=False, limits=server_limits, flow_control=True)
    stream = client.open_stream([])
    exchange(client, server)
    server.reply(stream)
    exchange(client, server)
    return client, server, stream


def exchange(client: SpdyConnection, server: SpdyConnection) -> None:
    server.receive_data(b"".join(client.data_to_send()))
    client.receive_data(b"".join(server.data_to_send()))
    server.receive_data(b"".join(client.data_to_send()))


def test_more_than_the_window_is_not_sent_until_the_peer_has_made_room() -> None:
    client, server, stream = opened()
    assert client.send_capacity(stream) == DEFAULT_WINDOW
    client.send_data(stream, bytes(DEFAULT_WINDOW))
    assert client.send_capacity(stream) == 0
    with pytest.raises(ValueError, match="do not fit"):
        client.send_data(stream, b"x")
    server.receive_data(b"".join(client.data_to_send()))
    assert server.data_to_send() == []
    server.acknowledge(stream, DEFAULT_WINDOW // 2 - 1)
    assert server.data_to_send() == []  # not worth a frame
    server.acknowledge(stream, 1)
    events = client.receive_data(b"".join(server.data_to_send()))
    assert events == [WindowOpened(stream), WindowOpened(0)]
    assert client.send_capacity(stream) == DEFAULT_WINDOW // 2


def test_a_stream_may_end_though_its_window_is_shut() -> None:
    client, server, stream = opened()
    client.send_data(stream, bytes(DEFAULT_WINDOW))
    client.end_stream(stream)
    events = server.receive_data(b"".join(client.data_to_send()))
    assert events[-1] == StreamEnded(stream)
    server.acknowledge(stream, DEFAULT_WINDOW)
    assert b"".join(server.data_to_send()) == pair_frame(FrameType.WINDOW_UPDATE, 0, DEFAULT_WINDOW)  # only the session


def test_all_streams_together_have_the_sessions_window() -> None:
    client, server, first = opened()
    second = client.open_stream([])
    client.send_data(first, bytes(DEFAULT_WINDOW - 10))
    assert client.send_capacity(second) == 10
    server.receive_data(b"".join(client.data_to_send()))
    server.acknowledge(first, DEFAULT_WINDOW - 10)
    client.receive_data(b"".join(server.data_to_send()))
    assert client.send_capacity(second) == DEFAULT_WINDOW


def test_a_larger_window_is_announced() -> None:
    client, _, stream = opened(server_limits=SpdyLimits(window=200_000))
    assert client.send_capacity(stream) == 200_000


def test_settings_change_windows_that_are_open_already() -> None:
    client, _, stream = opened()
    client.send_data(stream, bytes(1000))
    client.receive_data(settings_frame([Setting(SettingId.INITIAL_WINDOW_SIZE, 500)]))
    assert client.send_capacity(stream) == 0  # 500 below nothing
    client.receive_data(pair_frame(FrameType.WINDOW_UPDATE, stream, 600))
    assert client.send_capacity(stream) == 100


def test_more_than_a_streams_window_resets_the_stream() -> None:
    client, server, stream = opened(server_limits=SpdyLimits(window=100_000))
    over = 100_001
    # The session's window is as large: widen it by what another stream's reader gives back.
    server._receive_window.left += 10
    events = server.receive_data(data_header(stream, over, False) + bytes(over))
    assert events[-1] == StreamReset(stream, RstStatus.FLOW_CONTROL_ERROR, by_peer=False)
    assert not server.closed
    assert client.receive_data(b"".join(server.data_to_send()))[0] == StreamReset(
        stream, RstStatus.FLOW_CONTROL_ERROR, by_peer=True
    )


def test_more_than_the_sessions_window_ends_the_session() -> None:
    _, server, stream = opened()
    over = DEFAULT_WINDOW + 1
    events = server.receive_data(data_header(stream, over, False) + bytes(over))
    assert isinstance(events[-1], SessionFailed)


@pytest.mark.parametrize("on_stream", [True, False])
def test_a_window_cannot_grow_beyond_what_the_protocol_allows(on_stream: bool) -> None:
    client, _, stream = opened()
    update = pair_frame(FrameType.WINDOW_UPDATE, stream if on_stream else 0, 0x7FFFFFFF)
    events = client.receive_data(update)
    if on_stream:
        assert events == [StreamReset(stream, RstStatus.FLOW_CONTROL_ERROR, by_peer=False)]
    else:
        assert isinstance(events[-1], SessionFailed)


def test_settings_cannot_widen_a_window_beyond_what_the_protocol_allows() -> None:
    client, _, stream = opened()
    client.receive_data(pair_frame(FrameType.WINDOW_UPDATE, stream, 0x7FFFFFFF - DEFAULT_WINDOW))
    events = client.receive_data(settings_frame([Setting(SettingId.INITIAL_WINDOW_SIZE, DEFAULT_WINDOW + 1)]))
    assert isinstance(events[-1], SessionFailed)


def test_what_is_dropped_gives_its_room_back_to_the_session() -> None:
    client, server, stream = opened()
    client.send_data(stream, bytes(DEFAULT_WINDOW))
    server.reset(stream)
    server.receive_data(b"".join(client.data_to_send()))
    client.receive_data(b"".join(server.data_to_send()))
    other = client.open_stream([])
    assert client.send_capacity(other) == DEFAULT_WINDOW


def test_without_flow_control_nothing_is_limited_or_announced_as_kubernetes_has_it() -> None:
    client, server = SpdyConnection(client=True), SpdyConnection(client=False)
    stream = client.open_stream([])
    client.send_data(stream, bytes(300_000))
    server.receive_data(b"".join(client.data_to_send()))
    server.acknowledge(stream, 300_000)
    assert server.data_to_send() == []
    assert client.receive_data(pair_frame(FrameType.WINDOW_UPDATE, 0, 5)) == []
    assert client.send_capacity(stream) > 300_000
    assert client.send_capacity(99) == 0


@settings(max_examples=30)
@given(
    st.integers(0, 300_000),
    st.lists(st.integers(1000, 90_000), min_size=1, max_size=20),
)
def test_everything_arrives_whatever_the_readers_pace(size: int, pace: list[int]) -> None:
    payload = random.Random(size).randbytes(size)
    client, server, stream = opened()
    arrived = bytearray()
    sent = turn = waiting = 0
    while len(arrived) < len(payload):
        step = min(client.send_capacity(stream), len(payload) - sent)
        client.send_data(stream, payload[sent : sent + step])
        sent += step
        for event in server.receive_data(b"".join(client.data_to_send())):
            if isinstance(event, DataReceived):
                arrived += event.data
                waiting += len(event.data)
        assert server.unacknowledged == waiting <= DEFAULT_WINDOW
        taken = min(waiting, pace[turn % len(pace)])
        turn += 1
        server.acknowledge(stream, taken)
        waiting -= taken
        client.receive_data(b"".join(server.data_to_send()))
    assert arrived == payload

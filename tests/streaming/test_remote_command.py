"""Exec and attach on the wire: the streams of each version, tty, resize, how a command ended, clients that misbehave."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.streaming.pieces import cut, cuts
from virtual_kubelet.errors import ProtocolError, StreamClosedError
from virtual_kubelet.streaming.remote_command.resize import ResizeParser, TerminalSize, encode_size
from virtual_kubelet.streaming.remote_command.session import (
    RemoteCommandEvent,
    RemoteCommandOptions,
    RemoteCommandSession,
    Resized,
    SessionEnded,
    StdinClosed,
    StdinData,
    StreamsReady,
)
from virtual_kubelet.streaming.remote_command.spdy_client import (
    ClientEvent,
    CommandEnded,
    OutputData,
    OutputEnded,
    SpdyRemoteCommandClient,
)
from virtual_kubelet.streaming.remote_command.spdy_session import SpdyRemoteCommand, expected_streams
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.streaming.remote_command.websocket_session import (
    ERROR,
    RESIZE,
    STDERR,
    STDIN,
    STDOUT,
    WEBSOCKET_PROTOCOLS,
    WebSocketRemoteCommand,
)
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.events import DataReceived, StreamEnded, StreamReset
from virtual_kubelet.streaming.websocket.channels import (
    ChannelConnection,
    ChannelData,
    ChannelProtocol,
    ChannelsEnded,
)

SPDY_PROTOCOLS = [
    "",
    "channel.k8s.io",
    "v2.channel.k8s.io",
    "v3.channel.k8s.io",
    "v4.channel.k8s.io",
    "v5.channel.k8s.io",
]
ALL = RemoteCommandOptions(stdin=True, stdout=True, stderr=True)
TTY = RemoteCommandOptions(stdin=True, stdout=True, tty=True)


def wire(side: Any) -> bytes:
    return b"".join(side.data_to_send())


class WebSocketClient:
    """kubectl's side of the channels."""

    def __init__(self, protocol: str) -> None:
        self.channels = ChannelConnection(ChannelProtocol.named(protocol), 5, [STDOUT, STDERR, ERROR], client=True)
        self.received = {STDOUT: b"", STDERR: b"", ERROR: b""}
        self.ended = False

    def receive(self, data: bytes) -> None:
        for event in self.channels.receive_data(data):
            if isinstance(event, ChannelData):
                self.received[event.channel] += bytes(event.data)
            self.ended |= isinstance(event, ChannelsEnded)


# The request


def test_a_terminal_has_no_stderr_of_its_own() -> None:
    options = RemoteCommandOptions.asked(stdin=True, stdout=True, stderr=True, tty=True)
    assert options == RemoteCommandOptions(stdin=True, stdout=True, stderr=False, tty=True)


@pytest.mark.parametrize("tty", [True, False])
def test_a_command_without_any_stream_is_refused_in_the_kubelets_words(tty: bool) -> None:
    with pytest.raises(ProtocolError, match="you must specify at least 1 of stdin, stdout, stderr") as caught:
        RemoteCommandOptions.asked(stdin=False, stdout=False, stderr=tty, tty=tty)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("options", "version", "streams"),
    [
        (ALL, 4, {"error", "stdin", "stdout", "stderr"}),
        (RemoteCommandOptions(stdout=True), 4, {"error", "stdout"}),
        (TTY, 4, {"error", "stdin", "stdout", "resize"}),
        (TTY, 3, {"error", "stdin", "stdout", "resize"}),
        (TTY, 2, {"error", "stdin", "stdout"}),
        (TTY, 1, {"error", "stdin", "stdout"}),
    ],
)
def test_the_streams_a_version_opens(options: RemoteCommandOptions, version: int, streams: set[str]) -> None:
    assert expected_streams(options, version) == streams


# How it ended


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    "status", [CommandStatus.success(), CommandStatus.exited(3), CommandStatus.failed("no such file")]
)
def test_a_client_reads_the_status_that_was_written(status: CommandStatus, version: int) -> None:
    read = CommandStatus.decode(status.encode(version), version)
    if version >= 4:
        assert read.exit_code == status.exit_code
        assert status.message in read.message
    else:
        assert (read.exit_code == 0) == (status.exit_code == 0)
        assert status.message in read.message


def test_from_version_4_on_the_exit_code_is_in_the_causes() -> None:
    assert json.loads(CommandStatus.exited(137).encode(4)) == {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: command terminated with exit code 137",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": "137"}]},
    }


def test_before_version_4_a_failure_is_a_sentence_and_success_is_nothing() -> None:
    assert CommandStatus.success().encode(3) == b""
    sentence = b"command terminated with non-zero exit code: command terminated with exit code 3"
    assert CommandStatus.exited(3).encode(3) == sentence
    assert CommandStatus.failed("x").encode(1) == b"Internal error occurred: x"


def test_exit_code_0_is_success() -> None:
    assert CommandStatus.exited(0) == CommandStatus.success()


def test_a_message_that_is_no_unicode_is_written_all_the_same() -> None:
    assert b"?" in CommandStatus.failed("\udcff").encode(4)
    assert b"?" in CommandStatus.failed("\udcff").encode(1)


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"[]", b'{"status":"Failure","reason":"NonZeroExitCode"}',
     b'{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"x"}]}}'],
)  # fmt: skip
def test_what_is_no_status_is_an_error_for_the_client(data: bytes) -> None:
    with pytest.raises(ValueError):
        CommandStatus.decode(data, 4)


# Resize


@given(st.lists(st.builds(TerminalSize, st.integers(0, 65535), st.integers(0, 65535)), max_size=6), cuts())
def test_sizes_in_any_pieces_arrive_as_they_were_sent(sizes: list[TerminalSize], places: list[int]) -> None:
    parser = ResizeParser()
    stream = b"".join(encode_size(size) for size in sizes)
    assert [size for piece in cut(stream, places) for size in parser.feed(piece)] == sizes


def test_sizes_are_written_as_client_go_does() -> None:
    assert encode_size(TerminalSize(80, 24)) == b'{"Width":80,"Height":24}\n'


def test_names_of_a_size_are_read_in_any_case_as_go_does() -> None:
    assert ResizeParser().feed(b'{"width":1,"HEIGHT":2}') == [TerminalSize(1, 2)]


@pytest.mark.parametrize(
    "data",
    [b"}", b"{x}", b"[1]}", b'{"Width":-1}', b'{"Width":65536}', b'{"Width":"1"}', b'{"Width":1.5}', b'{"Width":true}',
     b'{"Width":{}}', b"[" * 1000 + b"}"],
)  # fmt: skip
def test_what_is_no_size_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="a resize message"):
        ResizeParser().feed(data)


def test_a_message_that_never_ends_is_not_held_beyond_the_limit() -> None:
    parser = ResizeParser(max_message=10)
    assert parser.feed(b" " * 1000) == []
    assert parser.feed(b'{"Width":') == []
    with pytest.raises(ProtocolError, match="more than 10 bytes"):
        parser.feed(b"12")


@given(st.binary(max_size=60), cuts())
def test_any_bytes_are_sizes_or_a_protocol_error(data: bytes, places: list[int]) -> None:
    parser = ResizeParser(max_message=30)
    try:
        for piece in cut(data, places):
            parser.feed(piece)
    except ProtocolError:
        pass


# Over SPDY


def started(
    options: RemoteCommandOptions, protocol: str = "v4.channel.k8s.io"
) -> tuple[SpdyRemoteCommandClient, SpdyRemoteCommand]:
    client, node = SpdyRemoteCommandClient(options, protocol), SpdyRemoteCommand(options, protocol)
    assert node.receive_data(wire(client)) == [StreamsReady()]
    assert client.receive_data(wire(node)) == []
    return client, node


@pytest.mark.parametrize("protocol", SPDY_PROTOCOLS)
def test_a_command_over_spdy_in_every_version(protocol: str) -> None:
    client, node = started(ALL, protocol)
    client.send_stdin(b"in")
    client.end_stdin()
    assert node.receive_data(wire(client)) == [StdinData(memoryview(b"in")), StdinClosed()]
    assert node.unacknowledged == 2
    node.acknowledge(2)
    node.send_stdout(b"out")
    node.send_stderr(b"err")
    assert client.receive_data(wire(node)) == [
        OutputData("stdout", memoryview(b"out")),
        OutputData("stderr", memoryview(b"err")),
    ]
    assert client.unacknowledged == 6
    client.acknowledge("stdout", 3)
    node.finish(CommandStatus.exited(3))
    assert node.closed
    *ends, last = client.receive_data(wire(node))
    assert ends == [OutputEnded("stdout"), OutputEnded("stderr")]
    assert isinstance(last, CommandEnded)
    assert last.error is None
    assert last.status is not None
    assert "exit code 3" in last.status.message
    assert last.status.exit_code == (3 if protocol in SPDY_PROTOCOLS[4:] else None)
    assert client.receive_eof() == []


@pytest.mark.parametrize("protocol", SPDY_PROTOCOLS)
def test_success_over_spdy_in_every_version(protocol: str) -> None:
    client, node = started(RemoteCommandOptions(stdout=True), protocol)
    node.finish(CommandStatus.success())
    assert client.receive_data(wire(node))[-1] == CommandEnded(CommandStatus.success())


def test_a_terminal_is_resized_over_spdy() -> None:
    client, node = started(TTY)
    client.resize(TerminalSize(80, 24))
    client.resize(TerminalSize(100, 30))
    assert node.receive_data(wire(client)) == [Resized(TerminalSize(80, 24)), Resized(TerminalSize(100, 30))]
    assert node.unacknowledged == 0


def test_a_version_without_resize_says_nothing_of_it() -> None:
    client, _ = started(TTY, "v2.channel.k8s.io")
    client.resize(TerminalSize(80, 24))
    assert wire(client) == b""


def test_after_a_bad_resize_the_session_goes_on_without_resizes() -> None:
    client, node = started(TTY)
    client._spdy.send_data(client._streams["resize"], b"}")
    client.resize(TerminalSize(1, 1))
    client.send_stdin(b"x")
    assert node.receive_data(wire(client)) == [StdinData(memoryview(b"x"))]


class RawSpdyClient:
    """Opens streams as it likes."""

    def __init__(self) -> None:
        self.spdy = SpdyConnection(client=True)

    def open(self, kind: str, **options: bool) -> int:
        return self.spdy.open_stream([("streamtype", kind)], **options)


def test_the_command_waits_for_all_streams_and_then_gets_what_came_before() -> None:
    client, node = RawSpdyClient(), SpdyRemoteCommand(TTY, "v4.channel.k8s.io")
    stdin, resize = client.open("stdin"), client.open("resize")
    client.spdy.send_data(stdin, b"ea")
    client.spdy.send_data(resize, encode_size(TerminalSize(1, 1)) + encode_size(TerminalSize(2, 2)))
    client.spdy.send_data(stdin, b"rly", fin=True)
    client.open("stdout")
    assert node.receive_data(wire(client.spdy)) == []
    client.open("error")
    assert node.receive_data(wire(client.spdy)) == [
        StreamsReady(),
        Resized(TerminalSize(2, 2)),
        StdinData(b"early"),
        StdinClosed(),
    ]
    assert node.unacknowledged == 5


def test_early_input_in_tiny_frames_costs_no_more_than_its_bytes() -> None:
    client, node = RawSpdyClient(), SpdyRemoteCommand(ALL, "v4.channel.k8s.io")
    stdin = client.open("stdin")
    for _ in range(1000):
        client.spdy.send_data(stdin, b"x")
    assert node.receive_data(wire(client.spdy)) == []
    for kind in ("error", "stdout", "stderr"):
        client.open(kind)
    assert node.receive_data(wire(client.spdy)) == [StreamsReady(), StdinData(b"x" * 1000)]


@pytest.mark.parametrize("kind", ["stdin", "resize", "", "nonsense", "error"])
def test_unwanted_unknown_and_second_streams_are_refused(kind: str) -> None:
    client, node = RawSpdyClient(), SpdyRemoteCommand(RemoteCommandOptions(stdout=True), "v4.channel.k8s.io")
    client.open("error")
    refused = client.open(kind)
    assert node.receive_data(wire(client.spdy)) == []
    assert StreamReset(refused, 5, by_peer=True) in client.spdy.receive_data(wire(node))
    client.open("stdout")
    assert node.receive_data(wire(client.spdy)) == [StreamsReady()]


def test_a_stream_that_takes_nothing_from_us_is_not_answered_but_counts() -> None:
    client, node = RawSpdyClient(), SpdyRemoteCommand(RemoteCommandOptions(stdin=True), "v4.channel.k8s.io")
    client.open("error")
    client.open("stdin", unidirectional=True)
    assert node.receive_data(wire(client.spdy)) == [StreamsReady()]


def test_output_that_nobody_reads_any_more_is_refused_like_a_broken_pipe() -> None:
    client, node = started(RemoteCommandOptions(stdout=True))
    client._spdy.reset(client._streams["stdout"])
    assert node.receive_data(wire(client)) == []
    with pytest.raises(StreamClosedError):
        node.send_stdout(b"x")
    with pytest.raises(StreamClosedError):
        node.send_stderr(b"never opened")
    node.finish(CommandStatus.success())
    assert client.receive_data(wire(node)) == []


def test_a_stdin_stream_that_is_reset_is_the_end_of_input() -> None:
    client, node = started(ALL)
    client._spdy.reset(client._streams["stdin"])
    assert node.receive_data(wire(client)) == [StdinClosed()]


def test_a_vanished_client_ends_the_session_once() -> None:
    _, node = started(ALL)
    assert node.receive_eof() == [SessionEnded(None)]
    assert node.receive_eof() == []
    with pytest.raises(StreamClosedError):
        node.send_stdout(b"x")
    node.finish(CommandStatus.success())
    assert wire(node) == b""


def test_a_client_that_breaks_the_protocol_ends_the_session_with_the_error() -> None:
    _, node = started(ALL)
    (event,) = node.receive_data(b"\0\0\0\0\0\0\0\0")
    assert isinstance(event, SessionEnded)
    assert "stream 0" in str(event.error)
    assert node.closed


def test_aborting_closes_without_a_status() -> None:
    client, node = started(ALL)
    node.abort("the client did not open its streams in time")
    *_, last = client.receive_data(wire(node))
    assert isinstance(last, CommandEnded)
    assert last.status is None
    assert node.closed


def test_a_silent_session_is_kept_alive_by_pings() -> None:
    client, node = started(ALL)
    node.ping()
    assert client.receive_data(wire(node)) == []
    assert node.receive_data(wire(client)) == []


# The API server's side


def test_the_client_waits_for_output_that_comes_after_the_status() -> None:
    client, node = started(RemoteCommandOptions(stdout=True))
    error, stdout = node._streams["error"], node._streams["stdout"]
    node._spdy.send_data(error, CommandStatus.success().encode(4), fin=True)
    assert client.receive_data(wire(node)) == []
    node._spdy.send_data(stdout, b"late", fin=True)
    assert client.receive_data(wire(node)) == [
        OutputData("stdout", memoryview(b"late")),
        OutputEnded("stdout"),
        CommandEnded(CommandStatus.success()),
    ]


def test_a_node_that_vanishes_has_said_no_status() -> None:
    for protocol in ("channel.k8s.io", "v4.channel.k8s.io"):
        client, _ = started(ALL, protocol)
        assert client.receive_eof() == [CommandEnded(None)]
        assert client.receive_data(b"x") == []


@pytest.mark.parametrize(("status", "message"), [(b"nonsense", "is none"), (b"x" * 101, "more than 100 bytes")])
def test_a_status_that_is_none_is_an_error(status: bytes, message: str) -> None:
    options = RemoteCommandOptions(stdout=True)
    client = SpdyRemoteCommandClient(options, "v4.channel.k8s.io", max_status=100)
    node = SpdyRemoteCommand(options, "v4.channel.k8s.io")
    node.receive_data(wire(client))
    node._spdy.send_data(node._streams["error"], status)
    node._spdy.close()
    event = client.receive_data(wire(node))[-1]
    assert isinstance(event, CommandEnded)
    assert message in str(event.error)


def test_a_node_that_breaks_the_protocol_ends_the_command_with_the_error() -> None:
    client, _ = started(ALL)
    (event,) = client.receive_data(b"\0\0\0\0\0\0\0\0")
    assert isinstance(event, CommandEnded)
    assert "stream 0" in str(event.error)


def test_a_stream_that_the_node_opens_is_refused_and_its_data_dropped() -> None:
    client, node = started(ALL)
    stream = node._spdy.open_stream([("streamtype", "stdout")])
    node._spdy.send_data(stream, b"x", fin=True)
    assert client.receive_data(wire(node)) == []
    assert client.unacknowledged == 0
    node.receive_data(wire(client))
    node.send_stdout(b"y")
    assert client.receive_data(wire(node)) == [OutputData("stdout", memoryview(b"y"))]


def test_the_client_can_close() -> None:
    client, node = started(ALL)
    client.close()
    assert StdinClosed() in node.receive_data(wire(client))


# Over WebSocket


def begun(options: RemoteCommandOptions, protocol: str) -> tuple[WebSocketClient, WebSocketRemoteCommand]:
    node, client = WebSocketRemoteCommand(options, protocol), WebSocketClient(protocol)
    assert node.begin() == [StreamsReady()]
    return client, node


@pytest.mark.parametrize("protocol", ["", *WEBSOCKET_PROTOCOLS])
def test_a_command_over_websocket_in_every_version(protocol: str) -> None:
    client, node = begun(ALL, protocol)
    version = ChannelProtocol.named(protocol).version
    client.channels.send(STDIN, b"in")
    if version >= 5:
        client.channels.close_channel(STDIN)
    events = node.receive_data(wire(client.channels))
    assert events == [StdinData(b"in")] + ([StdinClosed()] if version >= 5 else [])
    node.acknowledge(2)
    assert node.unacknowledged == 0
    node.send_stdout(b"out")
    node.send_stderr(b"err")
    node.finish(CommandStatus.exited(3))
    assert node.closed
    client.receive(wire(node))
    assert client.received[STDOUT] == b"out"
    assert client.received[STDERR] == b"err"
    assert CommandStatus.decode(client.received[ERROR], version).exit_code == (3 if version >= 4 else None)
    assert client.ended


def test_the_protocols_served_are_versions_1_to_5_in_binary_and_base64() -> None:
    assert len(WEBSOCKET_PROTOCOLS) == 10
    assert WEBSOCKET_PROTOCOLS[0] == "v5.channel.k8s.io"
    assert {ChannelProtocol.named(name).version for name in WEBSOCKET_PROTOCOLS} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("options", "channel"),
    [(ALL, STDOUT), (RemoteCommandOptions(stderr=True), STDERR), (RemoteCommandOptions(stdin=True), ERROR)],
)
def test_an_empty_message_on_the_lowest_writable_channel_says_that_it_is_open(
    options: RemoteCommandOptions, channel: int
) -> None:
    _, node = begun(options, "v5.channel.k8s.io")
    assert wire(node) == bytes([0x82, 1, channel])


def test_a_terminal_is_resized_over_websocket() -> None:
    client, node = begun(TTY, "v5.channel.k8s.io")
    client.channels.send(RESIZE, encode_size(TerminalSize(80, 24)))
    client.channels.send(RESIZE, b"}")
    client.channels.send(RESIZE, encode_size(TerminalSize(1, 1)))
    assert node.receive_data(wire(client.channels)) == [Resized(TerminalSize(80, 24))]
    assert node.unacknowledged == 0


def test_streams_that_were_not_asked_for_do_not_exist() -> None:
    client, node = begun(RemoteCommandOptions(stdout=True), "v5.channel.k8s.io")
    client.channels.send(STDIN, b"x")
    client.channels.send(RESIZE, b"x")
    assert node.receive_data(wire(client.channels)) == []
    with pytest.raises(StreamClosedError):
        node.send_stderr(b"x")
    node.end_stdout()
    node.end_stderr()
    with pytest.raises(StreamClosedError):
        node.send_stdout(b"x")


def test_a_websocket_client_that_closes_or_vanishes_ends_the_session_once() -> None:
    client, node = begun(ALL, "v5.channel.k8s.io")
    client.channels.close()
    assert node.receive_data(wire(client.channels)) == [SessionEnded(None)]
    assert node.receive_eof() == []
    node.finish(CommandStatus.success())
    with pytest.raises(StreamClosedError):
        node.send_stdout(b"x")
    _, other = begun(ALL, "v5.channel.k8s.io")
    assert other.receive_eof() == [SessionEnded(None)]


def test_a_websocket_session_can_be_aborted_with_a_reason_and_kept_alive() -> None:
    client, node = begun(ALL, "v5.channel.k8s.io")
    node.ping()
    node.abort("the node shuts down")
    assert b"the node shuts down" in wire(node)
    assert node.closed
    assert not client.ended


@given(
    st.sampled_from(["spdy", "websocket"]),
    st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=300)), max_size=8),
    st.binary(max_size=300),
    cuts(),
)
def test_what_a_command_reads_and_writes_is_what_was_sent(
    transport: str, output: list[tuple[bool, bytes]], stdin: bytes, places: list[int]
) -> None:
    node: RemoteCommandSession
    out = {"stdout": b"", "stderr": b""}
    if transport == "spdy":
        client, node = started(ALL)
        client.send_stdin(stdin)
        received = wire(client)
    else:
        websocket, node = begun(ALL, "v5.channel.k8s.io")
        websocket.channels.send(STDIN, stdin)
        received = wire(websocket.channels)
    events: list[RemoteCommandEvent] = [event for piece in cut(received, places) for event in node.receive_data(piece)]
    assert b"".join(event.data for event in events if isinstance(event, StdinData)) == stdin
    for is_stderr, data in output:
        (node.send_stderr if is_stderr else node.send_stdout)(data)
    node.finish(CommandStatus.exited(7))
    sent = wire(node)
    if transport == "spdy":
        client_events: list[ClientEvent] = [
            event for piece in cut(sent, places) for event in client.receive_data(piece)
        ]
        for event in client_events:
            if isinstance(event, OutputData):
                out[event.kind] += event.data
        last = client_events[-1]
        assert isinstance(last, CommandEnded)
        assert last.status == CommandStatus.exited(7)
    else:
        for piece in cut(sent, places):
            websocket.receive(piece)
        out = {"stdout": websocket.received[STDOUT], "stderr": websocket.received[STDERR]}
        assert CommandStatus.decode(websocket.received[ERROR], 5) == CommandStatus.exited(7)
    assert out["stdout"] == b"".join(data for is_stderr, data in output if not is_stderr)
    assert out["stderr"] == b"".join(data for is_stderr, data in output if is_stderr)


def test_the_node_ends_output_streams_before_it_says_the_status() -> None:
    client, node = RawSpdyClient(), SpdyRemoteCommand(RemoteCommandOptions(stdout=True), "v4.channel.k8s.io")
    error, stdout = client.open("error"), client.open("stdout")
    node.receive_data(wire(client.spdy))
    node.finish(CommandStatus.success())
    events = client.spdy.receive_data(wire(node))
    kinds = [
        (type(event), event.stream_id)
        for event in events
        if isinstance(event, DataReceived | StreamEnded | StreamReset)
    ]
    assert kinds == [(StreamEnded, stdout), (DataReceived, error), (StreamReset, error)]

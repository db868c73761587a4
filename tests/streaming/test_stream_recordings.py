"""Every recorded stream decodes, and our node answers the API server's bytes with frames that mean what the recorded
node's do: a real kubelet's in the ``kubelet-*`` and ``websocket-*`` ones, to the letter; in the others the recorded node
is another program, which resets streams at the end that a kubelet half-closes first.
"""

from __future__ import annotations

import json

import pytest

from tests.locations import SHARED
from tests.streaming.recorded_streams import (
    API_SERVER,
    NODE,
    ChannelReader,
    Recording,
    SpdyMeaning,
    SpdyReader,
    load,
)
from virtual_kubelet.streaming.negotiation import (
    PORT_FORWARD_PROTOCOL,
    REMOTE_COMMAND_PROTOCOLS,
    TUNNEL_PREFIX,
    choose_version,
    is_spdy_request,
)
from virtual_kubelet.streaming.port_forward.session import ForwardOpened
from virtual_kubelet.streaming.port_forward.spdy_session import SpdyPortForward
from virtual_kubelet.streaming.remote_command.resize import TerminalSize
from virtual_kubelet.streaming.remote_command.session import (
    RemoteCommandEvent,
    RemoteCommandOptions,
    Resized,
    SessionEnded,
    StdinClosed,
    StdinData,
    StreamsReady,
)
from virtual_kubelet.streaming.remote_command.spdy_session import SpdyRemoteCommand
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.streaming.remote_command.websocket_session import WEBSOCKET_PROTOCOLS, WebSocketRemoteCommand
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.frames import Data, Frame, Ping, RstStream, SynStream
from virtual_kubelet.streaming.spdy.header_block import first_header
from virtual_kubelet.streaming.websocket.handshake import (
    choose_protocol,
    header_tokens,
    is_websocket_request,
    server_headers,
)
from virtual_kubelet.streaming.websocket.tunnel import TunnelledSpdyConnection

pytestmark = pytest.mark.recording

FOLDER = SHARED / "kubernetes-1.36" / "streams"
NO_SUCH_FILE = "error executing command in container: fork/exec /no/such/binary: no such file or directory"
OF_CONTAINERD = (
    "Internal error occurred: error executing command in container: failed to exec in container: failed to start exec "
    '"778cec3d710091c327c1756bca20357ec7958cc6584eb23f386b1ee63fdec8fe": OCI runtime exec failed: exec failed: '
    'unable to start container process: exec: "/no/such/binary": stat /no/such/binary: no such file or directory'
)
EXIT_3_OF_CRI = CommandStatus(
    3,
    "command terminated with non-zero exit code: "
    "error executing command [sh -c echo out; echo err >&2; exit 3], exit code 3",
)
SUCCESS = CommandStatus.success()
#: How the command of each recording ended; None: the client left before.
SPDY_COMMANDS: dict[str, CommandStatus | None] = {
    "attach-stdin": SUCCESS,
    "exec-bad-command": CommandStatus.failed(NO_SUCH_FILE),
    "exec-large": SUCCESS,
    "exec-plain": CommandStatus.exited(3),
    "exec-spdy-client": CommandStatus.exited(3),
    "exec-spdy-client-stdin": SUCCESS,
    "exec-stdin": SUCCESS,
    "exec-tty": None,
    "kubelet-exec-spdy-client": EXIT_3_OF_CRI,
    "kubelet-exec-spdy-client-stdin": SUCCESS,
}
WEBSOCKET_COMMANDS: dict[str, CommandStatus] = {
    "websocket-attach-stdin": SUCCESS,
    "websocket-exec": CommandStatus.exited(3),
    "websocket-exec-bad-command": CommandStatus.failed(OF_CONTAINERD),
    "websocket-exec-early-exit": SUCCESS,
    "websocket-exec-large": SUCCESS,
    "websocket-exec-stdin": SUCCESS,
    "websocket-exec-tty": CommandStatus.exited(4),
}
PORT_FORWARDS = [
    "kubelet-port-forward-spdy-client",
    "port-forward",
    "port-forward-spdy-client",
    "websocket-port-forward",
    "websocket-port-forward-refused",
]
REQUESTS = {
    "websocket-attach-request": "v5.channel.k8s.io",
    "websocket-exec-request": "v5.channel.k8s.io",
    "websocket-exec-stdin-request": "v5.channel.k8s.io",
    "websocket-port-forward-request": "SPDY/3.1+portforward.k8s.io",
}
#: Plain HTTP answers, no streams.
OTHERS = ["logs"]
STDIN = {
    "attach-stdin": b"ping\n",
    "exec-spdy-client-stdin": b"hello\nworld\n",
    "exec-stdin": b"hello\nworld\n",
    "kubelet-exec-spdy-client-stdin": b"hello\nworld\n",
    "websocket-attach-stdin": b"ping\n",
    "websocket-exec-early-exit": bytes(200_000),
    "websocket-exec-stdin": b"hello\nworld\n",
    "websocket-exec-tty": b"echo abc\nexit 4\n",
    "exec-tty": b"abc\n\x04",
}
SIZES = {"exec-tty": [TerminalSize(0, 0)], "websocket-exec-tty": [TerminalSize(100, 30)]}


def recording(name: str) -> Recording:
    path = FOLDER / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"no recordings: {SHARED.name}/ is not beside the repository")
    return load(path)


def options_of(recorded: Recording) -> RemoteCommandOptions:
    names = {"stdin": "input", "stdout": "output", "stderr": "error", "tty": "tty"}
    return RemoteCommandOptions.asked(**{ours: recorded.query.get(name) == ["1"] for ours, name in names.items()})


def exact(name: str) -> bool:
    return name.startswith(("kubelet-", "websocket-"))


def test_every_recording_is_known_here(shared: object) -> None:
    known = {*SPDY_COMMANDS, *WEBSOCKET_COMMANDS, *PORT_FORWARDS, *REQUESTS, *OTHERS}
    assert {path.stem for path in FOLDER.glob("*.jsonl")} == known


@pytest.mark.parametrize("name", [*SPDY_COMMANDS, *PORT_FORWARDS])
@pytest.mark.parametrize("sender", [API_SERVER, NODE])
def test_spdy_decodes_from_both_sides_to_the_last_byte(name: str, sender: str) -> None:
    recorded = recording(name)
    reader = SpdyReader(sender, tunnelled=recorded.is_websocket)
    assert reader.feed(recorded.sent_by(sender))
    assert reader.parser.held == 0


@pytest.mark.parametrize("name", [*SPDY_COMMANDS, *PORT_FORWARDS])
def test_a_spdy_session_of_ours_reads_the_node_as_the_api_server_did(name: str) -> None:
    """Our client opens the same streams and finds no mistake in what the node says."""
    recorded = recording(name)
    client = TunnelledSpdyConnection(client=True) if recorded.is_websocket else SpdyConnection(client=True)
    ours = SpdyReader(API_SERVER, tunnelled=recorded.is_websocket)
    theirs = SpdyReader(API_SERVER, tunnelled=recorded.is_websocket)
    for piece in recorded.pieces:
        if piece.sender == NODE:
            assert "Failed" not in "".join(type(event).__name__ for event in client.receive_data(piece.data))
        else:
            for frame in theirs.feed(piece.data):
                repeat(client, frame)
            ours.feed(b"".join(client.data_to_send()))
    assert ours.meaning == theirs.meaning


def repeat(client: SpdyConnection, frame: Frame) -> None:
    match frame:
        case SynStream(stream_id, _, _, _, _, headers):
            assert client.open_stream(headers) == stream_id
        case Data(stream_id, data, fin):
            if client.takes_data(stream_id):
                client.send_data(stream_id, data, fin=fin)
            else:
                assert not data
                client._writer.data(stream_id, b"", fin=True)  # Go says FIN after RST, too
        case RstStream(stream_id):
            client.reset(stream_id)
        case Ping(ping_id):
            assert client.ping() == ping_id
        case _:
            client.go_away()


@pytest.mark.parametrize("name", SPDY_COMMANDS)
def test_our_node_answers_a_command_over_spdy_as_the_recorded_one(name: str) -> None:
    recorded = recording(name)
    options, status = options_of(recorded), SPDY_COMMANDS[name]
    assert recorded.request.line.startswith("POST ")
    assert is_spdy_request(recorded.request.all("connection"), recorded.request.all("upgrade"))
    version = recorded.response.one("x-stream-protocol-version")
    if exact(name):
        offered = recorded.request.all("x-stream-protocol-version")
        assert choose_version(offered, REMOTE_COMMAND_PROTOCOLS) == version
    node = SpdyRemoteCommand(options, version)
    ours, theirs = (SpdyReader(NODE, tunnelled=False) for _ in range(2))
    events: list[RemoteCommandEvent] = []
    streams: dict[int, str] = {}
    asked = SpdyReader(API_SERVER, tunnelled=False)
    for piece in recorded.pieces:
        if piece.sender == API_SERVER:
            for frame in asked.feed(piece.data):
                if isinstance(frame, SynStream):
                    streams[frame.stream_id] = first_header(frame.headers, "streamtype")
            events += node.receive_data(piece.data)
        else:
            for frame in theirs.feed(piece.data):
                run_command(node, frame, streams, status)
        ours.feed(b"".join(node.data_to_send()))
    events += node.receive_eof()
    expected = theirs.meaning
    if status is not None:
        assert same_status(ours.meaning, expected)
    assert (ours.meaning if exact(name) else ours.meaning.loosely()) == (
        expected if exact(name) else expected.loosely()
    )
    assert_events(name, events, StdinClosed() if options.stdin else None)


def run_command(node: SpdyRemoteCommand, frame: Frame, streams: dict[int, str], status: CommandStatus | None) -> None:
    """The recorded node's output is what our command writes, and when; everything else is up to our node."""
    if not isinstance(frame, Data):
        return
    kind = streams[frame.stream_id]
    if kind == "error":
        assert status is not None
        if not node.closed:  # the status may come in two parts
            node.finish(status)
    elif frame.data:
        (node.send_stdout if kind == "stdout" else node.send_stderr)(frame.data)
    if frame.fin:
        (node.end_stdout if kind == "stdout" else node.end_stderr)()


def same_status(ours: SpdyMeaning, theirs: SpdyMeaning) -> bool:
    """Compare as JSON, and then as bytes: Go escapes ``>`` and ``&``."""
    found, expected = (json.loads(meaning.data[1]) for meaning in (ours, theirs))
    theirs.data[1] = ours.data[1]
    return bool(found == expected)


def assert_events(name: str, events: list[RemoteCommandEvent], end: RemoteCommandEvent | None) -> None:
    assert events[0] == StreamsReady()
    assert events[-1] == SessionEnded(None)
    assert b"".join(event.data for event in events if isinstance(event, StdinData)) == STDIN.get(name, b"")
    assert [event.size for event in events if isinstance(event, Resized)] == SIZES.get(name, [])
    if name not in ("exec-tty", "websocket-exec-tty"):
        assert [event for event in events if isinstance(event, StdinClosed)] == ([end] if end else [])


@pytest.mark.parametrize("name", WEBSOCKET_COMMANDS)
def test_our_node_answers_a_command_over_websocket_as_the_kubelet(name: str) -> None:
    recorded = recording(name)
    assert_handshake(recorded, WEBSOCKET_PROTOCOLS)
    options, status = options_of(recorded), WEBSOCKET_COMMANDS[name]
    node = WebSocketRemoteCommand(options, recorded.response.one("sec-websocket-protocol"))
    ours, theirs = ChannelReader(), ChannelReader()
    events = node.begin()
    for piece in recorded.pieces:
        if piece.sender == API_SERVER:
            events += node.receive_data(piece.data)
        else:
            for channel, payload in theirs.feed(piece.data):
                if channel == 3:
                    node.finish(status)
                elif payload:
                    (node.send_stdout if channel == 1 else node.send_stderr)(payload)
        ours.feed(b"".join(node.data_to_send()))
    events += node.receive_eof()
    assert [(c, json.loads(p) if c == 3 else p) for c, p in ours.messages] == [
        (c, json.loads(p) if c == 3 else p) for c, p in theirs.messages
    ]
    # Where the recorder saw none, the connection was cut before it came.
    assert ours.close == theirs.close or theirs.close is None
    assert_events(name, events, StdinClosed() if options.stdin else None)


@pytest.mark.parametrize("name", PORT_FORWARDS)
def test_our_node_forwards_ports_as_the_recorded_one(name: str) -> None:
    recorded = recording(name)
    tunnelled = recorded.is_websocket
    if tunnelled:
        assert_handshake(recorded, [TUNNEL_PREFIX + PORT_FORWARD_PROTOCOL])
    else:
        offered = recorded.request.all("x-stream-protocol-version")
        assert choose_version(offered, [PORT_FORWARD_PROTOCOL]) == recorded.response.one("x-stream-protocol-version")
    everything = SpdyReader(NODE, tunnelled=tunnelled)
    everything.feed(recorded.sent_by(NODE))
    spdy = TunnelledSpdyConnection(client=False) if tunnelled else SpdyConnection(client=False)
    node = SpdyPortForward(spdy)
    ours, theirs = (SpdyReader(NODE, tunnelled=tunnelled) for _ in range(2))
    forwards: dict[int, int] = {}  # data stream -> error stream, which clients open just before
    for piece in recorded.pieces:
        if piece.sender == API_SERVER:
            for event in node.receive_data(piece.data):
                if isinstance(event, ForwardOpened):
                    forwards[event.forward] = event.forward - 2
        else:
            for frame in theirs.feed(piece.data):
                if isinstance(frame, Data) and frame.stream_id in forwards:
                    if frame.data:
                        node.send(frame.stream_id, frame.data)
                    if frame.fin:
                        error = everything.meaning.data.get(forwards[frame.stream_id], b"").decode()
                        node.end(frame.stream_id, error)
        ours.feed(b"".join(node.data_to_send()))
    node.receive_eof()
    assert forwards
    if name.endswith("-refused"):
        assert "connect: connection refused" in ours.meaning.data[1].decode()
    assert ours.meaning == theirs.meaning


@pytest.mark.parametrize("name", REQUESTS)
def test_a_node_that_declares_websockets_is_asked_for_what_we_serve(name: str) -> None:
    recorded = recording(name)
    assert is_websocket_request(recorded.request.all("connection"), recorded.request.all("upgrade"))
    offered = header_tokens(recorded.request.all("sec-websocket-protocol"))
    served = [*WEBSOCKET_PROTOCOLS, TUNNEL_PREFIX + PORT_FORWARD_PROTOCOL]
    assert choose_protocol(offered, served) == REQUESTS[name]


def assert_handshake(recorded: Recording, served: list[str] | tuple[str, ...]) -> None:
    request = recorded.request
    protocol = choose_protocol(header_tokens(request.all("sec-websocket-protocol")), served)
    headers = server_headers(
        request.line.split(" ")[0], request.one("sec-websocket-key"), request.one("sec-websocket-version"), protocol
    )
    assert [(name.lower(), value) for name, value in headers] == recorded.response.headers

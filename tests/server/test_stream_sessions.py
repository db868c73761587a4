"""Exec, attach and port-forward over real TLS connections, as an API server asks for them, over SPDY and WebSocket."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock, Runtime
from tests.server.raw_http_client import RawClient
from tests.server.recorded_node import Pods, SilentProvider
from tests.server.stream_clients import Address, Command, Forwarding, query, upgraded
from tests.server.test_kubelet_api import WEB, Ada
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.streams import AttachIO, PortStream
from virtual_kubelet.errors import NotFoundError
from virtual_kubelet.runtime.pod_engine import PodEngine
from virtual_kubelet.server.authorization import AlwaysAllowAuthorizer
from virtual_kubelet.server.kubelet_api import KubeletServer
from virtual_kubelet.server.stream_limits import StreamLimits
from virtual_kubelet.streaming.remote_command.resize import TerminalSize
from virtual_kubelet.streaming.remote_command.session import RemoteCommandOptions
from virtual_kubelet.streaming.remote_command.spdy_client import SpdyRemoteCommandClient
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.streaming.websocket.handshake import request_headers

EXEC, ATTACH, FORWARD = "/exec/ns/web/main", "/attach/ns/web/main", "/portForward/ns/web"
ALL = RemoteCommandOptions(stdin=True, stdout=True, stderr=True)
OUT = RemoteCommandOptions(stdout=True)
Run = Callable[[AttachIO], Awaitable[Any]]
Connect = Callable[[int, PortStream], Awaitable[None]]


class StreamingProvider(SilentProvider):
    """Runs what a test tells it to."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Run = cat
        self.connect: Connect = echo
        self.asked: list[tuple[PodKey, str, list[str]]] = []
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def run_in_container(self, key: PodKey, container: str, command: Sequence[str], streams: AttachIO) -> int:
        self.asked.append((key, container, list(command)))
        self.started.set()
        try:
            code: int = await self.run(streams)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return code

    async def attach_to_container(self, key: PodKey, container: str, streams: AttachIO) -> None:
        self.started.set()
        await self.run(streams)

    async def port_forward(self, key: PodKey, port: int, stream: PortStream) -> None:
        self.started.set()
        try:
            await self.connect(port, stream)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def cat(streams: AttachIO) -> int:
    assert streams.stdin is not None
    assert streams.stdout is not None
    while data := await streams.stdin.read():
        await streams.stdout.write(data)
    return 0


async def forever(streams: AttachIO) -> int:
    await asyncio.Event().wait()
    return 0


async def echo(port: int, stream: PortStream) -> None:
    while data := await stream.read():
        await stream.write(b"%d:" % port + data)


@pytest.fixture
def provider() -> StreamingProvider:
    return StreamingProvider()


class Node:
    """A server on a real port, and clients of it."""

    def __init__(self, server: KubeletServer, address: Address, context: ssl.SSLContext) -> None:
        self.server = server
        self.address = address
        self.context = context

    async def client(self) -> RawClient:
        return await RawClient.open(self.address, self.context)

    async def empty(self) -> None:
        """No session is left."""
        async with asyncio.timeout(20):
            while self.server.stream_sessions:
                await asyncio.sleep(0.01)


Start = Callable[..., Awaitable[Node]]


@pytest.fixture
async def start(
    nothing_left: None, serving_context: ssl.SSLContext, client_context: ssl.SSLContext, provider: StreamingProvider
) -> AsyncIterator[Start]:
    nodes: list[Node] = []

    async def make(limits: StreamLimits | None = None, provider: SilentProvider = provider) -> Node:
        server = KubeletServer(
            "node-1",
            provider,
            Pods([WEB]),
            authenticator=Ada(),
            authorizer=AlwaysAllowAuthorizer(),
            ssl_context=serving_context,
            stream_limits=limits,
        )
        (address,) = await server.start("127.0.0.1", 0)
        nodes.append(Node(server, address, client_context))
        return nodes[-1]

    yield make
    for node in nodes:
        await node.empty()
        await node.server.aclose(grace=0)


@asynccontextmanager
async def command(
    node: Node, transport: str, options: RemoteCommandOptions, arguments: Sequence[str] = (), path: str = EXEC
) -> AsyncIterator[Command]:
    async with await node.client() as client:
        yield await getattr(Command, transport)(client, path, options, arguments)


both = pytest.mark.parametrize("transport", ["spdy", "websocket"])
in_both_forms = pytest.mark.parametrize("tunnelled", [False, True])


# Commands


@both
async def test_exec_with_stdin_output_and_exit_code(transport: str, start: Start, provider: StreamingProvider) -> None:
    async def run(streams: AttachIO) -> int:
        assert streams.stdin is not None
        assert streams.stdout is not None
        assert streams.stderr is not None
        while data := await streams.stdin.read(3):
            await streams.stdout.write(data.upper())
        await streams.stderr.write(bytearray(b"done"))
        return 3

    provider.run = run
    async with command(await start(), transport, ALL, ["sh", "-c", "a b; c & d"]) as session:
        session.send(b"hello\n")
        session.end_stdin()
        assert await session.finish() == CommandStatus.exited(3)
    assert session.stdout == b"HELLO\n"
    assert session.stderr == b"done"
    assert provider.asked == [(PodKey("ns", "web", "uid-web"), "main", ["sh", "-c", "a b; c & d"])]


@both
async def test_attach_ends_with_success(transport: str, start: Start) -> None:
    async with command(await start(), transport, ALL, path=ATTACH) as session:
        session.send(b"ping")
        session.end_stdin()
        assert await session.finish() == CommandStatus.success()
    assert session.stdout == b"ping"


@both
async def test_megabytes_through_stdin_and_back_are_the_same(transport: str, start: Start) -> None:
    payload = bytes(range(251)) * 40_000
    async with command(await start(), transport, ALL) as session:

        async def send() -> None:
            for begin in range(0, len(payload), 50_000):
                session.send(payload[begin : begin + 50_000])
                await session.client.writer.drain()
            session.end_stdin()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            group.create_task(session.finish())
    assert session.stdout == payload


@both
async def test_a_terminal_is_resized_and_has_no_stderr(
    transport: str, start: Start, provider: StreamingProvider
) -> None:
    sizes: asyncio.Queue[TerminalSize] = asyncio.Queue()

    async def run(streams: AttachIO) -> int:
        assert streams.tty
        assert streams.stderr is None
        async for size in streams.resizes:
            sizes.put_nowait(size)
            if size.width == 132:
                break
        return 0

    provider.run = run
    options = RemoteCommandOptions(stdin=True, stdout=True, tty=True)
    async with command(await start(), transport, options) as session:
        for size in (TerminalSize(80, 24), TerminalSize(132, 50)):
            if isinstance(session.session, SpdyRemoteCommandClient):
                session.session.resize(size)
            else:
                session.session.send(4, b'{"Width":%d,"Height":%d}\n' % size)
            session.flush()
            async with asyncio.timeout(20):
                assert await sizes.get() == size
        assert await session.finish() == CommandStatus.success()


@both
@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (NotFoundError("no such file: /no/such"), "error executing command in container: no such file: /no/such"),
        (RuntimeError("secret"), "error executing command in container: the node failed; its log says why"),
        (BrokenPipeError(), "error executing command in container: nobody reads its output"),
    ],
)
async def test_a_command_that_fails_in_the_provider_says_why(
    transport: str,
    failure: Exception,
    message: str,
    start: Start,
    provider: StreamingProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run(streams: AttachIO) -> int:
        raise failure

    provider.run = run
    async with command(await start(), transport, OUT) as session:
        status = await session.finish()
    assert status.exit_code is None
    assert message in status.message
    assert ("a command failed in the provider" in caplog.text) is isinstance(failure, RuntimeError)


async def test_an_exit_code_that_is_none_is_a_failure_of_the_node(start: Start, provider: StreamingProvider) -> None:
    async def run(streams: AttachIO) -> None:
        return None

    provider.run = run
    async with command(await start(), "spdy", OUT) as session:
        assert (await session.finish()).exit_code is None


@both
async def test_the_status_arrives_though_the_client_goes_on_sending(
    transport: str, start: Start, provider: StreamingProvider
) -> None:
    """A connection closed on unread input is reset, and the status would be lost with it."""

    async def head(streams: AttachIO) -> int:
        assert streams.stdin is not None
        assert streams.stdout is not None
        await streams.stdout.write((await streams.stdin.read(3))[:3])
        return 0

    provider.run = head
    async with command(await start(), transport, ALL) as session:
        for _ in range(5):
            session.send(bytes(20_000))
        assert await session.finish() == CommandStatus.success()
    assert session.stdout == bytes(3)


# Clients that go, wait, or flood


@both
@pytest.mark.parametrize("kind", [forever, cat])
async def test_a_client_that_vanishes_has_its_command_cancelled(
    transport: str, kind: Run, start: Start, provider: StreamingProvider
) -> None:
    provider.run = kind
    node = await start()
    async with command(node, transport, ALL) as session:
        async with asyncio.timeout(20):
            await provider.started.wait()
        session.send(b"x")
    async with asyncio.timeout(20):
        await provider.cancelled.wait()
    await node.empty()


@both
async def test_a_client_that_vanishes_is_noticed_though_nobody_reads_its_input(
    transport: str, start: Start, provider: StreamingProvider
) -> None:
    provider.run = forever
    node = await start(StreamLimits(input_buffer_bytes=1000))
    async with command(node, transport, ALL) as session:
        for _ in range(10):
            session.send(bytes(10_000))
        async with asyncio.timeout(20):
            await provider.started.wait()
            await session.client.writer.drain()
    async with asyncio.timeout(20):
        await provider.cancelled.wait()


@both
async def test_input_that_nobody_reads_holds_up_its_client_and_takes_no_memory(
    transport: str, start: Start, provider: StreamingProvider
) -> None:
    provider.run = forever
    limit = 100_000
    node = await start(StreamLimits(input_buffer_bytes=limit))
    async with command(node, transport, ALL) as session:
        (connection,) = node.server._http._connections
        wire = connection._successor._wire  # type: ignore[union-attr]
        session.client.writer.transport.set_write_buffer_limits(0)
        sent = 0

        async def send_for_ever() -> None:
            nonlocal sent
            while True:
                session.send(bytes(100_000))
                await session.client.writer.drain()
                sent += 1

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            sending = group.create_task(send_for_ever())
            before = -1
            while sent != before or wire.unacknowledged <= limit:
                before = sent
                await asyncio.sleep(1)
            sending.cancel()
        assert limit < wire.unacknowledged < limit + 600_000  # what the transport gives at once comes on top


@both
async def test_a_client_that_reads_nothing_holds_up_its_command(
    transport: str, start: Start, provider: StreamingProvider
) -> None:
    written = 0

    async def yes(streams: AttachIO) -> int:
        nonlocal written
        assert streams.stdout is not None
        while True:
            await streams.stdout.write(bytes(50_000))
            written += 50_000

    provider.run = yes
    node = await start()
    async with command(node, transport, OUT):
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.5)
        assert 0 < written < 20_000_000
    async with asyncio.timeout(20):
        await provider.cancelled.wait()


async def test_output_to_a_stream_that_the_client_dropped_is_a_broken_pipe(
    start: Start, provider: StreamingProvider
) -> None:
    broken = asyncio.Event()

    async def run(streams: AttachIO) -> int:
        assert streams.stdout is not None
        try:
            while True:
                await streams.stdout.write(b"y")
                await asyncio.sleep(0.01)
        except BrokenPipeError:
            broken.set()
        return 0

    provider.run = run
    async with command(await start(), "spdy", OUT) as session:
        session.session._spdy.reset(session.session._streams["stdout"])
        session.flush()
        async with asyncio.timeout(20):
            await broken.wait()


async def test_a_client_that_opens_no_streams_in_time_is_left(start: Start, provider: StreamingProvider) -> None:
    node = await start(StreamLimits(creation_timeout=0.05))
    async with await node.client() as client:
        await upgraded(client, f"{EXEC}?{query(OUT)}", spdy=["v4.channel.k8s.io"])
        assert (await client.ended())[:4] == b"\x80\x03\x00\x07"  # GOAWAY
    assert provider.asked == []


@both
async def test_a_session_in_which_nothing_moves_is_cut_though_pings_are_answered(
    transport: str, start: Start, provider: StreamingProvider
) -> None:
    provider.run = forever
    node = await start(StreamLimits(idle_timeout=0.3, ping_interval=0.05))
    async with command(node, transport, OUT) as session:
        async with asyncio.timeout(20):
            await provider.started.wait()
            with pytest.raises(AssertionError):
                await session.finish()
            await provider.cancelled.wait()


@both
async def test_a_silent_session_gets_pings(transport: str, start: Start, provider: StreamingProvider) -> None:
    provider.run = forever
    node = await start(StreamLimits(ping_interval=0.05))
    async with command(node, transport, OUT) as session:
        ping = b"\x80\x03\x00\x06" if transport == "spdy" else b"\x89\x00"
        seen = b""
        async with asyncio.timeout(20):
            while seen.count(ping) < 2:
                seen += await session.client.reader.read(1000)


async def test_one_session_more_than_the_limit_is_refused(start: Start, provider: StreamingProvider) -> None:
    provider.run = forever
    node = await start(StreamLimits(max_sessions=1))
    async with command(node, "spdy", OUT):
        async with asyncio.timeout(20):
            await provider.started.wait()
        for path in (f"{EXEC}?{query(OUT)}", FORWARD):
            version = "portforward.k8s.io" if path == FORWARD else "v4.channel.k8s.io"
            async with await node.client() as client:
                headers = ("Connection: Upgrade", "Upgrade: SPDY/3.1", f"X-Stream-Protocol-Version: {version}")
                status, _, body = await client.ask("POST", path, *headers)
                assert (status, body) == (429, b"too many streams on this node; try again later\n")
    await node.empty()
    async with command(node, "spdy", OUT):
        async with asyncio.timeout(20):
            while len(provider.asked) < 2:
                await asyncio.sleep(0.01)


@both
async def test_bytes_that_break_the_protocol_end_the_session(
    transport: str, start: Start, provider: StreamingProvider
) -> None:
    provider.run = forever
    node = await start()
    async with command(node, transport, ALL) as session:
        async with asyncio.timeout(20):
            await provider.started.wait()
        session.client.send(bytes(8) if transport == "spdy" else b"\x82\x00")
        await session.client.ended()
    async with asyncio.timeout(20):
        await provider.cancelled.wait()


async def test_a_provider_that_does_not_heed_cancellation_is_said_to(
    start: Start, provider: StreamingProvider, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    async def stubborn(streams: AttachIO) -> int:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return 0

    provider.run = stubborn
    node = await start(StreamLimits(close_timeout=0.05))
    async with command(node, "spdy", OUT):
        async with asyncio.timeout(20):
            await provider.started.wait()
    async with asyncio.timeout(20):
        while "does not heed cancellation" not in caplog.text:
            await asyncio.sleep(0.01)
    assert node.server.stream_sessions == 1
    release.set()


async def test_stopping_the_server_cancels_commands(start: Start, provider: StreamingProvider) -> None:
    provider.run = forever
    node = await start()
    async with command(node, "spdy", OUT):
        async with asyncio.timeout(20):
            await provider.started.wait()
        await node.server.aclose(grace=0)
        assert provider.cancelled.is_set()


@both
async def test_when_the_node_stops_each_client_of_a_command_is_told_so(
    transport: str, start: Start, provider: StreamingProvider
) -> None:
    provider.run = forever
    node = await start()
    async with command(node, transport, ALL) as session, command(node, transport, ALL) as another:
        async with asyncio.timeout(20):
            while len(provider.asked) < 2:
                await asyncio.sleep(0.01)
        stopping = asyncio.create_task(node.server.aclose(grace=0.1))
        for told in (session, another):
            assert "the node is shutting down" in (await told.finish()).message
        await stopping
    assert provider.cancelled.is_set()


@both
async def test_a_command_that_ends_while_the_node_stops_is_not_cut(
    transport: str, start: Start, provider: StreamingProvider
) -> None:
    node = await start()
    async with command(node, transport, ALL) as session:
        session.send(b"x")
        await session.hear(lambda: bool(session.stdout))
        stopping = asyncio.create_task(node.server.aclose(grace=30))
        await asyncio.sleep(0)
        session.end_stdin()
        assert await session.finish() == CommandStatus.success()
    await stopping


@both
async def test_many_sessions_half_of_them_cut_leave_nothing(
    transport: str, start: Start, provider: StreamingProvider
) -> None:
    node = await start()

    async def one(number: int) -> None:
        async with command(node, transport, ALL) as session:
            session.send(b"x")
            if number % 2:
                session.end_stdin()
                assert await session.finish() == CommandStatus.success()

    for _ in range(4):
        await asyncio.gather(*(one(number) for number in range(10)))
    await node.empty()  # tasks and descriptors: the fixture


async def test_bytes_that_come_with_the_request_are_not_lost(start: Start) -> None:
    node = await start()
    session = SpdyRemoteCommandClient(ALL, "v4.channel.k8s.io")
    session.send_stdin(b"early")
    session.end_stdin()
    async with await node.client() as client:
        request = (
            f"POST {EXEC}?{query(ALL)} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
            "X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n"
        )
        client.send(request.encode() + b"".join(session.data_to_send()))
        assert (await client.head())[0] == 101
        talk = Command(client, session)
        assert await talk.finish() == CommandStatus.success()
    assert talk.stdout == b"early"


# Run


async def test_run_answers_with_the_output(start: Start, provider: StreamingProvider) -> None:
    async def run(streams: AttachIO) -> int:
        assert streams.stdin is None
        assert streams.stdout is not None
        assert streams.stderr is not None
        assert [size async for size in streams.resizes] == []
        await streams.stderr.write(b"err")
        await streams.stdout.write(b"out")
        return 0

    provider.run = run
    async with await (await start()).client() as client:
        status, headers, body = await client.ask("POST", "/run/ns/web/main?cmd=ls+-l")
    assert (status, headers["content-type"], body) == (200, "application/json", b"outerr")
    assert provider.asked[0][2] == ["ls", "-l"]


async def test_run_says_how_a_command_failed(start: Start, provider: StreamingProvider) -> None:
    async def run(streams: AttachIO) -> int:
        assert streams.stderr is not None
        await streams.stderr.write(b"no")
        return 2

    async def missing(streams: AttachIO) -> int:
        raise NotFoundError("no such file")

    async def much(streams: AttachIO) -> int:
        assert streams.stdout is not None
        await streams.stdout.write(bytes(100))
        await streams.stdout.write(b"!")
        return 0

    node = await start(StreamLimits(max_run_bytes=100))
    for kind, text in (
        (run, b"command 'x' exited with 2: no"),
        (missing, b"no such file"),
        (much, b"the command wrote more than 100 bytes"),
    ):
        provider.run = kind
        async with await node.client() as client:
            status, _, body = await client.ask("POST", "/run/ns/web/main?cmd=x")
        assert (status, body) == (500, text)


# Ports


@in_both_forms
async def test_fifty_connections_at_once_in_one_session(tunnelled: bool, start: Start) -> None:
    node = await start()
    async with await node.client() as client:
        session = await Forwarding.open(client, FORWARD, tunnelled=tunnelled)
        streams = [session.connect(8000 + number) for number in range(50)]
        for _, data in streams:
            session.send(data, b"hello from %d" % data, fin=True)
        await session.hear(lambda: len(session.ends) == 100)
    for number, (error, data) in enumerate(streams):
        assert session.received[data] == b"%d:hello from %d" % (8000 + number, data)
        assert session.received[error] == b""
    assert set(session.ends.values()) == {"end"}
    await node.empty()


@in_both_forms
async def test_a_port_may_close_while_the_client_still_sends(
    tunnelled: bool, start: Start, provider: StreamingProvider
) -> None:
    async def once(port: int, stream: PortStream) -> None:
        await stream.write(await stream.read())

    provider.connect = once
    node = await start()
    async with await node.client() as client:
        session = await Forwarding.open(client, FORWARD, tunnelled=tunnelled)
        _, data = session.connect(80)
        session.send(data, b"x")
        await session.hear(lambda: len(session.ends) == 2)
        session.send(data, bytes(1000))
        again = session.connect(80)
        session.send(again[1], b"y")
        await session.hear(lambda: len(session.ends) == 4)
    assert session.received[again[1]] == b"y"


@pytest.mark.parametrize(
    ("failure", "ending", "text"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "end", b"uid uid-web: Connection refused"),
        (OSError("no route to host"), "end", b"no route to host"),
        (NotFoundError("the pod is gone"), "end", b"the pod is gone"),
        (RuntimeError("secret"), "end", b"the node failed; its log says why"),
        (ConnectionResetError(), "reset", b""),
    ],
)
async def test_a_connection_that_fails_says_why_and_the_session_goes_on(
    failure: Exception, ending: str, text: bytes, start: Start, provider: StreamingProvider
) -> None:
    async def fail(port: int, stream: PortStream) -> None:
        if port == 1:
            raise failure
        await echo(port, stream)

    provider.connect = fail
    node = await start()
    async with await node.client() as client:
        session = await Forwarding.open(client, FORWARD, tunnelled=False)
        error, data = session.connect(1)
        await session.hear(lambda: len(session.ends) == 2)
        assert session.ends[data] == ending
        assert session.received[error].endswith(text)
        if text:
            assert session.received[error].startswith(b"error forwarding port 1 to pod web_ns, uid uid-web: ")
        _, other = session.connect(2)
        session.send(other, b"x", fin=True)
        await session.hear(lambda: other in session.ends)
        assert session.received[other] == b"2:x"


@in_both_forms
async def test_a_port_that_does_not_read_is_reset_when_it_holds_up_other_connections(
    tunnelled: bool, start: Start, provider: StreamingProvider, caplog: pytest.LogCaptureFixture
) -> None:
    async def one_is_stuck(port: int, stream: PortStream) -> None:
        if port == 1:
            await asyncio.Event().wait()
        await echo(port, stream)

    provider.connect = one_is_stuck
    node = await start(StreamLimits(input_buffer_bytes=64 * 1024, stall_timeout=0.1))
    async with await node.client() as client:
        session = await Forwarding.open(client, FORWARD, tunnelled=tunnelled)
        (_, other), (_, stuck) = session.connect(2), session.connect(1)
        session.send(other, b"a")
        await session.hear(lambda: bytes(session.received[other]) == b"2:a")
        for _ in range(30):  # far more than the node holds, and than the sockets between do
            session.send(stuck, bytes(100_000))
        session.send(other, b"b", fin=True)
        await session.hear(lambda: {stuck, other} <= session.ends.keys())
        assert session.ends == session.ends | {stuck: "reset", other: "end"}
        assert session.received[other] == b"2:a2:b"
    assert "resetting a connection to port 1, which has taken nothing for 0.1 s" in caplog.text


async def test_a_port_that_reads_late_loses_nothing_while_it_holds_up_nobody(
    start: Start, provider: StreamingProvider
) -> None:
    async def late(port: int, stream: PortStream) -> None:
        await asyncio.sleep(0.3)  # the limit a few times over
        size = 0
        while data := await stream.read():
            size += len(data)
        await stream.write(b"%d" % size)

    provider.connect = late
    node = await start(StreamLimits(input_buffer_bytes=64 * 1024, stall_timeout=0.05))
    async with await node.client() as client:
        session = await Forwarding.open(client, FORWARD, tunnelled=False)
        _, data = session.connect(80)
        session.send(data, bytes(3_000_000), fin=True)
        await session.hear(lambda: data in session.ends)
        assert bytes(session.received[data]) == b"3000000"
        assert session.ends[data] == "end"


async def test_a_connection_that_the_client_drops_is_cancelled(start: Start, provider: StreamingProvider) -> None:
    async def hold(port: int, stream: PortStream) -> None:
        await asyncio.Event().wait()

    provider.connect = hold
    node = await start()
    async with await node.client() as client:
        session = await Forwarding.open(client, FORWARD, tunnelled=False)
        _, data = session.connect(80)
        async with asyncio.timeout(20):
            await provider.started.wait()
        session.session.reset(data)
        session.flush()
        async with asyncio.timeout(20):
            await provider.cancelled.wait()
        assert node.server.stream_sessions == 1


@in_both_forms
async def test_a_client_that_vanishes_has_its_connections_cancelled(
    tunnelled: bool, start: Start, provider: StreamingProvider
) -> None:
    node = await start()
    async with await node.client() as client:
        session = await Forwarding.open(client, FORWARD, tunnelled=tunnelled)
        for _ in range(5):
            session.connect(80)
        async with asyncio.timeout(20):
            await provider.started.wait()
    async with asyncio.timeout(20):
        await provider.cancelled.wait()
    await node.empty()


@in_both_forms
async def test_when_the_node_stops_port_forward_ends_in_order(
    tunnelled: bool, start: Start, provider: StreamingProvider
) -> None:
    node = await start()
    async with await node.client() as client:
        forwarding = await Forwarding.open(client, FORWARD, tunnelled=tunnelled)
        _, data = forwarding.connect(80)
        forwarding.send(data, b"x")
        await forwarding.hear(lambda: forwarding.received[data] == b"80:x")
        stopping = asyncio.create_task(node.server.aclose(grace=0.1))
        await forwarding.hear(lambda: forwarding.went_away)
        await stopping
    assert provider.cancelled.is_set()


async def test_half_a_connection_is_told_so_after_a_time(start: Start) -> None:
    node = await start(StreamLimits(creation_timeout=0.05))
    async with await node.client() as client:
        session = await Forwarding.open(client, FORWARD, tunnelled=False)
        error = session.session.open_stream([("streamtype", "error"), ("port", "80"), ("requestid", "7")])
        session.received[error] = bytearray()
        session.flush()
        await session.hear(lambda: error in session.ends)
    assert session.received[error] == b"timed out waiting for streams of request 7"


async def test_megabytes_through_a_port_are_the_same(start: Start, provider: StreamingProvider) -> None:
    async def plain(port: int, stream: PortStream) -> None:
        while data := await stream.read():
            await stream.write(data)

    provider.connect = plain
    payload = bytes(range(251)) * 20_000
    node = await start()
    async with await node.client() as client:
        session = await Forwarding.open(client, FORWARD, tunnelled=True)
        _, data = session.connect(80)

        async def send() -> None:
            for begin in range(0, len(payload), 50_000):
                session.send(data, payload[begin : begin + 50_000])
                await client.writer.drain()
            session.session.end_stream(data)
            session.flush()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            group.create_task(session.hear(lambda: data in session.ends))
    assert session.received[data] == payload


# What is not offered


@pytest.mark.parametrize("route", ["exec", "attach", "portForward", "run"])
async def test_what_the_provider_does_not_offer_is_501(route: str, start: Start) -> None:
    node = await start(provider=SilentProvider())
    path = FORWARD if route == "portForward" else f"/{route}/ns/web/main?output=1"
    async with await node.client() as client:
        status, _, body = await client.ask("POST", path)
    name = route.replace("portForward", "port-forward")
    assert (status, body) == (501, f"the provider of this node does not offer {name}".encode())


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("exec", "run commands in containers"),
        ("run", "run commands in containers"),
        ("attach", "attach to containers"),
        ("portForward", "forward ports"),
    ],
)
async def test_what_an_engines_runtime_cannot_is_501_before_there_is_a_stream(
    route: str, words: str, start: Start, tmp_path: Path
) -> None:
    engine = PodEngine(Runtime(LoopClock()), context(tmp_path))
    node = await start(provider=engine)
    path = FORWARD if route == "portForward" else f"/{route}/ns/web/main?output=1"
    spdy, websocket = ("Connection: Upgrade", "Upgrade: SPDY/3.1"), ("Connection: Upgrade", "Upgrade: websocket")
    for method, asks in [("POST", spdy), *([("GET", websocket)] if route != "run" else [])]:
        async with await node.client() as client:
            status, _, body = await client.ask(method, path, *asks)
        assert (status, body) == (501, f"the runtime of this node does not {words}".encode())


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", FORWARD, {"Sec-WebSocket-Protocol": "SPDY/3.1+portforward.k8s.io"}, 405),
        ("GET", FORWARD, {"Sec-WebSocket-Protocol": "v9"}, 403),
        ("GET", FORWARD, {"Sec-WebSocket-Protocol": "v4.channel.k8s.io"}, 400),
        ("GET", f"{EXEC}?output=1", {"Sec-WebSocket-Protocol": "v9.channel.k8s.io"}, 403),
        ("GET", f"{EXEC}?output=1", {"Sec-WebSocket-Key": "short"}, 400),
    ],
)
async def test_a_websocket_that_cannot_be_is_refused(
    method: str, path: str, headers: dict[str, str], status: int, start: Start
) -> None:
    wanted = dict(request_headers("AAAAAAAAAAAAAAAAAAAAAA==", [])) | headers
    async with await (await start()).client() as client:
        answer = await client.ask(method, path, *(f"{name}: {value}" for name, value in wanted.items()))
    assert answer.status == status

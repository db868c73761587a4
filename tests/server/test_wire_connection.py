"""Between a transport and a session: when reading stops and goes on, and when a client is cut."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from virtual_kubelet.server.stream_limits import StreamLimits
from virtual_kubelet.server.wire_connection import WireConnection
from virtual_kubelet.streaming.remote_command.session import (
    RemoteCommandEvent,
    RemoteCommandOptions,
    SessionEnded,
    StdinData,
    StreamsReady,
)
from virtual_kubelet.streaming.remote_command.spdy_client import SpdyRemoteCommandClient
from virtual_kubelet.streaming.remote_command.spdy_session import SpdyRemoteCommand
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.streaming.spdy.frames import FrameType, number_frame

OPTIONS = RemoteCommandOptions(stdin=True, stdout=True)
LIMITS = StreamLimits(input_buffer_bytes=100, max_unsent_bytes=1000, linger_timeout=0.01, close_timeout=0.1)


class Transport:
    """A transport without a network."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.reading = True
        self.closed = self.aborted = False
        self.unsent = 0
        self.protocol: asyncio.Protocol | None = None

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def write(self, data: bytes) -> None:
        assert not self.is_closing()
        self.written += data

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Session:
    """One session of a client that sends what a test says."""

    def __init__(self, early: bytes = b"") -> None:
        self.client = SpdyRemoteCommandClient(OPTIONS, "v4.channel.k8s.io")
        self.wire = SpdyRemoteCommand(OPTIONS, "v4.channel.k8s.io")
        self.transport = Transport()
        self.events: list[RemoteCommandEvent] = []
        self.connection = WireConnection(
            cast("asyncio.Transport", self.transport), early, self.wire, self.events.append, LIMITS
        )

    def send(self) -> None:
        self.connection.data_received(b"".join(self.client.data_to_send()))


@pytest.fixture
async def session() -> Session:
    session = Session()
    session.send()
    assert session.events == [StreamsReady()]
    return session


async def test_reading_stops_beyond_the_limit_and_goes_on_when_half_is_taken(session: Session) -> None:
    session.client.send_stdin(bytes(101))
    session.send()
    assert not session.transport.reading
    session.wire.acknowledge(50)
    session.connection.taken()
    assert not session.transport.reading
    session.wire.acknowledge(1)
    session.connection.taken()
    assert session.transport.reading
    session.connection.connection_lost(None)


async def test_a_client_that_sends_and_reads_nothing_is_cut(session: Session, caplog: pytest.LogCaptureFixture) -> None:
    session.transport.unsent = 1000
    session.connection.data_received(number_frame(FrameType.PING, 1))
    assert not session.transport.aborted
    session.transport.unsent = 1001
    session.connection.data_received(number_frame(FrameType.PING, 3))
    assert session.transport.aborted
    assert "sends much and reads nothing" in caplog.text
    session.connection.connection_lost(None)


async def test_a_writer_waits_while_the_client_does_not_read(session: Session) -> None:
    session.connection.pause_writing()
    waiting = asyncio.create_task(session.connection.drain())
    await asyncio.sleep(0)
    assert not waiting.done()
    session.connection.resume_writing()
    await waiting
    session.connection.pause_writing()
    waiting = asyncio.create_task(session.connection.drain())
    await asyncio.sleep(0)
    session.connection.connection_lost(None)
    await waiting
    assert session.events[-1] == SessionEnded(None)


async def test_the_end_is_written_and_the_connection_closed_and_cut_if_that_takes_too_long(session: Session) -> None:
    session.wire.finish(CommandStatus.success())
    session.connection.flush()
    assert b'"Success"' in session.transport.written
    assert session.transport.closed
    async with asyncio.timeout(20):
        while not session.transport.aborted:
            await asyncio.sleep(0.01)
    session.connection.connection_lost(None)


async def test_what_a_client_still_sends_is_thrown_away_before_the_connection_closes(session: Session) -> None:
    session.client.send_stdin(bytes(101))
    session.send()
    session.wire.finish(CommandStatus.success())
    session.connection.flush(linger=True)
    assert session.transport.reading
    assert not session.transport.closed
    session.client.send_stdin(b"more")
    session.send()
    async with asyncio.timeout(20):
        while not session.transport.closed:
            await asyncio.sleep(0.01)
    assert session.events[-1] == StdinData(memoryview(bytes(101)))
    session.connection.connection_lost(None)


async def test_early_bytes_are_read_after_the_upgrade_and_not_if_the_connection_is_lost_before() -> None:
    client = SpdyRemoteCommandClient(OPTIONS, "v4.channel.k8s.io")
    early = b"".join(client.data_to_send())
    kept, lost = Session(early), Session(early)
    assert kept.events == lost.events == []
    lost.connection.connection_lost(None)
    await asyncio.sleep(0)
    assert kept.events == [StreamsReady()]
    assert lost.events == [SessionEnded(None)]
    kept.connection.connection_lost(None)

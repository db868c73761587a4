"""A connection that was upgraded: an ``asyncio.Protocol`` that moves bytes between a transport and a streaming session.

It reads only as far ahead as somebody takes what comes, and says when to wait before writing more. It notices a client that
has gone also while it does not read, ends sessions in which nothing moves for too long, and keeps silent ones alive.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from virtual_kubelet.server.closed_transport import CLOSED
from virtual_kubelet.server.deadline import Deadline
from virtual_kubelet.server.stream_limits import StreamLimits
from virtual_kubelet.server.transports import abort
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["Wire", "WireConnection"]

log = get_logger(__name__)

E_co = TypeVar("E_co", covariant=True)
E = TypeVar("E")

#: While nothing is read, the end of the connection is looked for in so many seconds.
_LOOK_SECONDS: Final = 1.0


class Wire(Protocol[E_co]):
    """What the sessions of ``streaming`` have in common."""

    @property
    def closed(self) -> bool: ...

    @property
    def unacknowledged(self) -> int: ...

    def receive_data(self, data: Buffer) -> Sequence[E_co]: ...

    def receive_eof(self) -> Sequence[E_co]: ...

    def data_to_send(self) -> list[Buffer]: ...

    def ping(self) -> None: ...


class WireConnection(asyncio.Protocol, Generic[E]):
    """One upgraded connection."""

    def __init__(
        self,
        transport: asyncio.Transport,
        early: bytes,
        wire: Wire[E],
        receive: Callable[[E], None],
        limits: StreamLimits,
        *,
        begin: Sequence[E] = (),
    ) -> None:
        """
        Args:
            transport: already connected.
            early: bytes that came with the request.
            wire: the session.
            receive: called with each event; the last one comes from ``receive_eof`` if not before.
            limits: of time and memory.
            begin: events before any byte has come.
        """
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._wire = wire
        self._receive = receive
        self._limits = limits
        self._paused = False
        self._writable: asyncio.Event = asyncio.Event()
        self._writable.set()
        self._reading = True
        self._closing = False
        self._lost = False
        self._look: asyncio.TimerHandle | None = None
        self._idle = Deadline(self._loop, self._on_idle)
        self._ping = Deadline(self._loop, self._on_ping)
        self._close_deadline = Deadline(self._loop, transport.abort)
        transport.set_write_buffer_limits(limits.write_buffer_bytes)
        self._idle.set(limits.idle_timeout)
        self._ping.set(limits.ping_interval)
        # Not from here: whoever upgrades the connection goes on reading after this.
        self._loop.call_soon(self._start, early, begin)

    def _start(self, early: bytes, begin: Sequence[E]) -> None:
        if self._lost:
            return
        for event in begin:
            self._receive(event)
        if early:
            self.data_received(early)
        self.flush()

    # Callbacks of the transport

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        events = self._wire.receive_data(data)
        for event in events:
            self._receive(event)
        if events and not self._closing:  # pings, and answers to ours, are no use of a session
            self._idle.set(self._limits.idle_timeout)
        self._send()
        if self._transport.get_write_buffer_size() > self._limits.max_unsent_bytes:
            # Only answers to what the client sends grow here: it makes them faster than it reads them.
            log.warning("cutting a client that sends much and reads nothing")
            abort(self._transport)
        elif self._wire.unacknowledged > self._limits.input_buffer_bytes:
            self._pause_reading()

    def eof_received(self) -> bool | None:
        return None  # streams are half-closed by their protocols; a client that ends the connection has gone

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._closing = True
        for deadline in (self._idle, self._ping, self._close_deadline):
            deadline.close()
        if self._look is not None:
            self._look.cancel()
        self._writable.set()
        for event in self._wire.receive_eof():
            self._receive(event)
        self._receive, self._transport = _nobody, CLOSED

    def pause_writing(self) -> None:
        self._paused = True
        self._writable.clear()

    def resume_writing(self) -> None:
        self._paused = False
        self._writable.set()

    # What the session's owner calls

    def flush(self, *, linger: bool = False) -> None:
        """Send what the session has to send; close if it is over, with ``linger`` as of ``close``."""
        if not self._closing:
            self._idle.set(self._limits.idle_timeout)
        self._send(linger=linger)

    async def drain(self) -> None:
        """Wait until the client has taken enough of what was written, or has gone."""
        await self._writable.wait()

    def taken(self) -> None:
        """Somebody has acknowledged input: go on reading if that was what we waited for."""
        if not self._reading and self._wire.unacknowledged <= self._limits.input_buffer_bytes // 2:
            self._resume_reading()

    def close(self, *, linger: bool = False) -> None:
        """Close once all is sent. ``linger``: the client still sends; if we closed at once it might lose our last words."""
        if self._closing:
            return
        self._closing = True
        self._idle.close()
        self._ping.close()
        self._resume_reading()  # to throw it away
        if linger:
            self._loop.call_later(self._limits.linger_timeout, self._transport.close)
        else:
            self._transport.close()
        self._close_deadline.set(self._limits.close_timeout)

    def _send(self, *, linger: bool = False) -> None:
        pieces = self._wire.data_to_send()
        if pieces and not self._transport.is_closing():
            # Joined: no TLS record of its own for each header of a few bytes; the copy costs no more than that.
            self._transport.write(b"".join(pieces))
            if not self._closing:
                self._ping.set(self._limits.ping_interval)
        if self._wire.closed:
            self.close(linger=linger)

    # Timers

    def _on_idle(self) -> None:
        log.info("closing a session in which nothing has moved", extra={"seconds": str(self._limits.idle_timeout)})
        abort(self._transport)

    def _on_ping(self) -> None:
        self._ping.set(self._limits.ping_interval)
        if not self._paused:
            self._wire.ping()
            self._send()

    def _pause_reading(self) -> None:
        if self._reading and not self._transport.is_closing():
            self._reading = False
            self._transport.pause_reading()
            self._look = self._loop.call_later(_LOOK_SECONDS, self._look_for_end)

    def _resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            if self._look is not None:
                self._look.cancel()
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def _look_for_end(self) -> None:
        if _hung_up(self._transport):
            abort(self._transport)
        else:
            self._look = self._loop.call_later(_LOOK_SECONDS, self._look_for_end)


def _nobody(event: object) -> None: ...


def _hung_up(transport: asyncio.Transport) -> bool:
    """Whether the peer has closed the connection, though we have not read up to there. Only Linux tells."""
    socket = transport.get_extra_info("socket")
    hang_up = getattr(select, "POLLRDHUP", None)
    if socket is None or hang_up is None or socket.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(socket.fileno(), hang_up)
    return bool(poll.poll(0))

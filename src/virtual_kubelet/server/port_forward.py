"""Port-forward: between a session on the wire and the provider that reaches a pod's ports. One task a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from virtual_kubelet.contracts.streams import PortStream
from virtual_kubelet.errors import StreamClosedError
from virtual_kubelet.server.byte_queue import ByteQueue
from virtual_kubelet.server.stream_limits import StreamLimits
from virtual_kubelet.server.wire_connection import WireConnection
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.port_forward.session import (
    ForwardData,
    ForwardEnded,
    ForwardIncomplete,
    ForwardOpened,
    ForwardReset,
    PortForwardEvent,
    PortForwardSession,
    SessionEnded,
)
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["PortForwarding"]

log = get_logger(__name__)

_PIECE = 64 * 1024


class PortForwarding:
    """All connections of one client. ``upgrade`` is the ``UpgradeHandler`` that begins it."""

    def __init__(
        self,
        wire: PortForwardSession,
        limits: StreamLimits,
        *,
        connect: Callable[[int, PortStream], Awaitable[str]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        ended: Callable[[], None],
        begin: Sequence[PortForwardEvent] = (),
    ) -> None:
        """
        Args:
            wire: the session.
            limits: of time and memory.
            connect: serves one connection to a port; what went wrong, or nothing. ``ConnectionError`` if it broke.
            spawn: where the tasks go that do so.
            ended: called once, when the connection is gone and all that it had begun has ended.
            begin: the session's first events.
        """
        self._wire = wire
        self._limits = limits
        self._connect = connect
        self._spawn = spawn
        self._on_end = ended
        self._begin = begin
        self._forwards: dict[int, _Forward] = {}
        self._waiting: dict[str, asyncio.TimerHandle] = {}
        self._stall: asyncio.TimerHandle | None = None
        self._over = False

    def upgrade(self, transport: asyncio.Transport, early: bytes) -> asyncio.Protocol:
        """Take the connection over."""
        self._loop = asyncio.get_running_loop()
        self._connection = WireConnection(transport, early, self._wire, self._receive, self._limits, begin=self._begin)
        return self._connection

    def stop(self) -> None:
        """End the session, and all its connections."""
        self._wire.close()
        self._leave()
        self._connection.flush()

    def _receive(self, event: PortForwardEvent) -> None:
        match event:
            case ForwardIncomplete(request_id):
                self._wait_for_pair(request_id)
            case ForwardOpened(forward, port):
                opened = self._forwards[forward] = _Forward(self, forward, port)
                opened.task = self._spawn(self._serve(opened, port))
                opened.task.add_done_callback(lambda task: self._ended(opened))
            case ForwardData(forward, data):
                if forward in self._forwards:
                    self._forwards[forward].queue.feed(data)
                    if self._stall is None and self._wire.unacknowledged > self._limits.input_buffer_bytes:
                        self._watch_for_stall()
                else:
                    self._taken(forward, len(data))
            case ForwardEnded(forward):
                if forward in self._forwards:
                    self._forwards[forward].queue.end()
            case ForwardReset(forward):
                if forward in self._forwards:
                    self._forwards[forward].cancel()
            case SessionEnded():
                self._leave()

    def _wait_for_pair(self, request_id: str) -> None:
        earlier = self._waiting.pop(request_id, None)  # of a pair that is whole since
        if earlier is not None:
            earlier.cancel()
        self._waiting[request_id] = self._loop.call_later(self._limits.creation_timeout, self._expire, request_id)

    def _expire(self, request_id: str) -> None:
        del self._waiting[request_id]
        self._wire.expire(request_id)
        self._connection.flush()

    def _taken(self, forward: int, size: int) -> None:
        if forward in self._forwards:
            self._forwards[forward].moved = True
        self._wire.acknowledge(forward, size)
        self._connection.taken()
        if self._stall is not None and self._wire.unacknowledged <= self._limits.input_buffer_bytes // 2:
            self._stall.cancel()  # the client is read from again
            self._stall = None

    def _watch_for_stall(self) -> None:
        """From now on the client is not read from until enough of what it has sent is taken."""
        for forward in self._forwards.values():
            forward.moved = False
        self._stall = self._loop.call_later(self._limits.stall_timeout, self._end_stall)

    def _end_stall(self) -> None:
        """One connection holds up all others, if there are any: the one of which most lies there untouched has to go.

        Without a word on its error stream: kubectl takes any as a reason to end all its connections.
        """
        self._stall = None
        still = [forward for forward in self._forwards.values() if not forward.moved and forward.queue.held]
        if still and len(self._forwards) > 1:
            worst = max(still, key=lambda forward: forward.queue.held)
            log.warning(
                "resetting a connection to port %d, which has taken nothing for %g s and holds up others of its client",
                worst.port,
                self._limits.stall_timeout,
            )
            worst.cancel()
        self._watch_for_stall()  # until it has gone, and what it held with it

    def _leave(self) -> None:
        """The client has gone, broke the protocol, or was told to."""
        if self._over:
            return
        self._over = True
        for timer in (*self._waiting.values(), *([self._stall] if self._stall else [])):
            timer.cancel()
        self._waiting.clear()
        for forward in self._forwards.values():
            forward.cancel()
        if not self._forwards:
            self._on_end()

    async def _serve(self, forward: _Forward, port: int) -> None:
        try:
            error = await self._connect(port, forward)
            self._wire.end(forward.number, error)
        except ConnectionError:
            self._wire.reset(forward.number)

    def _ended(self, forward: _Forward) -> None:
        """Its task is done, perhaps cancelled before it began."""
        forward.leaving.cancel()
        self._wire.reset(forward.number)  # no matter if it has ended; else it was cancelled
        del self._forwards[forward.number]
        forward.queue.drop()
        self._connection.flush()
        if self._over and not self._forwards:
            self._on_end()

    async def send(self, number: int, data: Buffer) -> None:
        """What ``PortStream.write`` does."""
        view = memoryview(data if isinstance(data, bytes) else bytes(data))
        for start in range(0, len(view), _PIECE):
            await self._connection.drain()
            try:
                self._wire.send(number, view[start : start + _PIECE])
            except StreamClosedError as error:
                raise BrokenPipeError(str(error)) from None
            self._connection.flush()
        await self._connection.drain()


class _NoTimer:
    def cancel(self) -> None: ...


class _Forward:
    """One connection; a ``PortStream``."""

    def __init__(self, owner: PortForwarding, number: int, port: int) -> None:
        self.number, self.port = number, port
        self.moved = False  # whether something of it was taken since the client is held up
        self.queue = ByteQueue(lambda size: owner._taken(number, size))
        self.task: asyncio.Task[None] | None = None
        self.leaving: asyncio.TimerHandle | _NoTimer = _NoTimer()
        self._owner = owner

    async def read(self, size: int = 65536) -> bytes:
        return await self.queue.read(size)

    async def write(self, data: Buffer) -> None:
        await self._owner.send(self.number, data)

    def cancel(self) -> None:
        assert self.task is not None
        if not self.task.done():
            self.task.cancel()
            loop = asyncio.get_running_loop()
            self.leaving.cancel()
            self.leaving = loop.call_later(self._owner._limits.close_timeout, self._not_left)

    def _not_left(self) -> None:
        log.error("a connection to a port goes on though its client has gone: the provider does not heed cancellation")

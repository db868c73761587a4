"""Exec and attach: between a session on the wire and the provider that runs the command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from virtual_kubelet.contracts.streams import AttachIO, TerminalSize
from virtual_kubelet.errors import StreamClosedError
from virtual_kubelet.server.byte_queue import ByteQueue
from virtual_kubelet.server.deadline import Deadline
from virtual_kubelet.server.stream_limits import StreamLimits
from virtual_kubelet.server.wire_connection import WireConnection
from virtual_kubelet.streaming.buffers import Buffer
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
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["RemoteCommand"]

log = get_logger(__name__)

#: Output goes out in pieces of this size, so that a slow client holds up its writer before much is held.
_PIECE = 64 * 1024


class RemoteCommand:
    """One command of one client. ``upgrade`` is the ``UpgradeHandler`` that begins it."""

    def __init__(
        self,
        wire: RemoteCommandSession,
        options: RemoteCommandOptions,
        limits: StreamLimits,
        *,
        run: Callable[[AttachIO], Awaitable[CommandStatus]],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        ended: Callable[[], None],
        begin: Sequence[RemoteCommandEvent] = (),
    ) -> None:
        """
        Args:
            wire: the session.
            options: the streams that the client asks for.
            limits: of time and memory.
            run: runs the command; cancelled when the client has gone.
            spawn: where the task goes that does so.
            ended: called once, when the connection is gone and the command has ended.
            begin: the session's first events.
        """
        self._wire = wire
        self._options = options
        self._limits = limits
        self._run = run
        self._spawn = spawn
        self._on_end = ended
        self._begin = begin
        self._task: asyncio.Task[None] | None = None
        self._reason = "the node has cancelled the command"
        self._stdin_ended = not options.stdin
        self._resizes = _Resizes()

    def upgrade(self, transport: asyncio.Transport, early: bytes) -> asyncio.Protocol:
        """Take the connection over."""
        self._creation = Deadline(asyncio.get_running_loop(), self._not_created)
        self._creation.set(self._limits.creation_timeout)
        self._leaving = Deadline(asyncio.get_running_loop(), self._not_left)
        self._connection = WireConnection(transport, early, self._wire, self._receive, self._limits, begin=self._begin)
        # Nothing of a command's streams knows the command: no cycle outlives a connection that is lost.
        self._stdin = ByteQueue(partial(_taken, self._wire, self._connection))
        return self._connection

    def stop(self, reason: str) -> None:
        """End the command; the client is told why."""
        self._reason = reason
        if self._task is None:
            self._wire.abort(reason)
            self._connection.flush()
        elif not self._task.done():
            self._task.cancel()
            self._leaving.set(self._limits.close_timeout)

    def _receive(self, event: RemoteCommandEvent) -> None:
        match event:
            case StreamsReady():
                self._creation.close()
                self._task = self._spawn(self._serve())
                self._task.add_done_callback(self._ended)
            case StdinData(data):
                self._stdin.feed(data)
            case StdinClosed():
                self._stdin_ended = True
                self._stdin.end()
            case Resized(size):
                self._resizes.put(size)
            case SessionEnded():
                self._leave()

    def _not_created(self) -> None:
        log.info("a client did not open its streams in time")
        self._wire.abort("timed out waiting for client to create streams")
        self._connection.flush()

    def _leave(self) -> None:
        """The client has gone, or broke the protocol."""
        self._creation.close()
        if self._task is None:
            self._on_end()
        elif not self._task.done():
            self._task.cancel()
            self._leaving.set(self._limits.close_timeout)

    def _not_left(self) -> None:
        log.error("a command goes on though its client has gone: the provider does not heed cancellation")

    async def _serve(self) -> None:
        options, wire, connection = self._options, self._wire, self._connection
        streams = AttachIO(
            self._stdin if options.stdin else None,
            _Output(connection, wire.send_stdout) if options.stdout else None,
            _Output(connection, wire.send_stderr) if options.stderr else None,
            options.tty,
            self._resizes,
        )
        self._finish(await self._run(streams))

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The command's task is done, perhaps cancelled before it began."""
        self._leaving.close()
        self._finish(CommandStatus.failed(self._reason))
        self._on_end()

    def _finish(self, status: CommandStatus) -> None:
        """No matter if it has finished already."""
        if not self._wire.closed:
            self._wire.finish(status)
        self._stdin.drop()
        self._resizes.end()
        self._connection.flush(linger=not self._stdin_ended)


def _taken(wire: RemoteCommandSession, connection: WireConnection[RemoteCommandEvent], size: int) -> None:
    wire.acknowledge(size)
    connection.taken()


class _Output:
    """One ``OutputStream``."""

    def __init__(self, connection: WireConnection[RemoteCommandEvent], send: Callable[[Buffer], None]) -> None:
        self._connection = connection
        self._send = send

    async def write(self, data: Buffer) -> None:
        view = memoryview(data if isinstance(data, bytes) else bytes(data))
        for start in range(0, len(view), _PIECE):
            await self._connection.drain()
            try:
                self._send(view[start : start + _PIECE])
            except StreamClosedError as error:
                raise BrokenPipeError(str(error)) from None
            self._connection.flush()
        await self._connection.drain()


class _Resizes:
    """The newest size of a terminal, for one reader."""

    def __init__(self) -> None:
        self._newest: TerminalSize | None = None
        self._ended = False
        self._more = asyncio.Event()

    def put(self, size: TerminalSize) -> None:
        self._newest = size
        self._more.set()

    def end(self) -> None:
        self._ended = True
        self._more.set()

    def __aiter__(self) -> AsyncIterator[TerminalSize]:
        return self

    async def __anext__(self) -> TerminalSize:
        while True:
            await self._more.wait()
            size, self._newest = self._newest, None
            if size is not None:
                return size
            if self._ended:
                raise StopAsyncIteration
            self._more.clear()

"""The node's end of the supervisor's socket: starts the supervisor if none answers, sends requests, hears of exits."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import struct
import subprocess
from collections.abc import Callable
from contextvars import copy_context
from pathlib import Path
from typing import Any, Final

from virtual_kubelet import TransientError
from virtual_kubelet.providers.process.small_program import small_program

__all__ = ["SupervisorClient"]

#: Seconds between two looks whether there is a supervisor.
_RECONNECT: Final = 0.02


class SupervisorClient:
    """One connection, made again when it breaks.

    Args:
        directory: the supervisor's; private to the user.
        on_message: called in the loop's thread with every message, answers included, in the order in which they come
            and before a request returns.
        on_lost: called when a connection that was there breaks.
        start_timeout: seconds a new supervisor has to answer.
        request_timeout: seconds for one request, that of a new supervisor's start included.
    """

    def __init__(
        self,
        directory: Path,
        *,
        on_message: Callable[[dict[str, Any]], None],
        on_lost: Callable[[], None],
        start_timeout: float = 30.0,
        request_timeout: float = 60.0,
    ) -> None:
        self._directory = directory
        self._on_message = on_message
        self._on_lost = on_lost
        self._start_timeout = start_timeout
        self._request_timeout = request_timeout
        self._tasks: asyncio.TaskGroup | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._connecting = asyncio.Lock()
        self._started: list[int] = []  # pids of supervisors

    @property
    def connected(self) -> bool:
        return self._writer is not None

    def open(self, tasks: asyncio.TaskGroup) -> None:
        """``tasks`` owns what reads the connection; that is in this call's context, not in that of some pod's request."""
        self._tasks, self._context = tasks, copy_context()

    async def request(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send and await the answer. Raises ``TransientError`` if the supervisor cannot be had.

        Every request may be made twice: should the supervisor go before it answers, the next one is asked.
        """
        try:
            async with asyncio.timeout(self._request_timeout):
                while True:
                    writer = await self._connect()
                    try:
                        return await self._ask(writer, {"op": op, **fields})
                    except OSError:  # the reader makes room for a new connection as soon as it has its turn
                        await asyncio.sleep(_RECONNECT)
        except TimeoutError:
            raise TransientError(f"the supervisor did not answer within {self._request_timeout:g} s") from None

    async def _ask(self, writer: asyncio.StreamWriter, request: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        body = json.dumps({**request, "seq": number}).encode()
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            writer.write(struct.pack(">I", len(body)) + body)
            await writer.drain()
            return await answer
        finally:
            self._answers.pop(number, None)

    async def aclose(self) -> None:
        """Close the connection; the supervisor and its containers go on."""
        if self._reader_task is not None:
            self._reader_task.cancel()
            await asyncio.wait([self._reader_task])
        self._reap()

    async def _connect(self) -> asyncio.StreamWriter:
        async with self._connecting:
            if self._writer is not None:
                return self._writer
            loop = asyncio.get_running_loop()
            deadline, start_at = loop.time() + self._start_timeout, loop.time()
            while True:
                try:
                    reader, writer = await self._open()
                    break
                except (FileNotFoundError, ConnectionError):
                    if loop.time() > deadline:
                        log = self._directory / "supervisor.log"
                        raise TransientError(f"no supervisor answers; {log} may say why") from None
                    # Again each second: one that finds another alive goes, and that one may have been about to end.
                    if loop.time() >= start_at:
                        start_at = loop.time() + 1.0
                        self._reap()
                        await asyncio.to_thread(self._start)
                    await asyncio.sleep(_RECONNECT)
            assert self._tasks is not None
            self._writer = writer
            self._reader_task = self._tasks.create_task(
                self._read(reader, writer), name="supervisor", context=self._context.copy()
            )
            return writer

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        # By way of the open directory: a socket's own path may have 107 bytes only, a state directory's may have more.
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/supervisor.sock", limit=1 << 20)
        finally:
            os.close(directory)

    def _start(self) -> None:
        # Its own session, nothing of ours open, none of our environment: it and its children must not depend on us.
        log = os.open(self._directory / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            supervisor = subprocess.Popen(
                small_program("supervisor", "sys.exit(main(sys.argv[2]))", str(self._directory)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                close_fds=True,
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                cwd="/",
            )
        finally:
            os.close(log)
        supervisor.returncode = 0  # it is meant to outlive us, so Popen must not wait for it; we do, if it does not
        self._started.append(supervisor.pid)

    def _reap(self) -> None:
        for pid in list(self._started):
            try:
                if os.waitpid(pid, os.WNOHANG)[0]:
                    self._started.remove(pid)
            except ChildProcessError:
                self._started.remove(pid)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                message = json.loads(await reader.readexactly(length))
                self._on_message(message)
                answer = self._answers.get(message.get("seq", 0))
                if answer is not None and not answer.done():
                    answer.set_result(message)
        except (asyncio.IncompleteReadError, OSError, ValueError):
            pass  # it is gone, or has been cut off amid a message: what follows tells everybody who waits
        finally:
            writer.close()
            if self._writer is writer:
                self._writer = None
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the supervisor is gone"))
                    answer.exception()  # who waited for it may have been cancelled at this moment: then nobody looks
        self._on_lost()

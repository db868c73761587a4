"""The node's end of the supervisor's socket: starts the supervisor if none answers, sends requests, hears of exits."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from virtual_kubelet import TransientError

__all__ = ["SupervisorClient"]

#: Where this package is imported from: without ``site`` (-S) and the environment (-I) Python does not know.
_SOURCE: Final = Path(__file__).resolve().parents[3]
_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from virtual_kubelet.providers.process.supervisor import main; sys.exit(main(sys.argv[2]))"
)


class SupervisorClient:
    """One connection, made again when it breaks. ``on_event`` gets what the supervisor says unasked.

    Args:
        directory: the supervisor's; private to the user.
        on_event: called in the loop's thread.
        on_connected: called after every connection but the first: exits may have been missed.
        start_timeout: seconds a new supervisor has to answer.
        request_timeout: seconds for one request.
    """

    def __init__(
        self,
        directory: Path,
        *,
        on_event: Callable[[dict[str, Any]], None],
        on_lost: Callable[[], None],
        start_timeout: float = 10.0,
        request_timeout: float = 30.0,
    ) -> None:
        self._directory = directory
        self._on_event = on_event
        self._on_lost = on_lost
        self._start_timeout = start_timeout
        self._request_timeout = request_timeout
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._connecting = asyncio.Lock()

    async def request(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send and await the answer. Raises ``TransientError`` if the supervisor cannot be had."""
        await self._connect()
        assert self._writer is not None
        number = next(self._numbers)
        body = json.dumps({"op": op, "seq": number, **fields}).encode()
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._writer.write(struct.pack(">I", len(body)) + body)
            async with asyncio.timeout(self._request_timeout):
                await self._writer.drain()
                return await answer
        except (OSError, TimeoutError) as error:
            raise TransientError(f"the supervisor did not answer: {type(error).__name__}") from error
        finally:
            self._answers.pop(number, None)

    async def aclose(self) -> None:
        """Close the connection; the supervisor and its containers go on."""
        if self._reader_task is not None:
            self._reader_task.cancel()
            await asyncio.wait([self._reader_task])
            self._reader_task = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _connect(self) -> None:
        async with self._connecting:
            if self._writer is not None:
                return
            path = self._directory / "supervisor.sock"
            deadline = asyncio.get_running_loop().time() + self._start_timeout
            started = False
            while True:
                try:
                    reader, writer = await self._open()
                    break
                except (FileNotFoundError, ConnectionRefusedError):
                    if asyncio.get_running_loop().time() > deadline:
                        raise TransientError(f"no supervisor answers on {path}") from None
                    if not started:
                        started = True
                        await asyncio.to_thread(self._start)
                    await asyncio.sleep(0.02)
            self._writer = writer
            self._reader_task = asyncio.create_task(self._read(reader), name="supervisor")

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
            subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(_SOURCE), str(self._directory)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                close_fds=True,
                env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
                cwd="/",
            ).returncode = 0  # it is meant to outlive us: nobody waits for it
        finally:
            os.close(log)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                (length,) = struct.unpack(">I", await reader.readexactly(4))
                message = json.loads(await reader.readexactly(length))
                if "event" in message:
                    self._on_event(message)
                else:
                    answer = self._answers.get(message.get("seq", 0))
                    if answer is not None and not answer.done():
                        answer.set_result(message)
        except (asyncio.IncompleteReadError, OSError):
            if self._writer is not None:
                self._writer.close()
                self._writer = None
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ConnectionError("the supervisor is gone"))
            self._on_lost()

"""Commands that somebody far away runs in a container: ``kubectl exec`` and ``cp``. Each is a process of this machine."""

from __future__ import annotations

import asyncio
import errno
import marshal
import os
import socket
import subprocess
import termios
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress
from typing import Any, Final

from virtual_kubelet import AttachIO, InputStream, NotFoundError, OutputStream, TerminalSize, TransientError
from virtual_kubelet.providers.process.descriptor import PIECE, Descriptor, widen
from virtual_kubelet.providers.process.marks import new_command_mark
from virtual_kubelet.providers.process.process_tree import kill, processes_of_command
from virtual_kubelet.providers.process.small_program import small_program

__all__ = ["resize", "run_command"]

#: Seconds from the start of the interpreter to the command's, on a busy machine.
_START: Final = 60.0


async def run_command(
    container: str, wanted: dict[str, Any], streams: AttachIO, enter: Callable[[], Awaitable[Mapping[str, Any]]]
) -> int:
    """Run it to its end; its exit code, 128 and the signal's number if a signal ended it.

    What it leaves in the background goes on, as in a container, but nobody takes its output any more. Cancellation kills the
    command and all its descendants, daemons included.

    Args:
        container: the name, for errors.
        wanted: ``argv``, ``env``, and for ``becoming.become``.
        enter: gives the container's ``mark``, None if it does not run, its ``pid`` and its own ``namespaces``; after that
            its end ends what has its mark.
    """
    entered = await enter()
    mark = entered["mark"]
    if mark is None:
        raise NotFoundError(f'container not found ("{container}")')
    command_mark = new_command_mark(mark)
    with ExitStack() as open_ends:
        ends = _Ends(streams, wanted["uid"], open_ends)
        ours, theirs = socket.socketpair()
        open_ends.callback(ours.close)
        ours.setblocking(False)
        process = _launch(theirs, ends)
        ended = os.pidfd_open(process.pid)
        open_ends.callback(os.close, ended)
        try:
            given = marshal.dumps({**wanted, **entered, "command_mark": command_mark, "tty": streams.tty})
            failure = await _begin(ours, len(given).to_bytes(4, "big") + given, enter)
            if failure is not None:
                raise _start_error(container, wanted, failure)
            return await _converse(process, ended, ends, streams)
        finally:
            if process.returncode is None:
                # In a thread, and to its end whatever happens to this task: /proc may be long.
                ending = asyncio.ensure_future(asyncio.to_thread(_end, process, mark, command_mark))
                while not ending.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.shield(ending)
                ending.result()


class _Ends:
    """The descriptors of one command: ours, and those it gets."""

    def __init__(self, streams: AttachIO, uid: int | None, stack: ExitStack) -> None:
        self.theirs: list[int] = []
        self.outputs: list[tuple[Descriptor, OutputStream]] = []
        self.stdin: Descriptor | None = None
        self.terminal: Descriptor | None = None
        self._stack = stack
        stack.callback(self.close_theirs)
        if streams.tty:
            master, slave = os.openpty()
            self.theirs = [slave]
            self.terminal = self._own(master)
            if uid is not None and os.getuid() == 0:
                os.fchown(slave, uid, -1)
            self.stdin = self.terminal if streams.stdin is not None else None
            if streams.stdout is not None:
                self.outputs.append((self.terminal, streams.stdout))
            return
        if streams.stdin is None:
            self.theirs.append(os.open(os.devnull, os.O_RDONLY))
        else:
            reading, writing = os.pipe()
            widen(writing)
            self.theirs.append(reading)
            self.stdin = self._own(writing)
        for output in (streams.stdout, streams.stderr):
            if output is None:
                self.theirs.append(os.open(os.devnull, os.O_WRONLY))
            else:
                reading, writing = os.pipe()
                widen(reading)
                self.theirs.append(writing)
                self.outputs.append((self._own(reading), output))

    def _own(self, number: int) -> Descriptor:
        end = Descriptor(number)
        self._stack.callback(end.close)
        return end

    def close_theirs(self) -> None:
        while self.theirs:
            with suppress(OSError):  # closed it is, whatever a device has to say of it
                os.close(self.theirs.pop())


def _launch(theirs: socket.socket, ends: _Ends) -> subprocess.Popen[bytes]:
    stdin, stdout, stderr = ends.theirs if len(ends.theirs) == 3 else ends.theirs * 3
    with theirs:
        try:
            return subprocess.Popen(
                small_program("command_start", "main(int(sys.argv[2]))", str(theirs.fileno())),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=[theirs.fileno()],
                env={},
                cwd="/",
            )
        except OSError as error:
            raise TransientError(f"failed to exec in container: {error.strerror}") from None
        finally:
            ends.close_theirs()


async def _begin(
    ours: socket.socket, given: bytes, enter: Callable[[], Awaitable[Mapping[str, Any]]]
) -> dict[str, Any] | None:
    """None once the command runs; else what was wrong."""
    try:
        async with asyncio.timeout(_START):
            told = await _talk(ours, given, enter)
    except TimeoutError:
        return {"error": "start", "message": f"it has not begun within {_START:g} s"}
    if not told:
        return None
    if not told.startswith(b"f"):
        return {"error": "start", "message": "its process has ended before it began"}
    field, number, message = told[1:].decode(errors="replace").split("\0", 2)
    return {"error": field, "errno": int(number), "message": message}


async def _talk(ours: socket.socket, given: bytes, enter: Callable[[], Awaitable[Mapping[str, Any]]]) -> bytes:
    """What the process says instead of running the command."""
    loop = asyncio.get_running_loop()
    told = b""
    with suppress(ConnectionError):  # it has ended: by what it has told before, or nothing, the caller knows why
        await loop.sock_sendall(ours, given)
        told = await loop.sock_recv(ours, 1)
        if told == b"m":
            if (await enter())["mark"] is None:
                return b"fcontainer\x000\0"
            await loop.sock_sendall(ours, b"!")
            told = b""
        elif not told:
            return b"?"
        while data := await loop.sock_recv(ours, 4096):
            told += data
    return told


async def _converse(process: subprocess.Popen[bytes], ended: int, ends: _Ends, streams: AttachIO) -> int:
    async with asyncio.TaskGroup() as tasks:
        helpers = []
        if streams.stdin is not None and ends.stdin is not None:
            helpers.append(tasks.create_task(_feed(streams.stdin, ends.stdin, close=ends.terminal is None)))
        if ends.terminal is not None:
            helpers.append(tasks.create_task(resize(ends.terminal, streams.resizes)))
        for source, target in ends.outputs:
            tasks.create_task(_show(source, target))
        await _readable(ended)
        code = process.wait()
        if ends.terminal is None:  # the kernel hangs up a terminal whose session's leader has ended
            for source, _ in ends.outputs:
                source.finish()
        for helper in helpers:
            helper.cancel()
    return code if code >= 0 else 128 - code


async def _feed(source: InputStream, target: Descriptor, *, close: bool) -> None:
    try:
        while data := await source.read(PIECE):
            await target.write(data)
    except (BrokenPipeError, ConnectionResetError):
        return  # it reads no more
    finally:
        if close:
            target.close()


async def _show(source: Descriptor, target: OutputStream) -> None:
    try:
        while data := await source.read():
            await target.write(data)
    except BrokenPipeError:  # the client takes no more of this: then the command cannot write it either
        source.close()


async def resize(terminal: Descriptor, sizes: AsyncIterator[TerminalSize]) -> None:
    """Give the terminal each size that comes."""
    async for size in sizes:
        if not terminal.is_open:
            return
        with suppress(termios.error):  # its last process has ended
            termios.tcsetwinsize(terminal.number, (size.height, size.width))


async def _readable(number: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(number, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(number)


def _end(process: subprocess.Popen[bytes], mark: int, command_mark: int) -> None:
    """Kill it and all that came of it; what forks meanwhile is found by the next look."""
    process.kill()
    process.wait()
    pause = 0.005
    while kill(processes_of_command(mark, command_mark)):
        time.sleep(pause)  # on a busy machine it takes a while until what is killed has its turn to end
        pause = min(2 * pause, 0.5)


def _start_error(container: str, wanted: dict[str, Any], failure: dict[str, Any]) -> Exception:
    """In the words of a kubelet's container runtime."""
    stage, number, message = failure["error"], failure.get("errno"), str(failure.get("message") or "it failed")
    if stage == "container":
        return NotFoundError(f'container not found ("{container}")')
    if stage != "command":
        return TransientError(f"failed to exec in container: {stage}: {message}")
    name = wanted["argv"][0]
    why = message.lower()
    if number == errno.ENOENT:
        why = f"stat {name}: {why}" if "/" in name else "executable file not found in $PATH"
    return TransientError(f'failed to exec in container: failed to start exec: exec: "{name}": {why}')


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

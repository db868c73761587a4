"""``--provider tests.contract.streaming_provider:StreamingMock``: a mock node whose commands are processes of this machine.

Its pods run nothing; exec starts a real process (with a real terminal if asked), attach echoes, ports are this machine's.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Sequence

from virtual_kubelet import AttachIO, InputStream, NotFoundError, OutputStream, PodKey, PortStream
from virtual_kubelet.providers.mock import MockProvider


class StreamingMock(MockProvider):
    """See above."""

    async def run_in_container(self, key: PodKey, container: str, command: Sequence[str], streams: AttachIO) -> int:
        try:
            if streams.tty:
                return await _in_terminal(command, streams)
            return await _with_pipes(command, streams)
        except FileNotFoundError as error:
            raise NotFoundError(f"{error.strerror}: {error.filename}") from error

    async def attach_to_container(self, key: PodKey, container: str, streams: AttachIO) -> None:
        assert streams.stdin is not None
        assert streams.stdout is not None
        while data := await streams.stdin.read():
            await streams.stdout.write(b"got " + data)

    async def port_forward(self, key: PodKey, port: int, stream: PortStream) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as group:
                upstream = group.create_task(_copy_to(stream, writer))
                while data := await reader.read(65536):
                    await stream.write(data)
                upstream.cancel()
        finally:
            writer.transport.abort()


async def _with_pipes(command: Sequence[str], streams: AttachIO) -> int:
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=pipe if streams.stdin else nothing,
        stdout=pipe if streams.stdout else nothing,
        stderr=pipe if streams.stderr else nothing,
        start_new_session=True,
    )
    try:
        async with asyncio.TaskGroup() as group:
            stdin = group.create_task(_copy_to(streams.stdin, process.stdin))
            for source, target in ((process.stdout, streams.stdout), (process.stderr, streams.stderr)):
                if source is not None and target is not None:
                    group.create_task(_copy_from(source, target))
            code = await process.wait()
            stdin.cancel()
        return code if code >= 0 else 128 - code
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _in_terminal(command: Sequence[str], streams: AttachIO) -> int:
    assert streams.stdin is not None
    assert streams.stdout is not None
    ours, theirs = pty.openpty()
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    output, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(ours, "rb", 0))
    process = await asyncio.create_subprocess_exec(
        *command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    stdin, stdout = streams.stdin, streams.stdout

    async def type_in() -> None:
        while data := await stdin.read(1024):
            os.write(ours, data)

    async def resize() -> None:
        async for size in streams.resizes:
            fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", size.height, size.width, 0, 0))

    async def show() -> None:
        try:
            await _copy_from(reader, stdout)
        except OSError:  # the last process has closed the terminal
            return

    try:
        async with asyncio.TaskGroup() as group:
            helpers = [group.create_task(type_in()), group.create_task(resize())]
            shown = group.create_task(show())
            code = await process.wait()
            await shown
            for helper in helpers:
                helper.cancel()
        return code if code >= 0 else 128 - code
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        output.close()


async def _copy_to(source: InputStream | PortStream | None, target: asyncio.StreamWriter | None) -> None:
    if source is None or target is None:
        return
    try:
        while data := await source.read():
            target.write(data)
            await target.drain()
        target.write_eof()
    except ConnectionError:  # the process has ended, or closed its input
        return


async def _copy_from(source: asyncio.StreamReader, target: OutputStream) -> None:
    while data := await source.read(65536):
        await target.write(data)

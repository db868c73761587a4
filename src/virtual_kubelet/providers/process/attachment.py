"""A client at the main process of a container: output by way of the supervisor, input straight into FIFO or terminal."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

from virtual_kubelet import AttachIO, InputStream, NotFoundError, OutputStream, TransientError
from virtual_kubelet.objects.core_v1 import Container
from virtual_kubelet.providers.process.commands import resize
from virtual_kubelet.providers.process.descriptor import Descriptor, widen
from virtual_kubelet.providers.process.terminal import fetch_terminal

__all__ = ["attach"]

#: Bytes that a client may be behind each stream before it is cut off, where the system allows as much.
_BEHIND: Final = 1024 * 1024


async def attach(
    request: Callable[..., Awaitable[dict[str, Any]]],
    directory: Path,
    container: Container,
    container_id: str,
    streams: AttachIO,
) -> None:
    """Until the process ends. Raises ``NotFoundError`` if it does not run, ``TransientError`` if the output was cut off.

    Args:
        request: to the supervisor.
        directory: the container's.
    """
    name = f"attach-{secrets.token_hex(8)}"
    with ExitStack() as ends:
        outputs = []
        for stream, target in (("stdout", streams.stdout), ("stderr", streams.stderr)):
            try:
                outputs.append((_own(ends, directory / f"{name}.{stream}"), target))
            except FileNotFoundError:  # its directory has gone with it
                raise _not_found(container) from None
        try:
            answer = await request("attach", id=container_id, name=name)
        finally:
            for stream in ("stdout", "stderr"):
                (directory / f"{name}.{stream}").unlink(missing_ok=True)
        if "error" in answer:
            raise TransientError(f"the supervisor could not attach to {container.name}: {answer.get('message')}")
        if not answer["attached"]:
            raise _not_found(container)
        async with asyncio.TaskGroup() as tasks:
            helpers = []
            if answer["terminal"]:
                terminal = Descriptor(await _terminal(directory, container))
                ends.callback(terminal.close)
                helpers.append(tasks.create_task(resize(terminal, streams.resizes)))
                if streams.stdin is not None and answer["stdin"]:
                    helpers.append(tasks.create_task(_type(streams.stdin, terminal)))
            elif streams.stdin is not None and answer["stdin"]:
                with suppress(OSError):  # it has ended, or closed its stdin
                    stdin = os.open(directory / "stdin", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                    end = Descriptor(stdin)
                    ends.callback(end.close)
                    helpers.append(tasks.create_task(_feed(streams.stdin, end, request, container, container_id)))
            showing = [tasks.create_task(_show(source, target)) for source, target in outputs]
            await asyncio.wait(showing)
            for helper in helpers:
                helper.cancel()
        if (await request("enter", id=container_id))["mark"] is not None:
            raise TransientError(
                "the output was cut off: it was not read as fast as it came, or the supervisor has gone"
            )


def _own(ends: ExitStack, path: Path) -> Descriptor:
    os.mkfifo(path, 0o600)
    end = Descriptor(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    ends.callback(end.close)
    widen(end.number, _BEHIND)
    return end


async def _show(source: Descriptor, target: OutputStream | None) -> None:
    try:
        while data := await source.read():
            if target is not None:
                await target.write(data)
    except BrokenPipeError:
        source.close()


async def _terminal(directory: Path, container: Container) -> int:
    fetching = asyncio.ensure_future(asyncio.to_thread(fetch_terminal, str(directory)))
    try:
        return await asyncio.shield(fetching)
    except asyncio.CancelledError:
        fetching.add_done_callback(_close)
        raise
    except OSError:
        raise TransientError(f"the terminal of container {container.name} cannot be had: its keeper has gone") from None


def _close(fetched: asyncio.Future[int]) -> None:
    if not fetched.cancelled() and fetched.exception() is None:
        os.close(fetched.result())


async def _type(source: InputStream, terminal: Descriptor) -> None:
    """A terminal stays open for the next client, with ``stdinOnce`` too, as with containerd."""
    with suppress(BrokenPipeError):
        while data := await source.read():
            await terminal.write(data)


async def _feed(
    source: InputStream,
    target: Descriptor,
    request: Callable[..., Awaitable[dict[str, Any]]],
    container: Container,
    container_id: str,
) -> None:
    try:
        while data := await source.read():
            await target.write(data)
    except BrokenPipeError:
        return  # it reads no more
    finally:
        target.close()
        if container.stdin_once:
            await request("close_stdin", id=container_id)


def _not_found(container: Container) -> NotFoundError:
    return NotFoundError(f'container not found ("{container.name}")')

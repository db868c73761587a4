"""Commands in containers, and clients at their main processes: ``kubectl exec``, ``cp`` and ``attach``."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from virtual_kubelet import AttachIO, InputStream, NotFoundError, OutputStream, TerminalSize, TransientError
from virtual_kubelet_docker.daemon import Daemon, DaemonError, TwoWay
from virtual_kubelet_docker.exec_refusal import ExecRefusal

__all__ = ["attach", "run_command"]

log = logging.getLogger(__name__)

#: Seconds until an engine whose stream has ended must know the exit code; it is asked again after the second one, doubled.
_EXIT_CODE: Final = 30.0
_ASK_AGAIN: Final = 0.01


async def run_command(daemon: Daemon, container_id: str, name: str, command: Sequence[str], streams: AttachIO) -> int:
    """To its end; its exit code. As the container's user, in its directory, with its environment.

    Cancelled, the command and what it has started are killed, where the engine's processes are this machine's and we may.

    Args:
        name: of the container, for errors.
    """
    wanted = {
        "AttachStdin": streams.stdin is not None,
        "AttachStdout": True,
        "AttachStderr": not streams.tty,
        "Tty": streams.tty,
        "Cmd": list(command),
    }
    if streams.tty:
        wanted["Env"] = ["TERM=xterm"]
    try:
        made = await daemon.request("POST", f"containers/{container_id}/exec", body=wanted)
    except DaemonError as error:
        raise await _failure(daemon, container_id, name, error) from None
    exec_id = made["Id"]
    ended = False
    try:
        refusal = ExecRefusal()
        async with daemon.two_way(
            f"exec/{exec_id}/start", body={"Detach": False, "Tty": streams.tty}, tty=streams.tty
        ) as stream:
            await _converse(daemon, f"exec/{exec_id}/resize", stream, streams, refusal)
        code = await _exit_code(daemon, exec_id)
        ended = True
    except DaemonError as error:
        raise await _failure(daemon, container_id, name, error) from None
    finally:
        if not ended and daemon.is_local:
            # To its end whatever happens to this task; it is short.
            await asyncio.shield(_kill(daemon, exec_id))
    refused = refusal.reason(code)
    if refused:
        raise TransientError(f"failed to exec in container: failed to start exec: {refused}")
    for output, data in refusal.withheld():
        await _pass(output, data, streams)
    return code


async def attach(daemon: Daemon, container_id: str, name: str, *, tty: bool, stdin: bool, streams: AttachIO) -> None:
    """Until the main process has ended.

    Args:
        tty, stdin: what the container has.
    """
    wants_stdin = streams.stdin is not None and stdin
    params = {"stream": True, "stdout": True, "stderr": not tty, "stdin": wants_stdin, "logs": False}
    try:
        async with daemon.two_way(f"containers/{container_id}/attach", params=params, tty=tty) as stream:
            given = AttachIO(
                streams.stdin if wants_stdin else None, streams.stdout, streams.stderr, tty, streams.resizes
            )
            await _converse(daemon, f"containers/{container_id}/resize", stream, given, None)
    except DaemonError as error:
        raise await _failure(daemon, container_id, name, error) from None


async def _converse(
    daemon: Daemon, resize_path: str, stream: TwoWay, streams: AttachIO, refusal: ExecRefusal | None
) -> None:
    async with asyncio.TaskGroup() as tasks:
        helpers = []
        if streams.stdin is not None:
            helpers.append(tasks.create_task(_feed(streams.stdin, stream)))
        if streams.tty:
            helpers.append(tasks.create_task(_resize(daemon, resize_path, streams.resizes)))
        broken: set[int] = set()
        while (message := await stream.read()) is not None:
            output, data = message
            for number, part in ((output, data),) if refusal is None else refusal.take(output, data):
                if number not in broken and not await _pass(number, part, streams):
                    broken.add(number)
        for helper in helpers:
            helper.cancel()


async def _pass(output: int, data: bytes, streams: AttachIO) -> bool:
    """False once the client takes no more of this."""
    target: OutputStream | None = streams.stderr if output == 2 else streams.stdout
    try:
        if target is not None and data:
            await target.write(data)
    except BrokenPipeError:
        return False
    return True


async def _feed(source: InputStream, target: TwoWay) -> None:
    try:
        while data := await source.read():
            await target.write(data)
    except BrokenPipeError:
        return  # it reads no more
    target.end_input()


async def _resize(daemon: Daemon, path: str, sizes: AsyncIterator[TerminalSize]) -> None:
    async for size in sizes:
        failure = None
        for _ in range(10):
            try:
                await daemon.request("POST", path, params={"h": size.height, "w": size.width})
                break
            except DaemonError as error:  # a command has no terminal before it runs, and none after
                failure = error
                await asyncio.sleep(0.1)
        else:
            log.info("a terminal was not given the size of its client: %s", failure)


async def _exit_code(daemon: Daemon, exec_id: str) -> int:
    pause = _ASK_AGAIN
    try:
        async with asyncio.timeout(_EXIT_CODE):
            while True:
                inspected = await daemon.get(f"exec/{exec_id}/json")
                if not inspected["Running"] and inspected.get("ExitCode") is not None:
                    return int(inspected["ExitCode"])
                await asyncio.sleep(pause)
                pause = min(1.0, pause * 2)
    except TimeoutError:
        raise TransientError("the container engine does not say with which code the command has ended") from None


async def _kill(daemon: Daemon, exec_id: str) -> None:
    """End a command whose client has gone. The engine has no request for it; it knows the number of the process."""
    try:
        for _ in range(20):
            pid = (inspected := await daemon.get(f"exec/{exec_id}/json")).get("Pid")
            if not inspected["Running"]:
                return
            if pid:
                break
            await asyncio.sleep(0.05)  # it is being started
        else:
            log.warning(
                "a command whose client has gone may go on: the container engine does not say which process it is"
            )
            return
        handle = os.pidfd_open(pid)
        try:
            # It still runs now that the number is held: so it is its own.
            if (await daemon.get(f"exec/{exec_id}/json"))["Running"]:
                descendants = await asyncio.to_thread(_descendants, pid)
                signal.pidfd_send_signal(handle, signal.SIGKILL)
                for child in descendants:
                    with suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
        finally:
            os.close(handle)
    except ProcessLookupError:
        return  # it has ended
    except (DaemonError, PermissionError) as error:
        if not isinstance(error, DaemonError) or error.status != 404:  # it went with its container
            log.warning("a command whose client has gone goes on: %s", error)


def _descendants(pid: int) -> list[int]:
    """Those below it, as /proc has them."""
    found: list[int] = []
    pending = [pid]
    while pending:
        parent = pending.pop()
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                numbers = [int(one) for one in children.read_text().split()]
                found += numbers
                pending += numbers
    return found


async def _failure(daemon: Daemon, container_id: str, name: str, error: DaemonError) -> Exception:
    """Engines differ in how they say that a container does not run: so it is asked for."""
    if error.status == 0:
        return error
    try:
        runs = (await daemon.get(f"containers/{container_id}/json"))["State"].get("Running")
    except DaemonError as second:
        runs = second.status != 404  # nobody knows: so the first error counts
    return error if runs else NotFoundError(f'container not found ("{name}")')

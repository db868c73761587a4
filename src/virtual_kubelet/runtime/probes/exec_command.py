"""Probes and hooks that run a command in the container (pkg/probe/exec): its exit code decides."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from virtual_kubelet.contracts.streams import AttachIO, TerminalSize
from virtual_kubelet.errors import text_of
from virtual_kubelet.runtime.bounded_call import LeftBehind, bounded_call
from virtual_kubelet.runtime.probes.target import (
    OUTPUT_LIMIT,
    ContainerTarget,
    Outcome,
    ProbeAnswer,
    ProbeError,
    go_duration,
    go_quote,
)

__all__ = ["CommandEnd", "probe_by_command", "run_command"]


class CommandEnd(NamedTuple):
    """How a command ended; ``output`` is stdout, then stderr, cut at ``OUTPUT_LIMIT`` bytes; ``stderr`` likewise."""

    exit_code: int
    output: str
    stderr: str


class _Collected:
    """An output of which the beginning is kept and the rest is dropped, so that no command is ever held up."""

    def __init__(self) -> None:
        self.kept = bytearray()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        self.kept += bytes(data[: OUTPUT_LIMIT - len(self.kept)])


async def _no_resizes() -> AsyncIterator[TerminalSize]:
    return
    yield


async def run_command(
    target: ContainerTarget, command: Sequence[str], timeout: float | None, left: LeftBehind
) -> CommandEnd:
    """Run a command in a container.

    Raises ``TimeoutError``, or ``ProbeError`` if it could not be run. ``left`` takes what the runtime does not end.
    """
    exec_command = target.exec
    if exec_command is None:
        raise ProbeError("the runtime of this node runs no commands in containers")
    stdout, stderr = _Collected(), _Collected()
    streams = AttachIO(stdin=None, stdout=stdout, stderr=stderr, tty=False, resizes=_no_resizes())

    async def call() -> int:
        return await exec_command(target.container_id, command, streams)

    try:
        code = await bounded_call(call(), timeout, left, name=f"command in {target.container.name}")
    except TimeoutError:
        raise
    except Exception as error:
        # Whatever a runtime raises: the command could not be run, and the probe's event says why.
        raise ProbeError(text_of(error)) from error
    output = bytes(stdout.kept + stderr.kept)[:OUTPUT_LIMIT]
    return CommandEnd(code, output.decode(errors="replace"), bytes(stderr.kept).decode(errors="replace"))


async def probe_by_command(
    target: ContainerTarget, command: Sequence[str], timeout: int, left: LeftBehind
) -> ProbeAnswer:
    """An exec probe. Raises ``ProbeError`` if the command could not be run."""
    try:
        ended = await run_command(target, command, timeout, left)
    except TimeoutError:
        shown = go_quote(" ".join(command))
        return ProbeAnswer(Outcome.FAILURE, f"command timed out: {shown} timed out after {go_duration(timeout)}")
    return ProbeAnswer(Outcome.SUCCESS if ended.exit_code == 0 else Outcome.FAILURE, ended.output)

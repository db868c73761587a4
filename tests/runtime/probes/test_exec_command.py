"""Exec probes: real processes stand for the commands, and runtimes that do not do as they should."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Sequence
from typing import Any

import pytest

from tests.runtime.probes.raw_server import target
from virtual_kubelet.contracts.streams import AttachIO
from virtual_kubelet.runtime.bounded_call import LeftBehind, bounded_call
from virtual_kubelet.runtime.probes.exec_command import probe_by_command, run_command
from virtual_kubelet.runtime.probes.target import OUTPUT_LIMIT, Outcome, ProbeError


async def process(container_id: str, command: Sequence[str], streams: AttachIO) -> int:
    """Runs it on this machine, as a runtime would in a container."""
    assert container_id == "c1"
    assert (streams.stdin, streams.tty) == (None, False)
    assert [size async for size in streams.resizes] == []
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)

    async def pump(source: asyncio.StreamReader | None, name: str) -> None:
        sink = getattr(streams, name)
        assert source is not None
        while data := await source.read(65536):
            await sink.write(data)

    try:
        await asyncio.gather(pump(child.stdout, "stdout"), pump(child.stderr, "stderr"))
        return await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


@pytest.mark.parametrize(
    ("script", "outcome", "output"),
    [
        ("echo out; echo err >&2", Outcome.SUCCESS, "out\nerr\n"),
        ("echo err >&2; echo out; exit 7", Outcome.FAILURE, "out\nerr\n"),
        ("printf '\\377'", Outcome.SUCCESS, "�"),
        ("head -c 200000 /dev/zero | tr '\\0' x", Outcome.SUCCESS, "x" * OUTPUT_LIMIT),
    ],
)
async def test_the_exit_code_decides_and_the_beginning_of_the_output_is_shown(
    script: str, outcome: Outcome, output: str
) -> None:
    left = LeftBehind()
    assert await probe_by_command(target(exec=process), ["sh", "-c", script], 60, left) == (outcome, output)


async def test_a_command_that_takes_too_long_is_ended_and_has_failed() -> None:
    left = LeftBehind()
    answer = await probe_by_command(target(exec=process), ["sleep", "3600"], 1, left)
    assert answer == (Outcome.FAILURE, 'command timed out: "sleep 3600" timed out after 1s')
    async with asyncio.timeout(60):
        while left:
            await asyncio.sleep(0.05)


async def test_a_command_that_cannot_be_run_is_no_failure_of_the_container() -> None:
    async def fail(container_id: str, command: Sequence[str], streams: AttachIO) -> int:
        raise OSError("container not found")

    with pytest.raises(ProbeError, match=r"^container not found$"):
        await probe_by_command(target(exec=fail), ["true"], 60, LeftBehind())
    with pytest.raises(ProbeError, match="runs no commands"):
        await run_command(target(), ["true"], 60, LeftBehind())


@pytest.mark.looptime
async def test_a_runtime_that_does_not_end_a_command_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    end = asyncio.Event()

    async def deaf(container_id: str, command: Sequence[str], streams: AttachIO) -> int:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue
        return 0

    left = LeftBehind()
    began = asyncio.get_running_loop().time()
    outcome, message = await probe_by_command(target(exec=deaf), ["x"], 1, left)
    assert (outcome, message) == (Outcome.FAILURE, 'command timed out: "x" timed out after 1s')
    assert asyncio.get_running_loop().time() - began == pytest.approx(3)
    assert len(left) == 1
    assert "goes on though its time is over" in caplog.text
    end.set()
    await asyncio.sleep(1)
    assert len(left) == 0


@pytest.mark.looptime
async def test_a_runtime_that_cancels_itself_does_not_cancel_the_probe() -> None:
    async def cancelled(container_id: str, command: Sequence[str], streams: AttachIO) -> int:
        raise asyncio.CancelledError

    with pytest.raises(ProbeError, match="given up"):
        await probe_by_command(target(exec=cancelled), ["x"], 1, LeftBehind())


@pytest.mark.looptime
async def test_who_is_cancelled_takes_the_call_along() -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.5)
            ended.append("slow")

    left = LeftBehind()
    task = asyncio.create_task(bounded_call(slow(), None, left, name="slow"))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["slow"]
    assert len(left) == 0


async def test_a_call_that_fails_in_the_moment_in_which_its_caller_gives_up_is_heard() -> None:
    """Else its error goes to nobody, and the event loop complains of it when it is collected."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def fails() -> None:
        callers[0].cancel()  # it hears of that, and of our end, at once
        raise RuntimeError("too late")

    callers = [asyncio.create_task(bounded_call(fails(), None, LeftBehind(), name="fails"))]
    await asyncio.wait(callers)
    assert callers.pop().cancelled()
    gc.collect()
    assert complaints == []

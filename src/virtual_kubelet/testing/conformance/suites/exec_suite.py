"""``kubectl exec``: commands in containers, by the API."""

from __future__ import annotations

import asyncio
import hashlib

from virtual_kubelet.testing.conformance.check import promise
from virtual_kubelet.testing.conformance.expectations import PromiseBrokenError, expect
from virtual_kubelet.testing.conformance.stage import Stage
from virtual_kubelet.testing.conformance.statuses import restarts
from virtual_kubelet.testing.user_streams import RemoteSession, StreamRefusedError


@promise("runs", "exec:answers")
async def output_and_exit_code(stage: Stage) -> None:
    """A command's stdout, stderr and exit code come back, each in its place."""
    pod = await stage.start(stage.runs())
    result = await stage.user.execute(pod, *stage.command("answers"))
    said = (result.exit_code, result.stdout.strip(), result.stderr.strip())
    expect(said == (3, b"out", b"err"), "exit code 3, 'out', 'err'", result)


@promise("runs", "exec:echoes")
async def stdin(stage: Stage) -> None:
    """Stdin reaches the command to its end: a megabyte comes back as it was sent, and the command ends with 0."""
    pod = await stage.start(stage.runs())
    sent = bytes(range(256)) * 4096
    result = await stage.user.execute(pod, *stage.command("echoes"), stdin=sent)
    same = hashlib.sha256(result.stdout).digest() == hashlib.sha256(sent).digest()
    expect(same, "the same megabyte", f"{len(result.stdout)} bytes, {result.stderr!r} {result.message}")
    expect(result.exit_code == 0, "exit code 0", result.exit_code)


@promise("runs")
async def unknown_command(stage: Stage) -> None:
    """A command that there is not is an error with a message, and no harm to the pod."""
    pod = await stage.start(stage.runs())
    try:
        result = await stage.user.execute(pod, "/no/such/command")
        code, said = result.exit_code, result.message or result.stderr.decode(errors="replace")
    except StreamRefusedError as error:
        code, said = error.code, error.message
    expect(
        code != 0 and "no such" in said.lower(), "an error that says that there is no such command", f"{code}: {said}"
    )
    after = await stage.user.get(pod)
    expect(after.status.phase == "Running" and not restarts(after), "the pod runs as before", after.status.phase)


@promise("runs", "exec:answers")
async def many_at_once(stage: Stage) -> None:
    """Ten commands at once in one container do not mix."""
    pod = await stage.start(stage.runs())
    command = stage.command("answers")
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(stage.user.execute(pod, *command)) for _ in range(10)]
    results = {(one.exit_code, one.stdout.strip(), one.stderr.strip()) for one in (task.result() for task in running)}
    expect(results == {(3, b"out", b"err")}, "ten times exit code 3, 'out', 'err'", results)


@promise("shell")
async def in_its_container(stage: Stage) -> None:
    """A command has the container's variables and its workingDir."""
    pod = await stage.start(stage.runs().env(COLOUR="green").fields(working_dir="/tmp"))
    result = await stage.execute(pod, 'echo "$COLOUR $(pwd)"')
    expect(result.stdout == b"green /tmp\n", "'green /tmp'", result)


@promise("shell")
async def signal(stage: Stage) -> None:
    """A command that a signal ends has 128 and the signal's number as its exit code."""
    pod = await stage.start(stage.runs())
    result = await stage.execute(pod, "kill -9 $$")
    expect(result.exit_code == 137, "exit code 137", result)


@promise("shell")
async def terminal(stage: Stage) -> None:
    """With a tty the command has a terminal of the client's size, and a new size reaches it."""
    assert stage.declaration.shell is not None
    pod = await stage.start(stage.runs())
    script = "tty; while read -r line; do stty size; done"
    async with stage.user.executing(pod, *stage.declaration.shell, script, stdin=True, tty=True) as session:
        said = await session.read_until(b"\n", stage.patience)
        expect(b"/dev/" in said, "its stdin is a terminal", said)
        for width, height in ((97, 31), (120, 40)):
            await session.resize(width, height)
            await _has_size(stage, session, f"{height} {width}".encode())


async def _has_size(stage: Stage, session: RemoteSession, wanted: bytes) -> None:
    """Asked again and again: a new size may come a moment later."""

    async def asked() -> bytes:
        await session.write(b"\n")
        return session.stdout

    await stage.sees(asked, lambda text: wanted in text, f"a terminal of {wanted.decode()}")


@promise("shell")
async def client_goes_away(stage: Stage) -> None:
    """When the client is gone its command is ended, and the container goes on."""
    assert stage.declaration.shell is not None
    pod = await stage.start(stage.runs())
    mark = f"mark-{stage.node_name}-{pod.metadata.uid}"
    script = f": {mark}; echo begun; while :; do sleep 1; done"
    async with stage.user.executing(pod, *stage.declaration.shell, script) as session:
        await session.read_until(b"begun", stage.patience)
        there = await stage.execute(pod, _count(mark))
        expect(there.stdout.strip() == b"1", "the command is seen to run", there)
        session.abort()
    await stage.sees(
        lambda: stage.execute(pod, _count(mark)), lambda found: found.stdout.strip() == b"0", "the command has ended"
    )
    after = await stage.user.get(pod)
    expect(after.status.phase == "Running" and not restarts(after), "the container goes on", after.status.phase)


def _count(mark: str) -> str:
    """A script that counts the processes with this word in their command line, but not itself."""
    split = f"{mark[:6]}[{mark[6]}]{mark[7:]}"
    return f"n=0; for p in /proc/[0-9]*; do grep -aqs -e '{split}' $p/cmdline && n=$((n+1)); done; echo $n"


@promise("runs", "exec:answers")
async def unknown_container(stage: Stage) -> None:
    """A command in a container that the pod does not have is refused, by name."""
    pod = await stage.start(stage.runs())
    try:
        result = await stage.user.execute(pod, *stage.command("answers"), container="nobody")
    except StreamRefusedError as error:
        expect("nobody" in error.message, "a message that names the container", error.message)
    else:
        raise PromiseBrokenError("a refusal", str(result))


@promise("exits", "exec:answers")
async def ended_container(stage: Stage) -> None:
    """A command in a container that has ended is an error, not a hang."""
    pod = await stage.finish(stage.exits(0, seconds=1))
    try:
        result = await stage.user.execute(pod, *stage.command("answers"))
    except StreamRefusedError:
        return
    expect(result.exit_code is None and result.message, "an error with a message", result)

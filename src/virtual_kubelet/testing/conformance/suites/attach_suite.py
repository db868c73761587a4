"""``kubectl attach``: a client at a container's main process, by the API."""

from __future__ import annotations

import asyncio

from virtual_kubelet.testing.conformance.check import promise
from virtual_kubelet.testing.conformance.expectations import expect
from virtual_kubelet.testing.conformance.stage import Stage
from virtual_kubelet.testing.conformance.statuses import expect_terminated, restarts


@promise("runs")
async def until_it_ends(stage: Stage) -> None:
    """Being attached lasts until the container ends, and ends then."""
    pod = await stage.start(stage.runs())
    async with stage.user.attached(pod) as session:
        await asyncio.sleep(1)
        expect(not session.ended, "being attached lasts while the container runs", "the session has ended")
        await stage.user.delete(pod)
        result = await session.wait(stage.patience)
    expect(result.exit_code in (0, None), "the session ends", result)
    await stage.user.gone(pod)


@promise("shell")
async def output(stage: Stage) -> None:
    """What the main process prints from now on comes to the client, stderr apart."""
    pod = await stage.start(stage.shell("while :; do echo to stdout; echo to stderr >&2; sleep 0.5; done"))
    async with stage.user.attached(pod) as session:
        await session.read_until(b"to stdout\n", stage.patience)

        async def stderr() -> bytes:
            return session.stderr

        await stage.sees(stderr, lambda text: b"to stderr\n" in text, "stderr comes, too")
        expect(b"to stderr" not in session.stdout, "stdout and stderr apart", session.stdout[-100:])


@promise("echoes")
async def input(stage: Stage) -> None:
    """What the client sends reaches a container that has stdin, and its answer comes back."""
    pod = await stage.start(stage.does("echoes", stage.pod().fields(stdin=True)))
    async with stage.user.attached(pod, stdin=True) as session:
        await session.write(b"ping\n")
        said = await session.read_until(b"got ping", stage.patience)
    expect(b"got ping\n" in said, "'got ping'", said)


@promise("echoes")
async def end_of_input(stage: Stage) -> None:
    """With stdinOnce, the end of the first client's input is the end of the container's."""
    pod = await stage.start(stage.does("echoes", stage.pod().fields(stdin=True, stdin_once=True)))
    async with stage.user.attached(pod, stdin=True) as session:
        await session.write(b"ping\n")
        await session.read_until(b"got ping", stage.patience)
        await session.end_input()
        await session.wait(stage.patience)
    expect_terminated(await stage.user.ended(pod), 0, "Completed")


@promise("runs")
async def client_goes_away(stage: Stage) -> None:
    """A client that goes away does the container no harm."""
    pod = await stage.start(stage.runs())
    async with stage.user.attached(pod) as session:
        await asyncio.sleep(0.5)
        session.abort()
    await asyncio.sleep(1)
    after = await stage.user.get(pod)
    expect(after.status.phase == "Running" and not restarts(after), "the container runs as before", after.status.phase)

"""``kubectl port-forward``: connections to ports of pods, by the API."""

from __future__ import annotations

import asyncio
import secrets

from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.testing.conformance.check import promise
from virtual_kubelet.testing.conformance.expectations import expect
from virtual_kubelet.testing.conformance.stage import Stage
from virtual_kubelet.testing.conformance.statuses import restarts
from virtual_kubelet.testing.user_streams import StreamRefusedError


async def _serving(stage: Stage) -> tuple[Pod, int]:
    """A pod that echoes on a port, once it does. Pods may share the machine's network: a port that is hardly taken."""
    port = 20000 + secrets.randbelow(10000)
    pod = await stage.start(stage.does("serves", port=port))
    await stage.sees(
        lambda: _echo(stage, pod, port, b"are you there"), lambda back: back == b"are you there", "an echo"
    )
    return pod, port


async def _echo(stage: Stage, pod: Pod, port: int, data: bytes) -> bytes:
    try:
        async with stage.user.forwarded(pod, port) as connection:
            await connection.write(data)
            return await connection.read_until(len(data), stage.patience)
    except (StreamRefusedError, OSError) as error:
        return str(error).encode()


@promise("serves")
async def bytes_both_ways(stage: Stage) -> None:
    """Bytes reach a port of the pod and come back: a megabyte as it was sent."""
    pod, port = await _serving(stage)
    sent = secrets.token_bytes(1024 * 1024)
    back = await _echo(stage, pod, port, sent)
    expect(back == sent, "the same megabyte", f"{len(back)} bytes: {back[:200]!r}")


@promise("serves")
async def many_connections(stage: Stage) -> None:
    """Ten connections at once do not mix."""
    pod, port = await _serving(stage)
    sent = [f"connection {number} ".encode() * 1000 for number in range(10)]
    async with asyncio.TaskGroup() as tasks:
        echoes = [tasks.create_task(_echo(stage, pod, port, data)) for data in sent]
    mixed = [number for number, (task, data) in enumerate(zip(echoes, sent, strict=True)) if task.result() != data]
    expect(not mixed, "each gets what it sent", f"wrong: {mixed}")


@promise("runs")
async def closed_port(stage: Stage) -> None:
    """A port on which nobody listens is an error that says so, and no harm to the pod."""
    pod = await stage.start(stage.runs())
    try:
        async with stage.user.forwarded(pod, 4) as connection:
            await connection.read_until(1, stage.patience)
            said, back = connection.error, connection.received
    except StreamRefusedError as error:
        if error.code == 501:
            raise
        said, back = error.message, b""
    expect(not back and said, "an error", f"{back!r} {said}")
    after = await stage.user.get(pod)
    expect(after.status.phase == "Running" and not restarts(after), "the pod runs as before", after.status.phase)


@promise("serves")
async def client_goes_away(stage: Stage) -> None:
    """A client that goes away in the middle does the pod no harm: the next one is served."""
    pod, port = await _serving(stage)
    async with stage.user.forwarded(pod, port) as connection:
        await connection.write(b"x" * 200_000)
        connection.abort()
    back = await _echo(stage, pod, port, b"next")
    expect(back == b"next", "the next client is served", back)

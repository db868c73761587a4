"""The node's process is killed and a new one begins: its pods are as before, and what happened meanwhile is known.

All checks here prepare their pods, then the node is killed once for all of them.
"""

from __future__ import annotations

from virtual_kubelet.testing.conformance.check import promise
from virtual_kubelet.testing.conformance.expectations import expect
from virtual_kubelet.testing.conformance.stage import Stage
from virtual_kubelet.testing.conformance.statuses import (
    condition,
    container,
    expect_terminated,
    restarts,
    running_since,
)
from virtual_kubelet.testing.pod_history import status_line

_EXIT_AFTER = 8


@promise("runs")
async def running_pod(stage: Stage) -> None:
    """A running pod is left alone: its container, start times, restart count and readiness do not move."""
    before = await stage.start(stage.runs().restarting("Always"))
    seen = len(stage.user.history(before).seen)
    await stage.seconds(2)  # times are whole seconds: a second start is to be told from the first
    await stage.node_is_killed()
    await stage.seconds(3)  # whatever a new process has to say of it
    after = await stage.user.get(before)
    kept = [
        (container(one).container_id, running_since(one), restarts(one), one.status.start_time)
        for one in (before, after)
    ]
    expect(kept[0] == kept[1], f"as before: {kept[0]}", kept[1])
    later = [one.pod for one in stage.user.history(before).seen[seen:]]
    flips = [status_line(pod) for pod in later if condition(pod, "Ready")[0] != "True" or not container(pod).ready]
    expect(not flips, "Ready all the time", flips)
    moved = {
        c.last_transition_time for pod in (before, after) for c in pod.status.conditions or () if c.type == "Ready"
    }
    expect(len(moved) == 1, "the condition Ready has not moved", moved)


@promise("exits")
async def ended_pod(stage: Stage) -> None:
    """A pod that had ended stays as it ended."""
    before = await stage.finish(stage.exits(7, seconds=0))
    await stage.node_is_killed()
    await stage.seconds(3)
    after = await stage.user.get(before)
    expect_terminated(after, 7, "Error")
    expect(after.status.phase == "Failed", "phase Failed", status_line(after))


@promise("exits")
async def ends_meanwhile(stage: Stage) -> None:
    """A container that ends while there is no node has its exit code known to the next one."""
    pod = await stage.start(stage.exits(9, seconds=_EXIT_AFTER))
    await stage.node_is_killed(lambda: stage.seconds(_EXIT_AFTER + 2))
    ended = await stage.user.ended(pod)
    expect_terminated(ended, 9, "Error")


@promise("runs")
async def deleted_meanwhile(stage: Stage) -> None:
    """A pod that is deleted while there is no node is ended by the next one, and goes."""
    pod = await stage.start(stage.runs())

    async def delete() -> None:
        await stage.user.delete(pod)

    await stage.node_is_killed(delete)
    await stage.user.gone(pod)


@promise("runs")
async def created_meanwhile(stage: Stage) -> None:
    """A pod that is created while there is no node runs with the next one."""

    async def create() -> None:
        await stage.create(stage.runs())

    await stage.node_is_killed(create)
    await stage.user.running(stage.created[0])


@promise("exits")
async def restart_count(stage: Stage) -> None:
    """A container that has restarted keeps its count, and goes on counting from there."""
    pod = await stage.create(stage.exits(1, seconds=2).restarting("Always"))
    before = await stage.user.saw(pod, lambda one: restarts(one) == 1, "the container has restarted once")
    await stage.node_is_killed()
    after = await stage.user.until(
        pod,
        lambda one: restarts(one) >= 2 and running_since(one),
        "it restarts for the second time",
        stage.patience + 20,
    )
    counts = [restarts(one.pod) for one in stage.user.history(pod).seen]
    expect(counts == sorted(counts), "the restart count never goes back", counts)
    expect(after.status.start_time == before.status.start_time, "the pod's start time stays", status_line(after))


@promise("prints")
async def logs(stage: Stage) -> None:
    """What a container had written before is still in its log."""
    pod = await stage.start(stage.prints("written before\n"))
    await stage.sees(lambda: stage.user.logs(pod), lambda text: text == b"written before\n", "the line")
    await stage.node_is_killed()
    await stage.sees(lambda: stage.user.logs(pod), lambda text: text == b"written before\n", "the line, still")


@promise("runs", "exec:answers")
async def commands(stage: Stage) -> None:
    """Commands can be run in a container that an earlier process has started."""
    pod = await stage.start(stage.runs())
    await stage.node_is_killed()
    result = await stage.user.execute(pod, *stage.command("answers"))
    expect(result.exit_code == 3, "exit code 3", result)


@promise("runs")
async def deletion(stage: Stage) -> None:
    """A pod of an earlier process can be ended in order."""
    pod = await stage.start(stage.runs())
    await stage.node_is_killed()
    await stage.user.delete(pod)
    await stage.user.gone(pod)
    stage.reported_end(pod)

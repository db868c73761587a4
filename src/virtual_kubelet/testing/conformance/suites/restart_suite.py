"""What runs again, what does not, and when. Beside the recorded kubelet."""

from __future__ import annotations

import time

from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.testing.conformance.check import promise
from virtual_kubelet.testing.conformance.expectations import expect
from virtual_kubelet.testing.conformance.stage import Stage
from virtual_kubelet.testing.conformance.statuses import (
    condition,
    container,
    expect_terminated,
    last_terminated,
    moment,
    restarts,
    running_since,
    terminated,
    waiting_reason,
)
from virtual_kubelet.testing.pod_history import status_line

#: Seconds for which a container fails, from when its pod is created. One that starts later than that never fails; then
#: more is tried.
_MARGINS = (6, 30, 90)


def _fails_for(seconds: int) -> str:
    return f"sleep 1; test $(date +%s) -ge {int(time.time()) + seconds}"


@promise("exits")
async def always(stage: Stage) -> None:
    """With restartPolicy Always a container that ends, even well, runs again; its last end is in lastState."""
    pod = await stage.create(stage.exits(0, seconds=2).restarting("Always"))
    again = await stage.user.saw(
        pod, lambda one: restarts(one) >= 1 and running_since(one), "the container runs again, restartCount 1"
    )
    last = last_terminated(again)
    expect(last is not None and last.exit_code == 0, "lastState is its end with 0", status_line(again))
    expect(again.status.phase == "Running", "the pod stays Running", status_line(again))


@promise("exits")
async def never(stage: Stage) -> None:
    """With restartPolicy Never nothing runs again."""
    pod = await stage.finish(stage.exits(1, seconds=1).restarting("Never"))
    expect_terminated(pod, 1, "Error")
    expect(restarts(pod) == 0, "restartCount 0", restarts(pod))


@promise("exits")
async def on_failure_leaves_success(stage: Stage) -> None:
    """With restartPolicy OnFailure a container that ends with 0 does not run again: the pod is Succeeded."""
    pod = await stage.finish(stage.exits(0, seconds=1).restarting("OnFailure"))
    expect(pod.status.phase == "Succeeded", "phase Succeeded", status_line(pod))
    expect(restarts(pod) == 0, "restartCount 0", restarts(pod))


@promise("shell")
async def on_failure_until_success(stage: Stage) -> None:
    """With restartPolicy OnFailure a container that fails runs again, and the pod is Succeeded once it does not fail."""
    for margin in _MARGINS:
        pod = await stage.finish(stage.shell(_fails_for(margin)).restarting("OnFailure"), stage.patience + 3 * margin)
        expect(pod.status.phase == "Succeeded", "phase Succeeded", status_line(pod))
        expect_terminated(pod, 0, "Completed")
        if restarts(pod):
            break
    expect(restarts(pod) >= 1, "it has restarted", restarts(pod))


@promise("exits")
async def back_off(stage: Stage) -> None:
    """A container that keeps failing restarts at once, then after 10 s; meanwhile it waits with CrashLoopBackOff."""
    pod = await stage.create(stage.exits(3, seconds=1).restarting("Always"))
    waiting = await stage.user.saw(
        pod, lambda one: waiting_reason(one) == "CrashLoopBackOff", "the container waits with CrashLoopBackOff"
    )
    expect(restarts(waiting) == 1, "the first restart did not wait: restartCount 1", status_line(waiting))
    expect(waiting.status.phase == "Running", "the pod stays Running", status_line(waiting))
    expect(condition(waiting, "Ready") == ("False", "ContainersNotReady"), "not Ready", condition(waiting, "Ready"))
    state = container(waiting).state
    said = state.waiting.message or "" if state is not None and state.waiting is not None else ""
    expect(
        said.startswith("back-off 10s restarting failed container=main pod="), "a message as a kubelet's", repr(said)
    )
    ended = last_terminated(waiting)
    expect(ended is not None and ended.exit_code == 3, "lastState has its exit code", status_line(waiting))
    assert ended is not None

    def begun(one: Pod) -> str:
        """When its third run began; that may be over by the time it is told."""
        if restarts(one) != 2:
            return ""
        over = terminated(one) or last_terminated(one)
        return running_since(one) or (over.started_at or "" if over is not None else "")

    again = await stage.user.saw(pod, begun, "it runs again", stage.patience + 10)
    pause = (moment(begun(again)) - moment(ended.finished_at)).total_seconds()
    expect(pause >= 9, "10 s between an end and the second restart", f"{pause:g} s")


@promise("shell")
async def failing_init_container(stage: Stage) -> None:
    """An init container that fails runs again until it does not; the pod is Pending, and main waits."""
    failed = None
    for margin in _MARGINS:
        init = stage.runs().restarting("Always").init_container("init")
        pod = await stage.create(stage.shell(_fails_for(margin), init))
        ready = await stage.user.running(pod, stage.patience + 3 * margin)
        failed = stage.user.history(pod).first(lambda one: restarts(one, "init") >= 1)
        if failed is not None:
            break
    expect(failed is not None, "the init container runs again", "it has not failed")
    assert failed is not None
    expect(failed.status.phase == "Pending", "the pod is Pending", status_line(failed))
    expect(waiting_reason(failed) == "PodInitializing", "main waits: PodInitializing", status_line(failed))
    expect_terminated(ready, 0, "Completed", "init")


@promise("shell")
async def others_are_left_alone(stage: Stage) -> None:
    """A container that restarts leaves the pod's others as they are."""
    made = stage.runs().restarting("Always")
    pod = await stage.create(stage.exits(1, made.container("crashing"), seconds=2))
    before = await stage.user.saw(pod, lambda one: running_since(one), "main runs")
    after = await stage.user.saw(pod, lambda one: restarts(one, "crashing") >= 1, "the other one has restarted")
    expect(
        (restarts(after), running_since(after)) == (0, running_since(before)),
        "main runs as before",
        f"since {running_since(before)}, then {status_line(after)}",
    )


@promise("shell", api=(1, 29))
async def sidecar(stage: Stage) -> None:
    """A restartable init container starts before main, runs beside it, and is stopped when main has ended."""
    made = stage.exits(0, stage.pod(), seconds=4)
    pod = await stage.create(stage.runs(made.init_container("sidecar", restart_policy="Always")))
    both = await stage.user.saw(
        pod, lambda one: running_since(one, "sidecar") and running_since(one), "sidecar and main run together"
    )
    expect(
        moment(running_since(both, "sidecar")) <= moment(running_since(both)),
        "the sidecar starts first",
        status_line(both),
    )
    ended = await stage.user.ended(pod)
    expect(ended.status.phase == "Succeeded", "phase Succeeded", status_line(ended))
    final = await stage.user.until(pod, lambda one: terminated(one, "sidecar"), "the sidecar is terminated")
    expect_terminated(final, 0, "Completed")


@promise("shell", api=(1, 29))
async def sidecar_restarts(stage: Stage) -> None:
    """A restartable init container that ends runs again, whatever the pod's restartPolicy is."""
    made = stage.runs(stage.pod())
    pod = await stage.create(stage.exits(1, made.init_container("sidecar", restart_policy="Always"), seconds=2))
    again = await stage.user.saw(
        pod, lambda one: restarts(one, "sidecar") >= 1, "the sidecar has restarted", stage.patience + 10
    )
    expect(restarts(again) == 0, "main has not restarted", status_line(again))

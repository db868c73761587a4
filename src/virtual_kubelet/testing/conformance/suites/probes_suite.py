"""Probes and hooks: what makes a container ready, what makes it restart, what runs beside its start and before its end."""

from __future__ import annotations

import secrets
from typing import Any

from virtual_kubelet.objects.core_v1 import (
    ExecAction,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    Pod,
    PodReadinessGate,
    Probe,
    SleepAction,
    TCPSocketAction,
)
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
)
from virtual_kubelet.testing.pod_history import status_line


def _exec(stage: Stage, script: str, **settings: Any) -> Probe:
    """A probe that runs a script each second."""
    assert stage.declaration.shell is not None
    return Probe(
        exec=ExecAction(command=[*stage.declaration.shell, script]),
        **{"period_seconds": 1, "timeout_seconds": 10, **settings},
    )


def _file(stage: Stage) -> str:
    """A file that no other pod has, should pods share the machine's files."""
    return f"/tmp/{stage.node_name}-{stage.name()}"


def _leaving_nothing(file: str) -> str:
    """A script that runs until it is asked to end, and takes the file away."""
    return f"trap 'rm -f {file}; kill $! 2>/dev/null; exit 0' TERM; sleep 1000 & wait"


def _not_ready(pod: Pod) -> bool:
    return bool(running_since(pod)) and condition(pod, "Ready")[0] == "False"


def _ready(pod: Pod) -> bool:
    return condition(pod, "Ready")[0] == "True" and container(pod).ready


@promise("shell")
async def readiness(stage: Stage) -> None:
    """A container is ready when its readiness probe succeeds, and not before."""
    file = _file(stage)
    probe = _exec(stage, f"test -f {file}")
    pod = await stage.create(stage.shell(_leaving_nothing(file)).fields(readiness_probe=probe))
    waiting = await stage.user.saw(pod, _not_ready, "the container runs and is not ready")
    expect(waiting.status.phase == "Running", "the pod is Running", status_line(waiting))
    expect(condition(waiting, "Ready")[1] == "ContainersNotReady", "ContainersNotReady", status_line(waiting))
    event = await stage.told(pod, "Unhealthy")
    expect((event.message or "").startswith("Readiness probe failed: "), "'Readiness probe failed: …'", event.message)
    await stage.execute(pod, f"touch {file}")
    ready = await stage.user.until(pod, _ready, "the container is ready")
    expect(restarts(ready) == 0, "without a restart", restarts(ready))


@promise("shell")
async def readiness_lost(stage: Stage) -> None:
    """A container whose readiness probe fails again is not ready any more, and is not restarted."""
    file = _file(stage)
    script = f"touch {file}; {_leaving_nothing(file)}"
    probe = _exec(stage, f"test -f {file}", failure_threshold=2)
    pod = await stage.create(stage.shell(script).restarting("Always").fields(readiness_probe=probe))
    await stage.user.saw(pod, _ready, "the container is ready")
    await stage.execute(pod, f"rm {file}")
    lost = await stage.user.until(pod, _not_ready, "the container is not ready any more")
    expect(restarts(lost) == 0, "without a restart", restarts(lost))


@promise("shell")
async def liveness(stage: Stage) -> None:
    """A container whose liveness probe fails is ended and runs again, and an event says why."""
    probe = _exec(stage, "exit 1", failure_threshold=2)
    pod = await stage.create(stage.runs().restarting("Always").fields(liveness_probe=probe))
    again = await stage.user.saw(pod, lambda one: restarts(one) >= 1, "the container has restarted")
    expect(last_terminated(again) is not None, "its end is in lastState", status_line(again))
    event = await stage.told(pod, "Unhealthy")
    expect((event.message or "").startswith("Liveness probe failed: "), "'Liveness probe failed: …'", event.message)
    killing = await stage.told(pod, "Killing")
    wanted = "Container main failed liveness probe, will be restarted"
    expect(killing.message == wanted, wanted, killing.message)


@promise("shell")
async def liveness_holds(stage: Stage) -> None:
    """A container whose liveness probe succeeds is left alone."""
    pod = await stage.start(stage.runs().restarting("Always").fields(liveness_probe=_exec(stage, "exit 0")))
    history = stage.user.history(pod)
    await stage.seconds(5)
    after = await stage.user.get(pod)
    expect(not restarts(after) and _ready(after), "it runs, ready, without a restart", history.lines())


@promise("shell")
async def startup(stage: Stage) -> None:
    """Until the startup probe succeeds a container is neither started nor ready, and liveness does not count."""
    file = _file(stage)
    made = stage.shell(_leaving_nothing(file)).restarting("Always").fields(
        startup_probe=_exec(stage, f"test -f {file}", failure_threshold=1000),
        liveness_probe=_exec(stage, f"test -f {file}", failure_threshold=1),
    )  # fmt: skip
    pod = await stage.create(made)
    waiting = await stage.user.saw(pod, _not_ready, "the container runs and is not ready")
    expect(container(waiting).started is not True, "it is not started", status_line(waiting))
    await stage.execute(pod, f"touch {file}")
    ready = await stage.user.until(pod, _ready, "the container is started and ready")
    expect(container(ready).started, "it is started", status_line(ready))
    expect(restarts(ready) == 0, "without a restart", restarts(ready))


@promise("shell")
async def startup_fails(stage: Stage) -> None:
    """A container whose startup probe fails too often is ended and runs again."""
    probe = _exec(stage, "exit 1", failure_threshold=3)
    pod = await stage.create(stage.runs().restarting("Always").fields(startup_probe=probe))
    await stage.user.saw(pod, lambda one: restarts(one) >= 1, "the container has restarted")
    was_ready = stage.user.history(pod).first(_ready)
    expect(was_ready is None, "it never is ready", status_line(was_ready) if was_ready is not None else "")


@promise("shell")
async def hanging_probe(stage: Stage) -> None:
    """A probe that does not end in its timeoutSeconds has failed."""
    probe = _exec(stage, "sleep 1000", timeout_seconds=1, failure_threshold=1)
    pod = await stage.create(stage.runs().fields(readiness_probe=probe))
    event = await stage.told(pod, "Unhealthy")
    expect("Readiness probe" in (event.message or ""), "a message about the readiness probe", event.message)
    after = await stage.user.get(pod)
    expect(_not_ready(after), "the container runs and is not ready", status_line(after))


@promise("serves-http")
async def http(stage: Stage) -> None:
    """An httpGet probe asks the container itself: 200 makes it ready, 404 does not."""
    port = 10000 + secrets.randbelow(10000)  # with the other, below what machines give clients
    good = Probe(http_get=HTTPGetAction(path="/", port=port), period_seconds=1, timeout_seconds=10)
    bad = Probe(http_get=HTTPGetAction(path="/nothing/here", port=port), period_seconds=1, timeout_seconds=10)
    pod = await stage.create(stage.does("serves-http", stage.pod().fields(readiness_probe=good), port=port))
    await stage.user.until(pod, _ready, "the container is ready")
    port += 10000
    bad.http_get = HTTPGetAction(path="/nothing/here", port=port)
    other = await stage.create(stage.does("serves-http", stage.pod().fields(readiness_probe=bad), port=port))
    await stage.sees(
        lambda: stage.user.events(other),
        lambda events: any("HTTP probe failed with statuscode: 404" in (one.message or "") for one in events),
        "an event: HTTP probe failed with statuscode: 404",
    )
    expect(stage.user.history(other).first(_ready) is None, "it never is ready", "it was")


@promise("serves")
async def tcp(stage: Stage) -> None:
    """A tcpSocket probe connects to the container's port."""
    port = 20000 + secrets.randbelow(10000)
    good = Probe(tcp_socket=TCPSocketAction(port=port), period_seconds=1)
    pod = await stage.create(stage.does("serves", stage.pod().fields(readiness_probe=good), port=port))
    await stage.user.until(pod, _ready, "the container is ready")
    closed = Probe(tcp_socket=TCPSocketAction(port=4), period_seconds=1)
    other = await stage.create(stage.runs().fields(readiness_probe=closed))
    await stage.told(other, "Unhealthy")
    expect(stage.user.history(other).first(_ready) is None, "one with a closed port never is ready", "it was")


@promise("runs")
async def readiness_gate(stage: Stage) -> None:
    """A pod with a readiness gate is ready when somebody sets that condition, and its containers are."""
    gate = "example.com/conformance"
    pod = await stage.create(stage.runs().spec(readiness_gates=[PodReadinessGate(condition_type=gate)]))
    waiting = await stage.user.until(
        pod,
        lambda one: condition(one, "ContainersReady")[0] == "True" and condition(one, "Ready")[0] == "False",
        "ContainersReady is True, and Ready is False",
    )
    expect(condition(waiting, "Ready")[1] == "ReadinessGatesNotReady", "ReadinessGatesNotReady", status_line(waiting))
    change = {"status": {"conditions": [{"type": gate, "status": "True"}]}}
    await stage.user.patch(pod, change, subresource="status")
    await stage.user.until(pod, _ready, "the pod is Ready")


def _hook(stage: Stage, script: str) -> LifecycleHandler:
    assert stage.declaration.shell is not None
    return LifecycleHandler(exec=ExecAction(command=[*stage.declaration.shell, script]))


@promise("shell")
async def post_start(stage: Stage) -> None:
    """A postStart hook runs in the container when it has started."""
    file = _file(stage)
    script = f"trap 'rm -f {file}; exit 0' TERM; while :; do cat {file} 2>/dev/null; sleep 0.5; done"
    made = stage.shell(script).fields(lifecycle=Lifecycle(post_start=_hook(stage, f"echo hooked >{file}")))
    pod = await stage.start(made)
    await stage.sees(lambda: stage.user.logs(pod), lambda log: b"hooked" in log, "the container finds what it wrote")


@promise("shell")
async def post_start_fails(stage: Stage) -> None:
    """A postStart hook that fails has its container ended, with an event FailedPostStartHook; it runs again."""
    made = stage.runs().restarting("Always").fields(lifecycle=Lifecycle(post_start=_hook(stage, "exit 9")))
    pod = await stage.create(made)
    await stage.told(pod, "FailedPostStartHook")
    await stage.user.saw(pod, lambda one: restarts(one) >= 1, "the container has restarted")


@promise("shell")
async def pre_stop(stage: Stage) -> None:
    """A preStop hook runs to its end before SIGTERM is sent, within the grace period."""
    file = _file(stage)
    script = f"trap 'test -f {file} && rm {file} && exit 5; exit 6' TERM; while :; do sleep 0.2; done"
    hook = Lifecycle(pre_stop=_hook(stage, f"sleep 2; touch {file}"))
    pod = await stage.start(stage.shell(script).grace(60).fields(lifecycle=hook))
    await stage.user.delete(pod)
    await stage.user.gone(pod)
    last = stage.reported_end(pod)
    expect_terminated(last, 5, "Error")


@promise("shell")
async def pre_stop_within_grace(stage: Stage) -> None:
    """A preStop hook that outlasts the grace period does not keep the pod."""
    hook = Lifecycle(pre_stop=_hook(stage, "sleep 1000"))
    pod = await stage.start(stage.runs().grace(3).fields(lifecycle=hook))
    await stage.user.delete(pod)
    await stage.user.gone(pod)


@promise("runs", api=(1, 30))
async def pre_stop_sleep(stage: Stage) -> None:
    """A preStop hook that sleeps delays SIGTERM by so long."""
    hook = Lifecycle(pre_stop=LifecycleHandler(sleep=SleepAction(seconds=3)))
    pod = await stage.start(stage.runs().grace(60).fields(lifecycle=hook))
    await stage.user.delete(pod)
    deleting = await stage.user.saw(pod, lambda one: one.metadata.deletion_timestamp, "the pod is being deleted")
    await stage.user.gone(pod)
    last = stage.reported_end(pod)
    assert deleting.metadata.deletion_timestamp is not None
    ended = expect_terminated(last, 0, "Completed")
    # The deletion timestamp is when its grace period of 60 s will be over; times are whole seconds.
    lasted = 60 - (moment(deleting.metadata.deletion_timestamp) - moment(ended.finished_at)).total_seconds()
    expect(lasted >= 2, "it ends three seconds after its deletion", f"{lasted:g} s")

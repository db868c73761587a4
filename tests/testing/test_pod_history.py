"""What is told of a pod's history: states in lines that people can read."""

from __future__ import annotations

from virtual_kubelet.objects.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
)
from virtual_kubelet.testing.pod_history import PodHistory, status_line

WAITS = ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))
RUNS = ContainerState(running=ContainerStateRunning(started_at="2026-01-01T00:00:00Z"))
ENDED = ContainerState(terminated=ContainerStateTerminated(exit_code=3, reason="Error"))


def pod(phase: str, *states: ContainerState, ready: bool = False) -> Pod:
    statuses = [
        ContainerStatus(name=f"c{n}", image="i", image_id="", ready=ready, restart_count=0, state=state)
        for n, state in enumerate(states)
    ]
    condition = PodCondition(type="Ready", status=str(ready), reason=None if ready else "ContainersNotReady")
    return Pod(
        spec=PodSpec(containers=[]), status=PodStatus(phase=phase, container_statuses=statuses, conditions=[condition])
    )


def test_of_many_containers_only_what_changes_is_told_and_those_alike_together() -> None:
    history = PodHistory()
    history.add(pod("Pending", *[WAITS] * 50), 10.0)
    history.add(pod("Pending", RUNS, *[WAITS] * 49), 10.5)
    history.add(pod("Pending", RUNS, *[WAITS] * 49), 10.6)
    history.add(pod("Running", *[RUNS] * 50, ready=True), 11.0)
    history.add(pod("Running", RUNS, RUNS, ENDED, *[RUNS] * 47), 12.0)
    history.add(pod("Running"), 13.0, gone=True)
    assert history.lines() == [
        "    0.0 s  Pending; not Ready (ContainersNotReady); c0, c1, c2 and 47 more: waiting ContainerCreating",
        "    0.5 s  Pending; not Ready (ContainersNotReady); c0: running",
        "    1.0 s  Running; Ready; c1, c2, c3 and 46 more: running",
        "    2.0 s  Running; not Ready (ContainersNotReady); c2: terminated 3 Error",
        "    3.0 s  gone",
    ]
    assert history.lines(2) == ["… 3 more", *history.lines()[-2:]]


def test_one_state_alone_is_told_in_full() -> None:
    assert status_line(pod("Running", RUNS, ENDED, RUNS)) == (
        "Running; not Ready (ContainersNotReady); c0, c2: running; c1: terminated 3 Error"
    )

"""A pod's status, from its containers' runs: reasons, conditions and messages are the kubelet's. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from virtual_kubelet.contracts.runtime import ContainerExit
from virtual_kubelet.objects.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    HostIP,
    Pod,
    PodCondition,
    PodIP,
    PodStatus,
)
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.runtime.transitions import Run, phase_of

__all__ = ["ContainerView", "build_status"]


class ContainerView:
    """What the engine knows of one container beside its run."""

    __slots__ = ("container", "failure", "id", "last", "last_id", "last_started", "run")

    def __init__(self, container: Container) -> None:
        self.container = container
        self.run = Run(container.name)
        self.id = ""
        self.failure: tuple[str, str] | None = None  # reason and message of a start that failed
        self.last: ContainerExit | None = None
        self.last_id = ""
        self.last_started: datetime | None = None


def build_status(
    pod: Pod,
    init: Sequence[ContainerView],
    main: Sequence[ContainerView],
    *,
    start_time: datetime,
    now: datetime,
    host_ips: Sequence[str],
    pod_ips: Sequence[str],
    known: Mapping[str, PodCondition],
    deleting: bool,
) -> PodStatus:
    """The whole status. ``known``: conditions of the last one by type, whose times are kept while they hold."""
    policy = pod.spec.restart_policy or "Always"
    runs_init, runs_main = [v.run for v in init], [v.run for v in main]
    phase = _ending_phase(init, main, policy) if deleting else phase_of(runs_init, runs_main, policy)
    initialized = all(r.exit is not None and r.exit.exit_code == 0 for r in runs_init)
    ended = phase in ("Succeeded", "Failed")
    unready = [v.container.name for v in main if not v.run.running]
    incomplete = [v.container.name for v in init if v.run.exit is None or v.run.exit.exit_code != 0]

    # When it changed follows from the runs, so that an engine made anew says the same as the one before.
    initialized_at = max([start_time, *(r.exit.finished_at for r in runs_init if r.exit is not None)])
    last = max(
        [initialized_at, *(moment for r in runs_main for moment in (r.started_at, _ended_at(r)) if moment is not None)]
    )
    since = {
        "PodScheduled": start_time,
        "PodReadyToStartContainers": last if ended else start_time,
        "Initialized": initialized_at,
        "Ready": last,
        "ContainersReady": last,
    }

    def condition(kind: str, holds: bool, reason: str | None = None, message: str | None = None) -> PodCondition:
        old = known.get(kind)
        status = "True" if holds else "False"
        kept = old is not None and old.status == status
        moment = old.last_transition_time if old is not None and kept else format_time(since[kind])
        return PodCondition(type=kind, status=status, reason=reason, message=message, last_transition_time=moment)

    why: tuple[str | None, str | None] = (None, None)
    if phase == "Succeeded":
        why = ("PodCompleted", None)
    elif phase == "Failed":
        why = ("PodFailed", None)
    elif unready:
        why = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    not_initialized: tuple[str | None, str | None] = (None, None)
    if incomplete and not initialized:
        not_initialized = ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]")
    elif ended and phase == "Succeeded":
        not_initialized = ("PodCompleted", None)
    conditions = [
        condition("PodReadyToStartContainers", not ended),
        condition("Initialized", initialized, *not_initialized),
        condition("Ready", not unready and not ended and initialized, *why),
        condition("ContainersReady", not unready and not ended and initialized, *why),
        condition("PodScheduled", True),
    ]
    return PodStatus(
        phase=phase,
        conditions=conditions,
        host_ip=host_ips[0] if host_ips else None,
        host_ips=[HostIP(ip=ip) for ip in host_ips] or None,
        pod_ip=pod_ips[0] if pod_ips else None,
        pod_ips=[PodIP(ip=ip) for ip in pod_ips] or None,
        start_time=format_time(start_time),
        init_container_statuses=[_container(pod, v, policy, now, init=True, blocked=False, ended=ended) for v in init]
        or None,
        container_statuses=[
            _container(pod, v, policy, now, init=False, blocked=bool(init) and not initialized, ended=ended)
            for v in main
        ],
    )


def _ended_at(run: Run) -> datetime | None:
    return run.exit.finished_at if run.exit is not None else None


def _ending_phase(init: Sequence[ContainerView], main: Sequence[ContainerView], policy: str) -> str:
    """While a pod is being ended nothing starts again, so a container that has ended stays so."""
    phase = phase_of([v.run for v in init], [v.run for v in main], "Never")
    if phase in ("Succeeded", "Failed"):
        return phase
    running = any(v.run.running for v in (*init, *main))
    if running:
        return phase_of([v.run for v in init], [v.run for v in main], policy)
    # Nothing runs and nothing will: what never started has not succeeded.
    return "Failed"


def _container(
    pod: Pod, view: ContainerView, policy: str, now: datetime, *, init: bool, blocked: bool, ended: bool
) -> ContainerStatus:
    run = view.run
    state, last = ContainerState(), None
    if run.running and run.started_at is not None:
        state.running = ContainerStateRunning(started_at=format_time(run.started_at))
    elif view.failure is not None and not ended:
        state.waiting = ContainerStateWaiting(reason=view.failure[0], message=view.failure[1])
    elif run.exit is not None:
        will_run = not ended and (policy == "Always" or (policy == "OnFailure" and run.exit.exit_code != 0))
        if init:
            will_run = not ended and run.exit.exit_code != 0 and policy != "Never"
        terminated = _terminated(run.exit, run.started_at, view.id)
        if will_run and now < run.exit.finished_at + run.backoff:
            meta = pod.metadata
            seconds = int(run.backoff.total_seconds())
            shown = f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"
            state.waiting = ContainerStateWaiting(
                reason="CrashLoopBackOff",
                message=f"back-off {shown} restarting failed container={view.container.name} "
                f"pod={meta.name}_{meta.namespace}({meta.uid})",
            )
            last = ContainerState(terminated=terminated)
        else:
            state.terminated = terminated
    else:
        state.waiting = ContainerStateWaiting(reason="PodInitializing" if blocked or init else "ContainerCreating")
    if last is None and view.last is not None:
        last = ContainerState(terminated=_terminated(view.last, view.last_started, view.last_id))
    succeeded = init and run.exit is not None and run.exit.exit_code == 0
    return ContainerStatus(
        name=view.container.name,
        image=view.container.image or "",
        image_id=view.container.image or "",
        container_id=view.id or None,
        ready=run.running if not init else succeeded,
        restart_count=max(0, run.attempts - 1),
        started=run.running,
        state=state,
        last_state=last,
    )


def _terminated(ended: ContainerExit, started: datetime | None, container_id: str) -> ContainerStateTerminated:
    reason = ended.reason or ("Completed" if ended.exit_code == 0 else "Error")
    return ContainerStateTerminated(
        exit_code=ended.exit_code,
        signal=ended.signal,
        reason=reason,
        message=ended.message,
        started_at=format_time(started) if started is not None else None,
        finished_at=format_time(ended.finished_at),
        container_id=container_id or None,
    )

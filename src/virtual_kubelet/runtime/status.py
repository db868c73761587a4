"""A pod's status, from its containers' runs: reasons, conditions and messages are the kubelet's. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

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

__all__ = ["UNKNOWN", "ContainerView", "build_status"]

#: Reason and message of a container's end that nobody saw (pkg/kubelet/kubelet_pods.go).
UNKNOWN: Final = ("ContainerStatusUnknown", "The container could not be located when the pod was terminated")


class ContainerView:
    """What the engine knows of one container beside its run.

    Attributes:
        id: of the newest run; empty if it failed before the runtime had a container.
        failure: reason and message of a start that failed and is tried again.
        backing_off: it has ended and waits for its next run.
        image: of the newest run; the container's own may have changed since.
        last, last_id, last_started: of the run before.
    """

    __slots__ = ("backing_off", "container", "failure", "id", "image", "last", "last_id", "last_started", "run")

    def __init__(self, container: Container) -> None:
        self.container = container
        self.run = Run(container.name)
        self.id = self.image = ""
        self.failure: tuple[str, str] | None = None
        self.backing_off = False
        self.last: ContainerExit | None = None
        self.last_id = ""
        self.last_started: datetime | None = None

    def begin(self, started_at: datetime, container_id: str) -> None:
        """A new run; the one that was becomes the last one."""
        run = self.run
        if run.exit is not None:
            self.last, self.last_id, self.last_started = run.exit, self.id, run.started_at
        self.id, self.failure, self.backing_off = container_id, None, False
        self.image, run.replace = self.container.image or "", False
        run.attempts += 1
        run.started_at, run.exit, run.start_failures, run.due = started_at, None, 0, 0.0


def build_status(
    pod: Pod,
    init: Sequence[ContainerView],
    main: Sequence[ContainerView],
    *,
    start_time: datetime,
    host_ips: Sequence[str],
    pod_ips: Sequence[str],
    known: Mapping[str, PodCondition],
    ready_to_start: bool,
    ending: bool,
    failure: tuple[str, str] | None = None,
    runtime_name: str = "",
) -> PodStatus:
    """The whole status.

    Args:
        known: conditions of the last one by type, whose times are kept while they hold.
        ready_to_start: all is there that its containers need.
        ending: the pod is being deleted, or ended because of ``failure``: nothing starts any more.
        failure: reason and message, if the pod as a whole has failed.
        runtime_name: what container ids begin with, before ``://``.
    """
    policy = pod.spec.restart_policy or "Always"
    runs_init, runs_main = [v.run for v in init], [v.run for v in main]
    phase = _ending_phase(runs_init, runs_main, policy) if ending else phase_of(runs_init, runs_main, policy)
    failed = failure is not None or phase == "Failed"
    up = any(run.running for run in (*runs_init, *runs_main))
    if ending and not up and (failure is not None or phase != "Succeeded"):
        phase = "Failed"  # nothing runs and nothing will: what never started has not succeeded
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
    elif failed:
        why = ("PodFailed", None)
    elif unready:
        why = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    not_initialized: tuple[str | None, str | None] = (None, None)
    if incomplete and not initialized:
        not_initialized = ("ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]")
    elif ended and phase == "Succeeded":
        not_initialized = ("PodCompleted", None)
    ready = not unready and not ended and initialized and failure is None
    conditions = [
        condition("PodReadyToStartContainers", ready_to_start and not ended and (up or not ending)),
        condition("Initialized", initialized, *not_initialized),
        condition("Ready", ready, *why),
        condition("ContainersReady", ready, *why),
        condition("PodScheduled", True),
    ]

    def containers(views: Iterable[ContainerView], *, init: bool, blocked: bool = False) -> list[ContainerStatus]:
        return [
            _container(pod, v, init=init, blocked=blocked, ended=ended, ending=ending and not up, name=runtime_name)
            for v in views
        ]

    return PodStatus(
        phase=phase,
        conditions=conditions,
        host_ip=host_ips[0] if host_ips else None,
        host_ips=[HostIP(ip=ip) for ip in host_ips] or None,
        pod_ip=pod_ips[0] if pod_ips else None,
        pod_ips=[PodIP(ip=ip) for ip in pod_ips] or None,
        start_time=format_time(start_time),
        reason=failure[0] if failure is not None and ended else None,
        message=failure[1] if failure is not None and ended else None,
        init_container_statuses=containers(init, init=True) or None,
        # By name, as the kubelet's; init containers are in the order in which they run.
        container_statuses=containers(sorted(main, key=lambda v: v.container.name), init=False, blocked=bool(init)),
    )


def _ended_at(run: Run) -> datetime | None:
    return run.exit.finished_at if run.exit is not None else None


def _ending_phase(init: Sequence[Run], main: Sequence[Run], policy: str) -> str:
    """While a pod is being ended no main container starts again, so one that has ended stays so."""
    initialized = all(run.exit is not None and run.exit.exit_code == 0 for run in init)
    phase = phase_of(init, main, "Never" if initialized else policy)
    running = any(run.running for run in (*init, *main))
    return phase_of(init, main, policy) if running and phase not in ("Succeeded", "Failed") else phase


def _backoff_message(pod: Pod, view: ContainerView) -> str:
    meta, seconds = pod.metadata, int(view.run.backoff.total_seconds())
    shown = f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"
    container = f"{meta.name}_{meta.namespace}({meta.uid})"
    return f"back-off {shown} restarting failed container={view.container.name} pod={container}"


def _container(
    pod: Pod, view: ContainerView, *, init: bool, blocked: bool, ended: bool, ending: bool, name: str
) -> ContainerStatus:
    run = view.run
    state, last = ContainerState(), None
    if run.running and run.started_at is not None:
        state.running = ContainerStateRunning(started_at=format_time(run.started_at))
    elif view.failure is not None and not (ended or ending):
        state.waiting = ContainerStateWaiting(reason=view.failure[0], message=view.failure[1])
        if run.exit is not None:
            last = ContainerState(terminated=_terminated(run.exit, run.started_at, _id(name, view.id)))
    elif run.exit is not None:
        terminated = _terminated(run.exit, run.started_at, _id(name, view.id))
        if view.backing_off and not (ended or ending):
            state.waiting = ContainerStateWaiting(reason="CrashLoopBackOff", message=_backoff_message(pod, view))
            last = ContainerState(terminated=terminated)
        else:
            state.terminated = terminated
    elif ending and not (blocked or init):
        state.terminated = ContainerStateTerminated(
            exit_code=137,
            reason=UNKNOWN[0],
            message=UNKNOWN[1],
        )
    else:
        state.waiting = ContainerStateWaiting(reason="PodInitializing" if blocked or init else "ContainerCreating")
    if last is None and view.last is not None:
        last = ContainerState(terminated=_terminated(view.last, view.last_started, _id(name, view.last_id)))
    succeeded = init and run.exit is not None and run.exit.exit_code == 0
    return ContainerStatus(
        name=view.container.name,
        image=view.image or view.container.image or "",
        image_id=view.image or view.container.image or "",
        container_id=_id(name, view.id),
        ready=run.running if not init else succeeded,
        restart_count=max(0, run.attempts - 1),
        started=run.running,
        state=state,
        last_state=last,
    )


def _id(runtime_name: str, container_id: str) -> str | None:
    return (f"{runtime_name}://{container_id}" if runtime_name else container_id) if container_id else None


def _terminated(ended: ContainerExit, started: datetime | None, container_id: str | None) -> ContainerStateTerminated:
    reason = ended.reason or ("Completed" if ended.exit_code == 0 else "Error")
    return ContainerStateTerminated(
        exit_code=ended.exit_code,
        signal=ended.signal,
        reason=reason,
        message=ended.message,
        started_at=format_time(started) if started is not None else None,
        finished_at=format_time(ended.finished_at),
        container_id=container_id,
    )

"""The status of one container, from its record: states and reasons are the kubelet's. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from virtual_kubelet.contracts.runtime import ContainerKind
from virtual_kubelet.objects.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ResourceRequirements,
    VolumeMountStatus,
)
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.runtime.pod_resources import allocated_to, container_requests, resources_of
from virtual_kubelet.runtime.pod_state import ContainerPhase, ContainerRecord, PodStage, PodState, Run, StopReason
from virtual_kubelet.runtime.termination_message import cut, limit_of_each
from virtual_kubelet.runtime.transitions import UNKNOWN

__all__ = ["container_statuses"]

#: In statuses of containers that never began (Go's zero time of a protobuf timestamp, as a kubelet shows it).
_NEVER = "1970-01-01T00:00:00Z"
_TERMINAL = (PodStage.ENDED, PodStage.REMOVING, PodStage.GONE)


def container_statuses(state: PodState, records: Sequence[ContainerRecord], runtime_name: str) -> list[ContainerStatus]:
    """Of containers of one kind, in their order."""
    limit = limit_of_each(len(state.containers))
    return [_with_short_messages(_status(state, record, runtime_name), limit) for record in records]


def _with_short_messages(status: ContainerStatus, limit: int) -> ContainerStatus:
    for one in (status.state, status.last_state):
        if one is not None and one.terminated is not None and one.terminated.message:
            one.terminated.message = cut(one.terminated.message, limit)
    return status


def _status(state: PodState, record: ContainerRecord, runtime_name: str) -> ContainerStatus:
    container = state.spec_of(record)
    run = record.last if _is_hidden(record) else record.run
    shown, last = _states(state, record, runtime_name)
    running = shown.running is not None
    if record.is_init:
        ready, started = record.succeeded and shown.terminated is not None, running
    else:
        ready, started = running and record.ready, running and record.started
    ephemeral = record.kind is ContainerKind.EPHEMERAL
    named = run if run is not None else Run(0, "", None, 0.0)
    return ContainerStatus(
        name=record.name,
        image=named.image or container.image or "",
        image_id=named.image_id,
        container_id=_id(runtime_name, named.id),
        ready=ready and not ephemeral,
        restart_count=max(0, record.attempts - (2 if _is_hidden(record) else 1)),
        started=None if ephemeral else started,
        state=shown,
        last_state=last,
        volume_mounts=_mounts(container),
        allocated_resources=(container_requests(container, allocated_to(record, container)) or None)
        if run is not None
        else None,
        resources=_resources(record, container) if run is not None else None,
        user=named.user,
    )


def _is_hidden(record: ContainerRecord) -> bool:
    """Whether it runs its postStart hook, or ends for that: a part of its start; until it is over, all is as before."""
    if record.phase is ContainerPhase.POST_START:
        return True
    return record.phase is ContainerPhase.STOPPING and record.stop is not None and record.stop.reason is StopReason.HOOK


def _states(
    state: PodState, record: ContainerRecord, runtime_name: str
) -> tuple[ContainerState, ContainerState | None]:
    """What it is in, and what the run before ended with."""
    run = record.run
    if record.up and run is not None and not _is_hidden(record):
        started_at = format_time(run.started_at) if run.started_at is not None else None
        running = ContainerState(running=ContainerStateRunning(started_at=started_at))
        return running, _last(record.last, runtime_name)
    run, before = (record.last, None) if _is_hidden(record) else (run, record.last)
    ended = state.stage in _TERMINAL
    waiting = None if state.deleting else record.waiting
    if waiting is not None and not ended:
        shown = ContainerState(waiting=ContainerStateWaiting(reason=waiting[0], message=waiting[1] or None))
        return shown, _last(run, runtime_name)
    if waiting is not None or run is None or run.exit is None:
        # What waited when its pod ended, or never began: where it ought to have run, nobody knows what became of it.
        last = _last(run if waiting is not None else before, runtime_name)
        if ended and _ought_to_have_run(state, record):
            unknown = ContainerStateTerminated(exit_code=137, reason=UNKNOWN[0], message=UNKNOWN[1])
            return ContainerState(terminated=unknown), last
        blocked = record.kind is ContainerKind.INIT or (record.kind is ContainerKind.MAIN and bool(state.init))
        reason = "PodInitializing" if blocked else "ContainerCreating"
        return ContainerState(waiting=ContainerStateWaiting(reason=reason)), last
    return ContainerState(terminated=_terminated(run, runtime_name)), _last(before, runtime_name)


def _ought_to_have_run(state: PodState, record: ContainerRecord) -> bool:
    """As TerminatePod in the kubelet's status_manager.go: all that came to its turn, and the first in any case."""
    if record.kind is ContainerKind.EPHEMERAL:
        return False
    if record.kind is ContainerKind.MAIN:
        init = state.init
        if not init or state.has_run:
            return True
        final = init[-1]
        return final.attempts > 0 if final.sidecar else final.succeeded
    begun = [n for n, one in enumerate(state.init) if one.attempts]
    return state.init.index(record) <= (begun[-1] if begun else 0)


def _last(run: Run | None, runtime_name: str) -> ContainerState | None:
    if run is None or run.exit is None:
        return None
    return ContainerState(terminated=_terminated(run, runtime_name))


def _terminated(run: Run, runtime_name: str) -> ContainerStateTerminated:
    ended = run.exit
    assert ended is not None
    return ContainerStateTerminated(
        exit_code=ended.exit_code,
        signal=ended.signal,
        reason=ended.reason or ("Completed" if ended.exit_code == 0 else "Error"),
        message=ended.message,
        started_at=format_time(run.started_at) if run.started_at is not None else _NEVER,
        finished_at=format_time(ended.finished_at),
        container_id=_id(runtime_name, run.id),
    )


def _id(runtime_name: str, container_id: str) -> str | None:
    return (f"{runtime_name}://{container_id}" if runtime_name else container_id) if container_id else None


def _mounts(container: Container) -> list[VolumeMountStatus] | None:
    return [
        VolumeMountStatus(
            name=mount.name,
            mount_path=mount.mount_path,
            read_only=mount.read_only or None,
            recursive_read_only=mount.recursive_read_only or ("Disabled" if mount.read_only else None),
        )
        for mount in container.volume_mounts or ()
    ] or None


def _resources(record: ContainerRecord, container: Container) -> ResourceRequirements:
    has = resources_of(record, container)
    limits = has.limits if has is not None else None
    return ResourceRequirements(limits=limits or None, requests=container_requests(container, has) or None)

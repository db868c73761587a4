"""A pod's whole status, from its state: what a kubelet would write. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from virtual_kubelet.objects.core_v1 import HostIP, PodCondition, PodIP, PodStatus
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.runtime.conditions import RESTARTING, Facts, pod_conditions, pod_phase
from virtual_kubelet.runtime.container_status import container_statuses
from virtual_kubelet.runtime.pod_resources import pod_resources
from virtual_kubelet.runtime.pod_state import ContainerRecord, PodStage, PodState
from virtual_kubelet.runtime.resize import IN_PROGRESS, PENDING

__all__ = ["build_status"]


def build_status(
    state: PodState,
    *,
    host_ips: Sequence[str],
    pod_ips: Sequence[str],
    now: datetime,
    others: Iterable[PodCondition] = (),
    runtime_name: str = "",
) -> PodStatus:
    """The whole status.

    Args:
        now: when what probes and gates say is taken to have changed.
        others: the pod's conditions in the API, for readiness gates.
        runtime_name: what container ids begin with, before ``://``.
    """
    by_kind = {
        name: container_statuses(state, records, runtime_name)
        for name, records in (("init", state.init), ("main", state.main), ("ephemeral", state.ephemeral))
    }
    init = [Facts(*pair) for pair in zip(state.init, by_kind["init"], strict=True)]
    main = [Facts(*pair) for pair in zip(state.main, by_kind["main"], strict=True)]
    phase = pod_phase(state, init, main)
    conditions = pod_conditions(state, phase, init, main, others=others, times=_times(state, phase, now))
    ended = state.stage in (PodStage.ENDED, PodStage.REMOVING, PodStage.GONE)
    failure = state.ending.failure if state.ending is not None and ended else None
    resources, allocated = pod_resources(state)
    return PodStatus(
        observed_generation=state.pod.metadata.generation,
        phase=_shown(state, phase),
        reason=failure[0] if failure is not None else None,
        message=failure[1] if failure is not None else None,
        conditions=conditions,
        host_ip=host_ips[0] if host_ips else None,
        host_ips=[HostIP(ip=ip) for ip in host_ips] or None,
        pod_ip=pod_ips[0] if pod_ips else None,
        pod_ips=[PodIP(ip=ip) for ip in pod_ips] or None,
        start_time=format_time(state.start_time),
        resources=resources,
        allocated_resources=allocated,
        init_container_statuses=by_kind["init"] or None,
        # By name, as the kubelet's; init containers are in the order in which they run.
        container_statuses=sorted(by_kind["main"], key=lambda status: status.name),
        ephemeral_container_statuses=by_kind["ephemeral"] or None,
    )


def _shown(state: PodState, phase: str) -> str:
    """A terminal phase is for when nothing runs any more, and then there is no other; until then the pod is what it was."""
    terminal = phase in ("Succeeded", "Failed")
    if state.stage in (PodStage.ENDED, PodStage.REMOVING, PodStage.GONE):
        return phase if terminal else "Failed"
    if not terminal:
        return phase
    return "Running" if _has_begun(state) else "Pending"


def _has_begun(state: PodState) -> bool:
    return any(record.attempts for record in state.main)


def _times(state: PodState, phase: str, now: datetime) -> dict[str, str]:
    """When each condition changed, if it has. It follows from the runs, so that an engine made anew says the same as the one
    before; but readiness that is probed, or that others decide, changes when it is heard of."""

    def ends(records: Iterable[ContainerRecord]) -> list[datetime]:
        return [record.exit.finished_at for record in records if record.exit is not None]

    def starts(records: Iterable[ContainerRecord]) -> list[datetime]:
        return [r.run.started_at for r in records if r.run is not None and r.run.started_at is not None]

    initialized = max([state.start_time, *ends(r for r in state.init if r.is_init)])
    last = max([initialized, *starts(state.main), *ends(state.main), *starts(state.init), *ends(state.init)])
    spec = state.pod.spec
    probed = any(c.readiness_probe or c.startup_probe for c in (*(spec.init_containers or ()), *spec.containers))
    ready = now if (probed or spec.readiness_gates) and phase not in ("Succeeded", "Failed") else last
    moments = {
        "PodScheduled": state.start_time,
        "PodReadyToStartContainers": last if phase in ("Succeeded", "Failed") else state.start_time,
        "Initialized": initialized,
        "Ready": ready,
        "ContainersReady": ready,
        PENDING: now,
        IN_PROGRESS: now,
        RESTARTING: now if any(c.type == RESTARTING for c in state.conditions) else state.start_time,
    }
    return {kind: format_time(moment) for kind, moment in moments.items()}

"""A pod's phase and conditions, from the statuses of its containers. Pure.

Rules: pkg/kubelet/kubelet_pods.go (getPhase) and pkg/kubelet/status/generate.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from virtual_kubelet.objects.core_v1 import ContainerStatus, Pod, PodCondition
from virtual_kubelet.runtime.pod_state import ContainerRecord, PodStage, PodState
from virtual_kubelet.runtime.resize import IN_PROGRESS, INFEASIBLE, PENDING
from virtual_kubelet.runtime.restarts import may_restart_all, will_run_again

__all__ = ["RESTARTING", "Facts", "pod_conditions", "pod_phase"]

#: Type of a condition.
RESTARTING: Final = "AllContainersRestarting"

_ENDED: Final = (PodStage.ENDED, PodStage.REMOVING, PodStage.GONE)


class Facts(NamedTuple):
    """One container: what is known of it, and what is said of it."""

    record: ContainerRecord
    status: ContainerStatus


def pod_phase(state: PodState, init: Sequence[Facts], main: Sequence[Facts]) -> str:
    """The phase that follows from the containers. It may be terminal while something of the pod still runs, and not be
    where nothing runs and nothing will: what never started has neither succeeded nor failed by itself."""
    if state.ending is not None and state.ending.failure is not None:
        return "Failed"
    return _phase(state, init, main)


def _phase(state: PodState, init: Sequence[Facts], main: Sequence[Facts]) -> str:
    ended = state.stage in _ENDED
    pending = not state.has_run and any(not one.status.ready for one in init if one.record.is_init)
    pending |= not state.has_run and any(
        not (one.status.started or _terminated(one.status)) for one in init if one.record.sidecar
    )
    if any(_has_failed_for_good(state, one) for one in init) and not state.has_run:
        return "Failed"
    waiting = running = stopped = succeeded = 0
    for record, status in main:
        again = not ended and (record.stale or record.change or record.exit is None or will_run_again(state, record))
        if _running(status):
            running += 1
        elif (ended_with := _exit_code(record)) is not None:
            stopped += 1
            succeeded += ended_with == 0 and not again
            running += again  # it will be, which is what the phase says of it
        else:
            waiting += 1
    running += any(_running(one.status) for one in init if one.record.sidecar)
    if pending or waiting:
        return "Pending"
    if running:
        return "Running"
    return "Succeeded" if stopped == succeeded else "Failed"


def _has_failed_for_good(state: PodState, one: Facts) -> bool:
    record = one.record
    if not record.is_init or record.up or record.exit is None or record.exit.exit_code == 0 or record.stale:
        return False
    return not will_run_again(state, record)


def _running(status: ContainerStatus) -> bool:
    return status.state is not None and status.state.running is not None


def _terminated(status: ContainerStatus) -> bool:
    return status.state is not None and status.state.terminated is not None


def _exit_code(record: ContainerRecord) -> int | None:
    """Of its newest run that has ended."""
    for run in (record.run, record.last):
        if run is not None and run.exit is not None:
            return run.exit.exit_code
    return None


class _Verdict(NamedTuple):
    holds: bool
    reason: str | None = None
    message: str | None = None


def pod_conditions(
    state: PodState,
    phase: str,
    init: Sequence[Facts],
    main: Sequence[Facts],
    *,
    others: Iterable[PodCondition],
    times: dict[str, str],
) -> list[PodCondition]:
    """All five of a kubelet, those of a resize while there is one, and one of pods that may restart all their containers.

    Args:
        phase: that which follows from the containers, though it may not be shown yet.
        others: the conditions that others have written, for readiness gates.
        times: when each changed, if it has.
    """
    ready_to_start = state.prepared and not (
        state.stage in _ENDED or (state.stage is PodStage.ENDING and not any(one.record.up for one in (*init, *main)))
    )
    containers_ready = _containers_ready(phase, init, main)
    verdicts = {
        "PodReadyToStartContainers": _Verdict(ready_to_start),
        "Initialized": _initialized(state, phase, init),
        "Ready": _ready(state.pod, containers_ready, others),
        "ContainersReady": containers_ready,
        "PodScheduled": _Verdict(True),
        **_resizes(state),
        **_restart_of_all(state, phase),
    }
    known = {condition.type: condition for condition in state.conditions}
    generation = state.pod.metadata.generation
    conditions = []
    for kind, verdict in verdicts.items():
        old, status = known.get(kind), "True" if verdict.holds else "False"
        kept = old is not None and old.status == status
        conditions.append(
            PodCondition(
                type=kind,
                status=status,
                reason=verdict.reason,
                message=verdict.message,
                observed_generation=generation,
                last_transition_time=old.last_transition_time if old is not None and kept else times[kind],
            )
        )
    return conditions


def _resizes(state: PodState) -> dict[str, _Verdict]:
    """As status_manager.go since 1.33: what cannot be, and what is being done."""
    verdicts = {}
    resizes = [record.resize for record in state.resizing if record.resize is not None]
    if state.stage in _ENDED:
        return {}
    for refused in (resize.refused for resize in resizes if resize.refused):
        verdicts[PENDING] = _Verdict(True, INFEASIBLE, refused)
    under_way = [resize for resize in resizes if not resize.refused]
    if under_way:
        errors = [resize.error for resize in under_way if resize.error]
        verdicts[IN_PROGRESS] = _Verdict(True, "Error", "; ".join(errors)) if errors else _Verdict(True)
    return verdicts


def _restart_of_all(state: PodState, phase: str) -> dict[str, _Verdict]:
    """Of pods that may ask for it: status/generate.go, GenerateAllContainersRestartingCondition."""
    if not may_restart_all(state.pod):
        return {}
    reason = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
    if reason is None and state.restarting_all:
        return {RESTARTING: _Verdict(True, "RestartAllContainersStarted", "container exited with restart policy rule")}
    return {RESTARTING: _Verdict(False, reason)}


def _initialized(state: PodState, phase: str, init: Sequence[Facts]) -> _Verdict:
    if phase == "Succeeded":
        return _Verdict(True, "PodCompleted")
    if state.has_run:
        return _Verdict(True)
    incomplete = [
        one.record.name for one in init if not (one.status.started if one.record.sidecar else one.status.ready)
    ]
    if not incomplete:
        return _Verdict(True)
    return _Verdict(False, "ContainersNotInitialized", f"containers with incomplete status: [{' '.join(incomplete)}]")


def _containers_ready(phase: str, init: Sequence[Facts], main: Sequence[Facts]) -> _Verdict:
    if phase == "Succeeded":
        return _Verdict(False, "PodCompleted")
    if phase == "Failed":
        return _Verdict(False, "PodFailed")
    counted = [*(one for one in init if one.record.sidecar), *main]
    unready = [one.record.name for one in counted if not one.status.ready]
    if not unready:
        return _Verdict(True)
    return _Verdict(False, "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")


def _ready(pod: Pod, containers_ready: _Verdict, others: Iterable[PodCondition]) -> _Verdict:
    if not containers_ready.holds:
        return containers_ready
    found = {condition.type: condition.status for condition in others}
    unready = []
    for gate in pod.spec.readiness_gates or ():
        if gate.condition_type not in found:
            unready.append(f'corresponding condition of pod readiness gate "{gate.condition_type}" does not exist.')
        elif found[gate.condition_type] != "True":
            unready.append(
                f'the status of pod readiness gate "{gate.condition_type}" is not "True", but {found[gate.condition_type]}'
            )
    return _Verdict(False, "ReadinessGatesNotReady", ", ".join(unready)) if unready else _Verdict(True)

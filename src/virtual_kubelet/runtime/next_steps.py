"""What comes next with a pod without anything happening: whose turn it is, what is due, and when to look again. Pure.

Rules of the kubelet (pkg/kubelet/kuberuntime/kuberuntime_manager.go, computePodActions):

- init containers run one after another; the next begins when the one before has ended with 0;
- a restartable init container (sidecar) has its turn in the same order and lets the next begin once it is started, by its
  startup probe if it has one; it runs again whenever it ends, as long as the pod lives;
- main containers begin, in their order, after all init containers, and not again before the last one is done with; one
  start at a time, its postStart hook included;
- ephemeral containers begin at any time, and once;
- a container whose image changes is ended and runs again, whatever the policy;
- containers are resized one after another, those that get less memory first, then those that get less CPU;
- a pod whose main containers have ended and do not run again is done; its sidecars are ended then;
- where a container's rule wants all to run anew, the others are ended at once, without preStop hooks, and the pod begins
  with its init containers, in the sandbox and with the volumes that it has (KEP-5532).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from virtual_kubelet.contracts.runtime import ContainerKind
from virtual_kubelet.runtime import pod_actions as do
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime import termination
from virtual_kubelet.runtime.pod_actions import Action
from virtual_kubelet.runtime.pod_state import IDLE, ContainerPhase, ContainerRecord, Ending, Now, PodStage, PodState
from virtual_kubelet.runtime.pod_state import StopReason as Why
from virtual_kubelet.runtime.resize import growth, needs_restart
from virtual_kubelet.runtime.restarts import restarts_all, runs_again, will_run_again
from virtual_kubelet.runtime.transitions import TransitionOptions, apply

__all__ = ["NextSteps", "advance", "done", "is_over"]

#: As the kubelet's active_deadline.go says it.
DEADLINE_EXCEEDED: Final = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
_STARTS: Final = frozenset({ContainerPhase.STARTING, ContainerPhase.POST_START})
_BEFORE_THE_END: Final = frozenset({PodStage.PREPARING, PodStage.ACTIVE, PodStage.RESETTING})


class NextSteps(NamedTuple):
    """What to do now; ``at``: the monotonic time of the next look, None if only an event brings one."""

    actions: list[Action]
    at: float | None


def advance(state: PodState, options: TransitionOptions, now: Now) -> NextSteps:
    """Bring the pod as far as it comes at this moment."""
    actions: list[Action] = []
    times: list[float] = []

    def take(event: on.ContainerEvent | on.PodEvent) -> None:
        actions.extend(apply(state, event, options, now))

    if state.stage in _BEFORE_THE_END:
        ending = _end_of(state, now)
        if ending is not None:
            if ending.failure is not None:
                actions.append(do.Record("Normal", *ending.failure))
            take(on.End(ending))
        elif state.active_until is not None:
            times.append(state.active_until)
    if state.stage is PodStage.PREPARING:
        if state.due <= now.monotonic:
            actions.append(do.Prepare())
        else:
            times.append(state.due)
    if state.stage is PodStage.ACTIVE and _restarts_all(state, now):
        take(on.RestartAll())
    if state.stage is PodStage.ACTIVE:
        for record in state.containers:
            if _is_other_now(state, record):
                message = f"Container {record.name} definition changed, will be restarted"
                take(on.Stop(record.name, Why.CHANGED, now.monotonic + _grace(state), message))
            elif _is_resized_by_restart(state, record):
                message = f"Container {record.name} resize requires restart"
                take(on.Stop(record.name, Why.CHANGED, now.monotonic + _grace(state), message))
        _resize(state, now, actions, times)
        for event, at in _starts(state, now):
            if event is not None:
                take(event)
            if at is not None:
                times.append(at)
    if state.stage in (PodStage.RESETTING, PodStage.ENDING):
        reason, until = _way_out(state, now)
        leaving = [
            r for r in state.containers if r.kind is not ContainerKind.EPHEMERAL or reason is not Why.RESTART_ALL
        ]
        for record in leaving:
            if record.up and (record.stop is None or record.stop.reason is not reason):
                take(on.Stop(record.name, reason, until))
            elif record.phase is ContainerPhase.STARTING:
                actions.append(do.CutStart(record.name))
        if not any(record.up or record.phase is ContainerPhase.STARTING for record in leaving):
            take(on.Emptied())
            again = advance(state, options, now)
            return NextSteps([*actions, *again.actions], again.at)
    _stops(state, options, now, actions, times)
    if state.obsolete and state.stage not in (PodStage.REMOVING, PodStage.GONE):
        actions.append(do.Remove(tuple(state.obsolete)))
    later = min(times, default=math.inf)
    return NextSteps(actions, None if later == math.inf else later)


def _end_of(state: PodState, now: Now) -> Ending | None:
    """Why the pod is to end now, by itself."""
    if done(state):
        return Ending(now.monotonic + _grace(state))
    if state.active_until is not None and state.active_until <= now.monotonic:
        return Ending(now.monotonic + _grace(state), DEADLINE_EXCEEDED)
    return None


def _way_out(state: PodState, now: Now) -> tuple[Why, float]:
    """Why what runs is ended, and until when."""
    if state.ending is not None:
        return Why.POD, state.ending.until
    if state.restarting_all:
        return Why.RESTART_ALL, now.monotonic
    return Why.SANDBOX, now.monotonic + _grace(state)


def done(state: PodState) -> bool:
    """Whether no container that counts runs or will run again."""
    if not state.has_run and any(
        record.is_init
        and record.phase in IDLE
        and record.exit is not None
        and not (record.succeeded or record.stale or runs_again(state, record, record.exit))
        for record in state.init
    ):
        return True
    return all(record.phase is ContainerPhase.EXITED and not will_run_again(state, record) for record in state.main)


def is_over(state: PodState) -> bool:
    """Whether the next look finds that the pod has ended."""
    if any(record.up or record.phase is ContainerPhase.STARTING for record in state.containers):
        return False
    return state.stage is PodStage.ENDING or (state.stage in _BEFORE_THE_END and done(state))


def _grace(state: PodState) -> float:
    grace = state.pod.spec.termination_grace_period_seconds
    return termination.DEFAULT_GRACE if grace is None else grace


def _is_other_now(state: PodState, record: ContainerRecord) -> bool:
    if record.phase is not ContainerPhase.RUNNING or record.run is None:
        return False
    long_lived = record.kind is ContainerKind.MAIN or record.sidecar
    return long_lived and record.run.wanted_image != (state.spec_of(record).image or "")


def _is_resized_by_restart(state: PodState, record: ContainerRecord) -> bool:
    if record.phase is not ContainerPhase.RUNNING or record.resize is None:
        return False
    return needs_restart(state.spec_of(record), record.resize.had)


def _restarts_all(state: PodState, now: Now) -> bool:
    """Main containers that have their first turn get it before: a kubelet begins them in one go, whatever ends meanwhile."""
    if not any(restarts_all(state, record) for record in state.containers):
        return False
    beginning = (r for r in _turn(state) if r.kind is ContainerKind.MAIN and not r.attempts and r.phase in IDLE)
    return not any(r.phase in _STARTS for r in state.main) and all(r.due > now.monotonic for r in beginning)


def _resize(state: PodState, now: Now, actions: list[Action], times: list[float]) -> None:
    """One container after the other; one that fails holds up those after it, which may need what it is to give away."""
    waiting = [
        (growth(record.resize.had, state.spec_of(record).resources), record.resize, record)
        for record in state.containers
        if record.resize is not None and not record.resize.refused and record.phase is ContainerPhase.RUNNING
    ]
    if not waiting:
        return
    _, resize, record = min(waiting, key=lambda one: one[0])
    assert record.run is not None
    if resize.due <= now.monotonic:
        actions.append(do.Resize(record.name, record.run.id, state.spec_of(record).resources))
    else:
        times.append(resize.due)


def _starts(state: PodState, now: Now) -> Iterator[tuple[on.Begin | on.BackOff | None, float | None]]:
    """The container that begins now, if any does; and those that wait, with their times."""
    free = not any(record.phase in _STARTS for record in state.containers)
    for record in [*(r for r in state.ephemeral if not r.attempts), *_turn(state)]:
        if record.phase not in IDLE or restarts_all(state, record):
            continue
        if record.due > now.monotonic:
            held = record.phase is ContainerPhase.EXITED or (
                record.phase is ContainerPhase.FAILED and not record.failures
            )
            yield (on.BackOff(record.name) if held else None), record.due
        elif free:
            free = False
            yield on.Begin(record.name), None


def _turn(state: PodState) -> Iterator[ContainerRecord]:
    """Those that may run now and do not."""
    past = state.has_run
    for record in state.init:
        if record.sidecar:
            if not record.up:
                yield record
            if not past and not (record.up and record.started):
                return
        elif past or record.succeeded:
            continue
        else:
            if not record.up and will_run_again(state, record):
                yield record
            return
    for record in state.main:
        if not record.up and will_run_again(state, record):
            yield record


def _stops(state: PodState, options: TransitionOptions, now: Now, actions: list[Action], times: list[float]) -> None:
    for record in state.containers:
        if record.stop is None or record.run is None or record.phase is not ContainerPhase.STOPPING:
            continue
        step = termination.stop_step(state, record, record.stop, options.termination, now.monotonic)
        if isinstance(step, float):
            times.append(step)
        elif isinstance(step, termination.RunHook):
            lifecycle = state.spec_of(record).lifecycle
            assert lifecycle is not None
            assert lifecycle.pre_stop is not None
            record.stop.hook = False
            actions.append(do.RunPreStop(record.name, record.run.id, lifecycle.pre_stop, step.seconds))
            times.append(record.stop.until)
        elif isinstance(step, termination.CutHook):
            actions.append(do.CutHook(record.name))
        elif isinstance(step, termination.SendSignal):
            kill = record.stop.terminated is not None
            actions.append(do.Send(record.name, record.run.id, step.number, kill))
            # The next look is when it is sent: Signalled or SignalFailed says so.

"""What becomes of one container when something happens to it: a table of state × event → state + actions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from virtual_kubelet.contracts.runtime import ContainerExit, ContainerKind
from virtual_kubelet.runtime import pod_actions as do
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.hooks import POST_START_KILLING
from virtual_kubelet.runtime.pod_actions import Action
from virtual_kubelet.runtime.pod_state import (
    IDLE,
    ContainerPhase,
    ContainerRecord,
    Now,
    PendingResize,
    PodStage,
    PodState,
    Run,
    Stop,
)
from virtual_kubelet.runtime.pod_state import StopReason as Why
from virtual_kubelet.runtime.resize import INFEASIBLE, resize_message, same_resources
from virtual_kubelet.runtime.restarts import plan_restart, retry_delay, runs_again, will_run_again
from virtual_kubelet.runtime.termination import DEFAULT_GRACE
from virtual_kubelet.runtime.transition_options import TransitionOptions

__all__ = ["CONTAINER_TABLE", "UNKNOWN", "ContainerEntry"]

#: Reason and message of a container's end that nobody saw (pkg/kubelet/kubelet_pods.go).
UNKNOWN: Final = ("ContainerStatusUnknown", "The container could not be located when the pod was terminated")

Phase = ContainerPhase
Stage = PodStage

ContainerRule: TypeAlias = Callable[[PodState, ContainerRecord, Any, TransitionOptions, Now], list[Action]]


class ContainerEntry(NamedTuple):
    """A line of the table: what to do, and the phases that may come of it."""

    rule: ContainerRule
    to: frozenset[ContainerPhase]


def _begin(state: PodState, record: ContainerRecord, event: on.Begin, _: TransitionOptions, now: Now) -> list[Action]:
    record.phase = Phase.STARTING
    if record.resize is not None:
        record.resize.anew = True
    return [do.Start(record.name)]


def _back_off(
    state: PodState, record: ContainerRecord, event: on.BackOff, _: TransitionOptions, now: Now
) -> list[Action]:
    meta, seconds = state.pod.metadata, int(record.backoff)
    pod = f"{meta.name}_{meta.namespace}({meta.uid})"
    shown = f"{seconds // 60}m{seconds % 60}s" if seconds >= 60 else f"{seconds}s"
    record.phase = Phase.BACKING_OFF
    record.waiting = ("CrashLoopBackOff", f"back-off {shown} restarting failed container={record.name} pod={pod}")
    message = f"Back-off restarting failed container {record.name} in pod {pod}"
    return [do.Record("Warning", "BackOff", message, record.name)]


def _new_run(record: ContainerRecord, run: Run, state: PodState) -> None:
    """The newest run and the one before are kept, for ``kubectl logs --previous``."""
    if record.run is not None:
        if record.last is not None and record.last.id:
            state.obsolete.append(record.last.id)
        record.last = record.run
    record.run, record.attempts = run, record.attempts + 1
    record.backoff, record.failures = record.next_backoff, 0
    record.change = record.stale = False
    record.stop = record.hook_error = None


def _started(
    state: PodState, record: ContainerRecord, event: on.Started, _: TransitionOptions, now: Now
) -> list[Action]:
    instance, image = event.instance, event.image
    _new_run(
        record,
        Run(
            record.attempts,
            instance.id,
            instance.started_at,
            now.monotonic,
            event.wanted_image,
            (image.name if image is not None else "") or event.wanted_image,
            image.id if image is not None else "",
            instance.user,
            instance.stop_signal,
            env=[*event.env] or None,
        ),
        state,
    )
    actions: list[Action] = [
        do.Record("Normal", "Created", "Container created", record.name),
        do.Record("Normal", "Started", "Container started", record.name),
    ]
    if record.resize is not None and record.resize.anew:
        record.resize = None
        if not state.resizing:
            actions.append(do.Record("Normal", "ResizeCompleted", resize_message("completed", state.pod)))
    lifecycle = state.spec_of(record).lifecycle
    if lifecycle is not None and lifecycle.post_start is not None:
        record.phase, record.started, record.ready = Phase.POST_START, False, False
        return [*actions, do.RunPostStart(record.name, instance.id, lifecycle.post_start)]
    return [*actions, *_runs(state, record)]


def _runs(state: PodState, record: ContainerRecord) -> list[Action]:
    record.phase, record.waiting = Phase.RUNNING, None
    container = state.spec_of(record)
    probed = record.kind is ContainerKind.MAIN or record.sidecar
    record.started = not (probed and container.startup_probe is not None)
    record.ready = record.started and not (probed and container.readiness_probe is not None)
    probes = [do.StartProbes(record.name, record.run.id)] if probed and record.run is not None else []
    # Main containers that start one after another are told of together, as by a kubelet.
    return [*probes, *([] if record.kind is ContainerKind.MAIN else [do.Report()])]


def _start_failed(
    state: PodState, record: ContainerRecord, event: on.StartFailed, options: TransitionOptions, now: Now
) -> list[Action]:
    state.unsure |= event.unsure
    actions: list[Action] = []
    if event.exit_code is not None:
        actions.append(do.Record("Normal", "Created", "Container created", record.name))
    if event.message and not event.recorded:
        actions.append(do.Record("Warning", "Failed", f"Error: {event.message}", record.name))
    if event.exit_code is None:
        record.phase, record.waiting = Phase.FAILED, (event.reason, event.message)
        record.failures += 1
        wait = retry_delay(record.failures, options.backoff) if event.wait is None else event.wait
        record.due = now.monotonic + wait
        return actions
    # It counts as a run: as the kubelet shows it, one that began never.
    ended = ContainerExit(event.exit_code, now.wall, reason=event.reason, message=event.message)
    image = event.image
    _new_run(
        record,
        Run(
            record.attempts,
            "",
            None,
            now.monotonic,
            event.wanted_image,
            (image.name if image is not None else "") or event.wanted_image,
            image.id if image is not None else "",
            exit=ended,
            ended=now.monotonic,
        ),
        state,
    )
    record.phase, record.waiting = Phase.EXITED, None
    plan_restart(record, options.backoff, ended_by_us=False, now=now.monotonic)
    return [*actions, do.Report()]


def _not_started(
    state: PodState, record: ContainerRecord, event: on.NotStarted, _: TransitionOptions, now: Now
) -> list[Action]:
    record.phase = Phase.WAITING if record.run is None else Phase.EXITED
    return []


def _hook_done(
    state: PodState, record: ContainerRecord, event: on.HookDone, _: TransitionOptions, now: Now
) -> list[Action]:
    if not event.post_start:
        return []
    if event.error is None:
        return _runs(state, record)
    grace = state.pod.spec.termination_grace_period_seconds
    record.phase, record.hook_error = Phase.STOPPING, event.error
    record.stop = Stop(Why.HOOK, now.monotonic + (DEFAULT_GRACE if grace is None else grace))
    return [do.Record("Normal", "Killing", POST_START_KILLING, record.name)]


def _pre_stop_done(
    state: PodState, record: ContainerRecord, event: on.HookDone, _: TransitionOptions, now: Now
) -> list[Action]:
    if event.post_start or record.stop is None:
        return []
    record.stop.hook = True
    if event.error is None:
        return []
    return [do.Record("Warning", "FailedPreStopHook", "PreStopHook failed", record.name)]


def _probed(state: PodState, record: ContainerRecord, event: on.Probed, _: TransitionOptions, now: Now) -> list[Action]:
    changed = (record.started, record.ready) != (event.started, event.ready)
    record.started, record.ready = event.started, event.ready
    return [do.Report()] if changed else []


def _probe_failed(
    state: PodState, record: ContainerRecord, event: on.ProbeFailed, options: TransitionOptions, now: Now
) -> list[Action]:
    message = f"Container {record.name} failed {event.kind.lower()} probe"
    if runs_again(state, record, ContainerExit(137, now.wall)):
        message += ", will be restarted"
    return _stop(state, record, on.Stop(record.name, Why.PROBE, now.monotonic + event.grace, message), options, now)


def _stop(state: PodState, record: ContainerRecord, event: on.Stop, _: TransitionOptions, now: Now) -> list[Action]:
    hook_runs = record.phase is Phase.POST_START
    record.phase, record.stop = Phase.STOPPING, Stop(event.reason, event.until)
    record.change |= event.reason is Why.CHANGED
    return [
        do.Record("Normal", "Killing", event.message or f"Stopping container {record.name}", record.name),
        *([do.CutHook(record.name)] if hook_runs else []),
        do.StopProbes(record.name, terminating=event.reason is Why.POD),
    ]


def _stop_for_more(
    state: PodState, record: ContainerRecord, event: on.Stop, _: TransitionOptions, now: Now
) -> list[Action]:
    """It is being ended already: the shorter grace period counts, and whether it comes back is for the pod to say."""
    assert record.stop is not None
    record.stop.until = min(record.stop.until, event.until)
    if event.reason in (Why.POD, Why.SANDBOX, Why.RESTART_ALL):
        record.stop.reason = event.reason
    return []


def _signalled(
    state: PodState, record: ContainerRecord, event: on.Signalled, _: TransitionOptions, now: Now
) -> list[Action]:
    assert record.stop is not None
    if event.kill:
        record.stop.killed = now.monotonic
    else:
        record.stop.terminated = now.monotonic
    return []


def _signal_failed(
    state: PodState, record: ContainerRecord, event: on.SignalFailed, options: TransitionOptions, now: Now
) -> list[Action]:
    assert record.stop is not None
    record.stop.retry = now.monotonic + options.backoff.start
    return []


def _exited(
    state: PodState, record: ContainerRecord, event: on.Exited, options: TransitionOptions, now: Now
) -> list[Action]:
    run, stop = record.run, record.stop
    if run is None or run.id != event.container_id:
        return []  # of a run before
    hook_runs = record.phase is Phase.POST_START or (stop is not None and stop.hook is False)
    # Of a back-off that began before this process, a part is over.
    passed = max(0.0, (now.wall - event.exit.finished_at).total_seconds())
    run.exit, run.ended = event.exit, now.monotonic - passed
    record.phase, record.stop, record.started, record.ready = Phase.EXITED, None, False, False
    actions: list[Action] = [do.StopProbes(record.name)]
    if hook_runs:
        actions.append(do.CutHook(record.name))
    again = state.stage in (Stage.ACTIVE, Stage.RESETTING) and will_run_again(state, record)
    by_us = stop is not None and stop.reason.restarts
    if again:
        plan_restart(record, options.backoff, ended_by_us=by_us, now=now.monotonic)
    record.waiting = None
    if again and record.hook_error is not None:  # that says more than how it ended
        record.phase, record.waiting = Phase.FAILED, ("PostStartHookError", record.hook_error)
    return actions if again and by_us else [*actions, do.Report()]


def _lost(
    state: PodState, record: ContainerRecord, event: on.Lost, options: TransitionOptions, now: Now
) -> list[Action]:
    if record.run is None or record.run.id != event.container_id:
        return []
    ended = ContainerExit(137, now.wall, reason=UNKNOWN[0], message=UNKNOWN[1])
    message = f"Container {record.name} is not known to the runtime any more"
    return [
        do.Record("Warning", "ContainerLost", message, record.name),
        *_exited(state, record, on.Exited(record.name, event.container_id, ended), options, now),
    ]


def _resized(
    state: PodState, record: ContainerRecord, event: on.Resized, _: TransitionOptions, now: Now
) -> list[Action]:
    if record.run is None or record.run.id != event.container_id or record.resize is None:
        return []
    done = same_resources(event.resources, state.spec_of(record).resources)
    record.resize = None if done else PendingResize(event.resources)  # else it has been changed meanwhile
    if state.resizing:
        return [do.Report()]
    return [do.Record("Normal", "ResizeCompleted", resize_message("completed", state.pod)), do.Report()]


def _resize_failed(
    state: PodState, record: ContainerRecord, event: on.ResizeFailed, options: TransitionOptions, now: Now
) -> list[Action]:
    resize = record.resize
    if record.run is None or record.run.id != event.container_id or resize is None:
        return []
    if event.refused:
        resize.refused, resize.error = event.message, None
        message = resize_message(INFEASIBLE, state.pod, event.message)
        return [do.Record("Warning", "ResizeInfeasible", message), do.Report()]
    resize.error, resize.failures = event.message, resize.failures + 1
    resize.due = now.monotonic + retry_delay(resize.failures, options.backoff)
    return [do.Record("Warning", "ResizeError", resize_message("error", state.pod, event.message)), do.Report()]


def _to(rule: ContainerRule, *phases: Phase) -> ContainerEntry:
    return ContainerEntry(rule, frozenset(phases))


_ENDS: Final = (Phase.EXITED, Phase.FAILED)

CONTAINER_TABLE: Final[Mapping[tuple[Phase, type[Any]], ContainerEntry]] = {
    **{(phase, on.Begin): _to(_begin, Phase.STARTING) for phase in IDLE},
    (Phase.EXITED, on.BackOff): _to(_back_off, Phase.BACKING_OFF),
    (Phase.FAILED, on.BackOff): _to(_back_off, Phase.BACKING_OFF),
    (Phase.STARTING, on.Started): _to(_started, Phase.RUNNING, Phase.POST_START),
    (Phase.STARTING, on.StartFailed): _to(_start_failed, Phase.FAILED, Phase.EXITED),
    (Phase.STARTING, on.NotStarted): _to(_not_started, Phase.WAITING, Phase.EXITED),
    (Phase.POST_START, on.HookDone): _to(_hook_done, Phase.RUNNING, Phase.STOPPING),
    (Phase.POST_START, on.Stop): _to(_stop, Phase.STOPPING),
    (Phase.POST_START, on.Exited): _to(_exited, *_ENDS),
    (Phase.POST_START, on.Lost): _to(_lost, *_ENDS),
    (Phase.RUNNING, on.Probed): _to(_probed, Phase.RUNNING),
    (Phase.RUNNING, on.ProbeFailed): _to(_probe_failed, Phase.STOPPING),
    (Phase.RUNNING, on.Resized): _to(_resized, Phase.RUNNING),
    (Phase.RUNNING, on.ResizeFailed): _to(_resize_failed, Phase.RUNNING),
    (Phase.RUNNING, on.Stop): _to(_stop, Phase.STOPPING),
    (Phase.RUNNING, on.Exited): _to(_exited, *_ENDS),
    (Phase.RUNNING, on.Lost): _to(_lost, *_ENDS),
    (Phase.STOPPING, on.Probed): _to(_probed, Phase.STOPPING),
    (Phase.STOPPING, on.HookDone): _to(_pre_stop_done, Phase.STOPPING),
    (Phase.STOPPING, on.Stop): _to(_stop_for_more, Phase.STOPPING),
    (Phase.STOPPING, on.Signalled): _to(_signalled, Phase.STOPPING),
    (Phase.STOPPING, on.SignalFailed): _to(_signal_failed, Phase.STOPPING),
    (Phase.STOPPING, on.Exited): _to(_exited, *_ENDS),
    (Phase.STOPPING, on.Lost): _to(_lost, *_ENDS),
}

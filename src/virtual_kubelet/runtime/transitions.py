"""What becomes of a pod when something happens to it or to one of its containers. Pure: state × event → state + actions.

``CONTAINER_TABLE`` is for one container, ``POD_TABLE`` for the pod; what is not in them changes nothing, so a runtime that
tells an end twice, or the end of a container of long ago, does no harm. What comes next without anything happening (a
back-off is over, a container has its turn) is in ``next_steps``. ``docs/pod-semantics.md`` has both tables as pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from virtual_kubelet.contracts.runtime import ContainerExit, ContainerKind
from virtual_kubelet.objects.core_v1 import ResourceRequirements
from virtual_kubelet.runtime import pod_actions as do
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.container_transitions import CONTAINER_TABLE, UNKNOWN
from virtual_kubelet.runtime.pod_actions import Action
from virtual_kubelet.runtime.pod_events import ContainerEvent, PodEvent
from virtual_kubelet.runtime.pod_state import ContainerPhase, Ending, Now, PendingResize, PodStage, PodState
from virtual_kubelet.runtime.resize import INFEASIBLE, UNSUPPORTED, needs_restart, resize_message, same_resources
from virtual_kubelet.runtime.restarts import restarts_all, retry_delay, runs_again, will_run_again
from virtual_kubelet.runtime.transition_options import TransitionOptions

__all__ = ["CONTAINER_TABLE", "POD_TABLE", "UNKNOWN", "PodEntry", "TransitionOptions", "apply"]

Stage = PodStage

#: Seconds.
_EVICTION_GRACE: Final = 1.0
#: Reasons that another object may cure.
_CURABLE: Final = frozenset({"CreateContainerConfigError"})

PodRule: TypeAlias = Callable[[PodState, Any, TransitionOptions, Now], list[Action]]


class PodEntry(NamedTuple):
    """A line of the table: what to do, and the stages that may come of it."""

    rule: PodRule
    to: frozenset[PodStage]


def apply(state: PodState, event: ContainerEvent | PodEvent, options: TransitionOptions, now: Now) -> list[Action]:
    """Change ``state`` as the tables say; gives what is to be done, in order."""
    name = getattr(event, "name", None)
    if name is None:
        entry = POD_TABLE.get((state.stage, type(event)))
        return [] if entry is None else entry.rule(state, event, options, now)
    record = state.find(name)
    line = None if record is None else CONTAINER_TABLE.get((record.phase, type(event)))
    return [] if record is None or line is None else line.rule(state, record, event, options, now)


def _prepared(state: PodState, event: on.Prepared, _: TransitionOptions, now: Now) -> list[Action]:
    state.stage, state.sandbox, state.prepared, state.failures = Stage.ACTIVE, event.sandbox, True, 0
    return [do.Report()]


def _preparation_failed(
    state: PodState, event: on.PreparationFailed, options: TransitionOptions, now: Now
) -> list[Action]:
    state.failures += 1
    wait = retry_delay(state.failures, options.backoff) if event.wait is None else event.wait
    state.due = now.monotonic + wait
    return [do.Record("Warning", event.reason, event.message)] if event.message else []


def _prepared_too_late(state: PodState, event: on.Prepared, _: TransitionOptions, now: Now) -> list[Action]:
    state.sandbox = event.sandbox  # to be removed with the pod
    return []


def _sandbox_lost(state: PodState, event: on.SandboxLost, _: TransitionOptions, now: Now) -> list[Action]:
    if state.sandbox is None or state.sandbox.id != event.sandbox_id:
        return []
    state.stage, state.sandbox, state.prepared = Stage.RESETTING, None, False
    if any(will_run_again(state, record) or record.up for record in state.main):
        for record in state.init:
            record.stale = record.attempts > 0
            if record.phase is ContainerPhase.EXITED and not record.sidecar:
                record.due = now.monotonic
        killed = ContainerExit(137, now.wall)
        for record in state.main:
            ended = killed if record.up else record.exit
            record.stale = ended is not None and (record.change or runs_again(state, record, ended))
    message = "Pod sandbox changed, it will be killed and re-created."
    return [do.Record("Normal", "SandboxChanged", message), do.Report()]


def _sandbox_lost_meanwhile(state: PodState, event: on.SandboxLost, _: TransitionOptions, now: Now) -> list[Action]:
    """All is to run anew already, and now in another sandbox."""
    if state.sandbox is not None and state.sandbox.id == event.sandbox_id:
        state.sandbox, state.prepared = None, False
    return []


def _restart_all(state: PodState, event: on.RestartAll, _: TransitionOptions, now: Now) -> list[Action]:
    """As after the loss of a sandbox, but that stays, and what has ended for good runs again too. Only those whose end it
    was wait for their back-off."""
    state.stage = Stage.RESETTING
    for record in state.containers:
        if record.kind is ContainerKind.EPHEMERAL or not record.attempts:
            continue
        if not record.up and not restarts_all(state, record):
            record.due, record.waiting = now.monotonic, None
        record.stale = True
    return [do.Report()]


def _sandbox_lost_at_the_end(state: PodState, event: on.SandboxLost, _: TransitionOptions, now: Now) -> list[Action]:
    if state.sandbox is not None and state.sandbox.id == event.sandbox_id:
        state.sandbox, state.prepared = None, False
    return []


def _sources_changed(state: PodState, event: on.SourcesChanged, _: TransitionOptions, now: Now) -> list[Action]:
    """What failed may succeed now; what has only an image to wait for goes on waiting."""
    state.due = min(state.due, now.monotonic)
    for record in state.containers:
        if record.phase is ContainerPhase.FAILED and record.waiting and record.waiting[0] in _CURABLE:
            record.due, record.failures = min(record.due, now.monotonic), 0
    return []


def _updated(state: PodState, event: on.Updated, options: TransitionOptions, now: Now) -> list[Action]:
    images = {record.name: state.spec_of(record).image for record in state.containers}
    resources = {record.name: state.spec_of(record).resources for record in state.containers}
    state.pod = event.pod
    state.take_containers()
    state.set_deadline(now)
    for record in state.containers:
        changed = record.name in images and state.spec_of(record).image != images[record.name]
        if changed and record.phase is ContainerPhase.FAILED and record.failures:
            record.due, record.failures = now.monotonic, 0
    return [*_resize(state, resources, options), do.Report(), do.Refresh()]


def _resize(
    state: PodState, before: Mapping[str, ResourceRequirements | None], options: TransitionOptions
) -> list[Action]:
    """What runs, or is about to, was given other resources than the spec says now: it is to have these."""
    had = len(state.resizing)
    new = []
    for record in state.containers:
        container = state.spec_of(record)
        changed = record.name in before and not same_resources(before[record.name], container.resources)
        if not changed or not (record.up or record.phase is ContainerPhase.STARTING):
            continue
        has = record.resize.had if record.resize is not None and not record.resize.anew else before[record.name]
        record.resize = None if same_resources(has, container.resources) else PendingResize(has)
        if record.resize is not None:
            new.append(record)
            if not options.in_place_resize and not needs_restart(container, has):
                record.resize.refused = UNSUPPORTED
    if not new:
        done = had and not state.resizing  # it has again what it had
        return [do.Record("Normal", "ResizeCompleted", resize_message("completed", state.pod))] if done else []
    if all(record.resize is not None and record.resize.refused for record in new):
        return [do.Record("Warning", "ResizeInfeasible", resize_message(INFEASIBLE, state.pod, UNSUPPORTED))]
    return [do.Record("Normal", "ResizeStarted", resize_message("started", state.pod))]


def _updated_at_the_end(state: PodState, event: on.Updated, _: TransitionOptions, now: Now) -> list[Action]:
    known = {record.name for record in state.containers}
    added = [c.name for c in event.pod.spec.ephemeral_containers or () if c.name not in known]
    state.pod = event.pod
    # A container that came too late is none: it never runs.
    if added:
        state.pod.spec.ephemeral_containers = [
            c for c in event.pod.spec.ephemeral_containers or () if c.name in known
        ] or None
    return [do.Report(), do.Refresh()]


def _deleted(state: PodState, event: on.Deleted, _: TransitionOptions, now: Now) -> list[Action]:
    state.deleting = True
    metadata = event.pod.metadata
    state.pod.metadata.generation = metadata.generation
    state.pod.metadata.deletion_timestamp = metadata.deletion_timestamp
    state.pod.metadata.deletion_grace_period_seconds = metadata.deletion_grace_period_seconds
    return _end_by(state, Ending(event.until))


def _deleted_when_ended(state: PodState, event: on.Deleted, options: TransitionOptions, now: Now) -> list[Action]:
    actions = _deleted(state, event, options, now)
    state.stage = Stage.REMOVING
    return [*actions, do.RemovePod()]


def _end(state: PodState, event: on.End, _: TransitionOptions, now: Now) -> list[Action]:
    return _end_by(state, event.ending)


def _evicted(state: PodState, event: on.Evicted, _: TransitionOptions, now: Now) -> list[Action]:
    """As eviction_manager.go with what is over its own limit: one second, whatever grace it asks for."""
    ending = Ending(now.monotonic + _EVICTION_GRACE, ("Evicted", event.message))
    return [do.Record("Warning", "Evicted", event.message), *_end_by(state, ending)]


def _end_by(state: PodState, ending: Ending) -> list[Action]:
    """A second, shorter grace period counts at once; a longer one never prolongs."""
    if state.ending is None:
        state.ending = ending
    else:
        state.ending.until = min(state.ending.until, ending.until)
        state.ending.failure = state.ending.failure or ending.failure
    for record in state.containers:
        if record.stop is not None:
            record.stop.until = min(record.stop.until, state.ending.until)
    if state.stage in (Stage.PREPARING, Stage.ACTIVE, Stage.RESETTING):
        state.stage = Stage.ENDING
    return [do.Report()]


def _reset(state: PodState, event: on.Emptied, _: TransitionOptions, now: Now) -> list[Action]:
    if state.prepared:
        state.stage = Stage.ACTIVE
        return [do.Report()]
    state.stage, state.due = Stage.PREPARING, now.monotonic
    return []


def _ended(state: PodState, event: on.Emptied, _: TransitionOptions, now: Now) -> list[Action]:
    if state.deleting:  # its end is told once the runtime is clear of it, or has taken long
        state.stage = Stage.REMOVING
        return [do.RemovePod()]
    state.stage = Stage.ENDED
    return [do.Report(), *([do.RemoveSandbox(state.sandbox.id)] if state.sandbox is not None else [])]


def _cleared(state: PodState, event: on.Cleared, _: TransitionOptions, now: Now) -> list[Action]:
    state.cleared = True
    return [do.Report()]


def _removed(state: PodState, event: on.Removed, _: TransitionOptions, now: Now) -> list[Action]:
    state.stage = Stage.GONE
    return []


def _stray_found(state: PodState, event: on.StrayFound, _: TransitionOptions, now: Now) -> list[Action]:
    if event.container_id in state.obsolete:
        return []
    state.obsolete.append(event.container_id)
    message = f"Container {event.container_id} is none of this pod's runs and is removed"
    return [do.Record("Warning", "UnknownContainer", message, event.container if state.find(event.container) else None)]


def _forget(state: PodState, event: on.Forget, _: TransitionOptions, now: Now) -> list[Action]:
    state.obsolete = [one for one in state.obsolete if one not in event.ids]
    return []


def _to(rule: PodRule, *stages: PodStage) -> PodEntry:
    return PodEntry(rule, frozenset(stages))


_BEFORE_THE_END: Final = (Stage.PREPARING, Stage.ACTIVE, Stage.RESETTING)

POD_TABLE: Final[Mapping[tuple[PodStage, type[Any]], PodEntry]] = {
    (Stage.PREPARING, on.Prepared): _to(_prepared, Stage.ACTIVE),
    (Stage.PREPARING, on.PreparationFailed): _to(_preparation_failed, Stage.PREPARING),
    (Stage.ENDING, on.Prepared): _to(_prepared_too_late, Stage.ENDING),
    (Stage.ACTIVE, on.SandboxLost): _to(_sandbox_lost, Stage.RESETTING),
    (Stage.ENDING, on.SandboxLost): _to(_sandbox_lost_at_the_end, Stage.ENDING),
    (Stage.ACTIVE, on.RestartAll): _to(_restart_all, Stage.RESETTING),
    (Stage.RESETTING, on.SandboxLost): _to(_sandbox_lost_meanwhile, Stage.RESETTING),
    (Stage.RESETTING, on.Emptied): _to(_reset, Stage.PREPARING, Stage.ACTIVE),
    (Stage.ENDING, on.Emptied): _to(_ended, Stage.ENDED, Stage.REMOVING),
    (Stage.ENDED, on.SandboxLost): _to(_sandbox_lost_at_the_end, Stage.ENDED),
    (Stage.ENDED, on.Deleted): _to(_deleted_when_ended, Stage.REMOVING),
    (Stage.ENDED, on.Updated): _to(_updated_at_the_end, Stage.ENDED),
    (Stage.ENDING, on.Updated): _to(_updated_at_the_end, Stage.ENDING),
    (Stage.ENDING, on.Deleted): _to(_deleted, Stage.ENDING),
    (Stage.ENDING, on.End): _to(_end, Stage.ENDING),
    (Stage.REMOVING, on.Cleared): _to(_cleared, Stage.REMOVING),
    (Stage.REMOVING, on.Removed): _to(_removed, Stage.GONE),
    (Stage.PREPARING, on.SourcesChanged): _to(_sources_changed, Stage.PREPARING),
    (Stage.ACTIVE, on.SourcesChanged): _to(_sources_changed, Stage.ACTIVE),
    **{(stage, on.Updated): _to(_updated, stage) for stage in _BEFORE_THE_END},
    **{(stage, on.Deleted): _to(_deleted, Stage.ENDING) for stage in _BEFORE_THE_END},
    **{(stage, on.End): _to(_end, Stage.ENDING) for stage in _BEFORE_THE_END},
    **{(stage, on.Evicted): _to(_evicted, Stage.ENDING) for stage in _BEFORE_THE_END},
    **{(stage, on.StrayFound): _to(_stray_found, stage) for stage in (*_BEFORE_THE_END, Stage.ENDING, Stage.ENDED)},
    **{(stage, on.Forget): _to(_forget, stage) for stage in (*_BEFORE_THE_END, Stage.ENDING, Stage.ENDED)},
}

"""What an engine that is made anew makes of a pod's state and of what the runtime has: the two are brought together. Pure.

A checkpoint may be behind: the process that wrote it was killed at any moment. The runtime's containers are the truth of
what was started, by their labels; what the checkpoint alone knows (probes, hooks, back-off) it knew before it mattered.
"""

from __future__ import annotations

from collections.abc import Sequence

from virtual_kubelet.contracts.runtime import ContainerInstance
from virtual_kubelet.runtime import pod_actions as do
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.pod_state import IDLE, ContainerPhase, ContainerRecord, Now, PodState
from virtual_kubelet.runtime.transitions import TransitionOptions, apply

__all__ = ["adopt_instances", "attempt_of"]


def attempt_of(instance: ContainerInstance) -> int:
    """The number of its run; -1 if it is none of ours."""
    text = instance.labels.get("attempt", "")
    return int(text) if text.isdecimal() else -1


def adopt_instances(
    state: PodState, instances: Sequence[ContainerInstance], options: TransitionOptions, now: Now
) -> list[do.Action]:
    """Bring ``state`` in line with all instances of this pod. The actions are due as after any event."""
    actions: list[do.Action] = []
    taken: set[str] = set()

    def take(event: on.ContainerEvent) -> None:
        actions.extend(apply(state, event, options, now))

    for record in state.containers:
        _resume_hooks(record)
        own = sorted((i for i in instances if i.labels.get("container") == record.name), key=attempt_of)
        known = {run.id for run in (record.run, record.last) if run is not None}
        for instance in own:
            newer = attempt_of(instance) == record.attempts and instance.id not in known
            if newer and not record.up:
                # Its start was asked for and not answered, or not written down.
                if record.phase in IDLE:
                    record.phase = ContainerPhase.STARTING
                take(on.Started(record.name, instance, wanted_image=state.spec_of(record).image or ""))
                if record.run is not None:
                    record.run.began -= max(0.0, (now.wall - instance.started_at).total_seconds())
            if record.run is not None and record.run.id == instance.id:
                taken.add(instance.id)
                if instance.exit is not None and record.up:
                    take(on.Exited(record.name, instance.id, instance.exit))
            elif record.last is not None and record.last.id == instance.id:
                taken.add(instance.id)
        if record.phase is ContainerPhase.STARTING:
            take(on.NotStarted(record.name))
        if record.up and record.run is not None and record.run.id not in {i.id for i in own}:
            take(on.Lost(record.name, record.run.id))
        if record.phase is ContainerPhase.POST_START and record.run is not None and record.run.id in known:
            take(on.HookDone(record.name, post_start=True))  # it had begun, and is not run twice
    for instance in instances:
        if instance.id not in taken and instance.id not in state.obsolete:
            state.obsolete.append(instance.id)  # older ones, and one that runs beside another of the same container
    return actions


def _resume_hooks(record: ContainerRecord) -> None:
    """A preStop hook that was cut short by the end of the process runs again, in what is left of its time."""
    if record.stop is not None and record.stop.hook is False:
        record.stop.hook = None

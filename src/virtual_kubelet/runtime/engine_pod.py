"""What the pod engine knows of one pod, and what of that outlives the engine. No I/O; time is given."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from datetime import datetime, timedelta

from virtual_kubelet.clock import Clock
from virtual_kubelet.contracts.runtime import ContainerExit
from virtual_kubelet.objects.core_v1 import Pod, PodCondition, PodStatus
from virtual_kubelet.runtime.checkpoint import PodCheckpoint, RunCheckpoint
from virtual_kubelet.runtime.status import UNKNOWN, ContainerView
from virtual_kubelet.runtime.transitions import backoff_of, next_steps, phase_of, start_backoff_of

__all__ = ["EnginePod", "start_failed", "take_exit"]

#: Seconds, if neither the deletion nor the pod says how long it may take (the API server sets it by default).
_DEFAULT_GRACE = 30


class EnginePod:
    """One pod; everything of it happens in its own task.

    Attributes:
        deleting, failure: it is being deleted, or has failed as a whole (reason and message).
        kill_at: monotonic time at which SIGKILL is due, once it ends.
        active_until: monotonic time at which its activeDeadlineSeconds are over.
        told: containers that have had their SIGTERM, by id; with the monotonic time at which SIGKILL is due.
        obsolete: ids of runs that nobody can ask for any more.
        saved: its runs as the checkpoint has them; written under ``saving``.
    """

    def __init__(self, pod: Pod, start_time: datetime) -> None:
        self.pod = pod
        self.start_time = start_time
        self.init = [ContainerView(c) for c in pod.spec.init_containers or ()]
        self.main = [ContainerView(c) for c in pod.spec.containers]
        self.views = [*self.init, *self.main]
        self.wake = asyncio.Event()
        self.ready_to_start = False
        self.deleting = False
        self.failure: tuple[str, str] | None = None
        self.kill_at: float | None = None
        self.active_until: float | None = None
        self.told: dict[str, float] = {}
        self.obsolete: list[str] = []
        self.saved: dict[str, RunCheckpoint] = {}
        self.saving = asyncio.Lock()
        self.gone = False
        self.status = PodStatus(phase="Pending")
        self.conditions: dict[str, PodCondition] = {}
        self.task: asyncio.Task[None] | None = None

    @property
    def policy(self) -> str:
        return self.pod.spec.restart_policy or "Always"

    @property
    def ending(self) -> bool:
        return self.deleting or self.failure is not None

    @property
    def ended(self) -> bool:
        return phase_of([v.run for v in self.init], [v.run for v in self.main], self.policy) in ("Succeeded", "Failed")

    def view_of(self, container: str) -> ContainerView | None:
        return next((v for v in self.views if v.container.name == container), None)

    def due(self, clock: Clock) -> list[tuple[ContainerView, float | None]]:
        """The containers to start: now, or at a monotonic time."""
        views = {id(v.run): v for v in self.views}
        steps = next_steps([v.run for v in self.init], [v.run for v in self.main], self.policy, clock.monotonic())
        return [(views[id(step.run)], step.at) for step in steps]

    def begin(self, view: ContainerView, started_at: datetime, container_id: str) -> None:
        """A container has a new run; the newest and the one before are kept, for ``kubectl logs --previous``."""
        before = view.last_id
        view.begin(started_at, container_id)
        if before and before not in (view.last_id, view.id):
            self.obsolete.append(before)

    def change_images(self, clock: Clock, pod: Pod) -> None:
        """Of a running pod, image, metadata and deadline may change; with its image a main container is replaced."""
        images = {c.name: c.image for c in (*(pod.spec.init_containers or ()), *pod.spec.containers)}
        for view in self.views:
            image = images.get(view.container.name)
            if image == view.container.image:
                continue
            view.container.image = image
            view.run.replace = view in self.main and view.run.running and (image or "") != view.image
        self.pod = pod
        self.set_deadline(clock)

    def end_within(self, clock: Clock, grace: int | None) -> None:
        """A second, shorter grace period counts at once; a longer one never prolongs."""
        at = clock.monotonic() + max(0, _DEFAULT_GRACE if grace is None else grace)
        self.kill_at = at if self.kill_at is None else min(self.kill_at, at)

    def set_deadline(self, clock: Clock) -> None:
        seconds = self.pod.spec.active_deadline_seconds
        passed = max(0.0, (clock.now() - self.start_time).total_seconds())
        self.active_until = None if seconds is None else clock.monotonic() + seconds - passed

    # What outlives the engine

    def runs_to_keep(self) -> dict[str, RunCheckpoint]:
        """What a new engine could not learn from the runtime's containers: back-off, and runs that had no container."""
        return {
            v.container.name: RunCheckpoint(
                v.run.attempts,
                v.run.backoff.total_seconds(),
                v.id,
                v.run.started_at,
                v.run.exit,
                v.last_id,
                v.last_started,
                v.last,
                v.image,
                v.run.replace,
            )
            for v in self.views
            if v.run.replace or v.run.backoff or (v.run.attempts and not v.id) or (v.last is not None and not v.last_id)
        }

    def restore(self, clock: Clock, checkpoint: PodCheckpoint) -> None:
        self.failure, self.saved = checkpoint.failure, checkpoint.runs
        self.conditions = {c.type: c for c in checkpoint.conditions}
        if self.failure is not None:
            self.end_within(clock, self.pod.spec.termination_grace_period_seconds)
        for view in self.views:
            saved = checkpoint.runs.get(view.container.name)
            if saved is None:
                continue
            run = view.run
            run.attempts, run.started_at, view.id = saved.attempts, saved.started_at, saved.id
            view.image, run.replace = saved.image, saved.replace
            view.last, view.last_id, view.last_started = saved.last, saved.last_id, saved.last_started
            run.exit, run.backoff = saved.exit, timedelta(seconds=saved.backoff)
            if run.exit is not None:
                run.due = _due_after(clock, run.exit, run.backoff)

    def lose_absent(self, clock: Clock, ids: Set[str]) -> None:
        """What should run and the runtime does not have: nobody will ever tell how it ended."""
        for view in self.views:
            if view.run.running and view.id not in ids:
                take_exit(clock, view, ContainerExit(137, clock.now(), reason=UNKNOWN[0], message=UNKNOWN[1]))


def take_exit(clock: Clock, view: ContainerView, ended: ContainerExit) -> None:
    """The newest run has ended; said twice, the first time counts."""
    run = view.run
    if run.exit is None:
        run.exit = ended
        run.backoff = backoff_of(run)
        run.due = _due_after(clock, ended, run.backoff)


def start_failed(clock: Clock, view: ContainerView, reason: str, message: str) -> None:
    """A start failed in a way that is tried again."""
    view.failure = (reason, message)
    view.run.start_failures += 1
    view.run.due = clock.monotonic() + start_backoff_of(view.run).total_seconds()


def _due_after(clock: Clock, ended: ContainerExit, backoff: timedelta) -> float:
    # Of a back-off that began before this process, a part is over; a wall clock that jumps adds nothing to it.
    passed = max(timedelta(0), clock.now() - ended.finished_at)
    return clock.monotonic() + max(timedelta(0), backoff - passed).total_seconds()

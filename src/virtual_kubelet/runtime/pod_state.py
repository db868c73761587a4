"""What the pod engine knows of one pod: all of it is here, and all of it is in the pod's checkpoint. No I/O.

Times that are waited for are monotonic; a checkpoint says when it was written on both clocks, and ``PodState.shift``
brings them to those of another process.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct, field

from virtual_kubelet.contracts.runtime import ContainerExit, ContainerKind, PodSandbox
from virtual_kubelet.objects.core_v1 import Container, ContainerUser, EnvVar, Pod, PodCondition, ResourceRequirements

__all__ = [
    "ContainerPhase",
    "ContainerRecord",
    "Ending",
    "Now",
    "PendingResize",
    "PodStage",
    "PodState",
    "Run",
    "Stop",
    "StopReason",
]


class Now(NamedTuple):
    """One moment: for what is waited for, and for what others read."""

    monotonic: float
    wall: datetime


class PodStage(StrEnum):
    """How far a pod is."""

    PREPARING = "preparing"  # its volumes and its sandbox are being had
    ACTIVE = "active"  # containers start, run and restart
    RESETTING = "resetting"  # all is to run anew, in another sandbox if that is gone; what still runs is ended before
    ENDING = "ending"  # nothing starts any more; what runs is being ended
    ENDED = "ended"  # nothing runs; its logs and its status are kept until it is deleted
    REMOVING = "removing"  # it is deleted, and its containers and files go
    GONE = "gone"


class ContainerPhase(StrEnum):
    """What becomes of one container of a pod."""

    WAITING = "waiting"  # it has its turn later, or now
    STARTING = "starting"  # image, environment, and then the runtime's start
    POST_START = "post-start"  # it runs, and so does its postStart hook
    RUNNING = "running"
    STOPPING = "stopping"  # it runs and is being ended
    FAILED = "failed"  # a start failed; it is tried again
    EXITED = "exited"
    BACKING_OFF = "backing-off"  # ended, and not run again before its back-off is over


#: The phases in which the runtime has a container that runs.
UP = frozenset({ContainerPhase.POST_START, ContainerPhase.RUNNING, ContainerPhase.STOPPING})
#: Those in which it will run again, or for the first time, unless the pod ends.
IDLE = frozenset({ContainerPhase.WAITING, ContainerPhase.FAILED, ContainerPhase.EXITED, ContainerPhase.BACKING_OFF})


class StopReason(StrEnum):
    """Why a container is ended."""

    POD = "pod"  # its pod ends
    PROBE = "probe"
    HOOK = "hook"  # its postStart hook failed
    CHANGED = "changed"  # its image is another now, or its resources are and need a new run
    SANDBOX = "sandbox"
    RESTART_ALL = "restart-all"  # another's end wants all to run anew

    @property
    def restarts(self) -> bool:
        """Whether it runs again, if its policy says so, without its end being told first."""
        return self in (StopReason.PROBE, StopReason.CHANGED, StopReason.RESTART_ALL)


class Stop(Struct):
    """A container's way out.

    Attributes:
        until: monotonic time at which its grace period is over.
        hook: of its preStop hook: None: not begun, False: it runs, True: it is over, or there is none.
        terminated, killed: monotonic times of the last SIGTERM (or what it has instead) and SIGKILL.
        retry: monotonic time before which a signal that failed is not sent again.
    """

    reason: StopReason
    until: float
    hook: bool | None = None
    terminated: float | None = None
    killed: float | None = None
    retry: float = 0.0


class Run(Struct):
    """One run of a container: the runtime's container, or a start that failed for good before there was one.

    Attributes:
        wanted_image: as its spec named it then.
        image, image_id: as the runtime has it.
        env: its variables, for commands that are run in it.
        began, ended: monotonic.
    """

    attempt: int
    id: str
    started_at: datetime | None
    began: float
    wanted_image: str = ""
    image: str = ""
    image_id: str = ""
    user: ContainerUser | None = None
    stop_signal: int = 15
    exit: ContainerExit | None = None
    ended: float = 0.0
    env: list[EnvVar] | None = None


class PendingResize(Struct):
    """A running container does not have the resources that its spec says by now.

    Attributes:
        had: what it has.
        refused: why the runtime cannot change that; it has them until it runs anew.
        error: what the last try failed with.
        anew: the container starts anew, with what its spec said then.
        failures, due: how often in a row it has failed, and the monotonic time of the next try.
    """

    had: ResourceRequirements | None
    refused: str | None = None
    error: str | None = None
    anew: bool = False
    failures: int = 0
    due: float = 0.0


class ContainerRecord(Struct):
    """One container of a pod.

    Attributes:
        sidecar: a restartable init container.
        run, last: the newest run and the one before.
        attempts: runs begun; the restart count is one less.
        backoff: seconds that a restart has to wait now; ``next_backoff`` counts from the next start on.
        due: monotonic time of the next start.
        waiting: reason and message, while it waits for a start that may succeed where one failed, or for its back-off; until
        it runs again.
    hook_error: what its postStart hook failed with, until it has ended for that.
        failures: how often in a row starting has failed.
        started, ready: as the probes say, while it runs.
        change: it has to run anew, whatever its policy, once it has ended.
        stale: its runs have to be made again: they were in a sandbox that is gone, or all of the pod is to run anew.
    resize: if it is not, or not yet, what its spec says by now.
    """

    name: str
    kind: ContainerKind
    sidecar: bool = False
    phase: ContainerPhase = ContainerPhase.WAITING
    run: Run | None = None
    last: Run | None = None
    attempts: int = 0
    backoff: float = 0.0
    next_backoff: float = 0.0
    due: float = 0.0
    waiting: tuple[str, str] | None = None
    hook_error: str | None = None
    failures: int = 0
    started: bool = False
    ready: bool = False
    change: bool = False
    stale: bool = False
    stop: Stop | None = None
    resize: PendingResize | None = None

    @property
    def up(self) -> bool:
        return self.phase in UP

    @property
    def is_init(self) -> bool:
        """A container of ``initContainers`` that has to end before the next one begins."""
        return self.kind is ContainerKind.INIT and not self.sidecar

    @property
    def exit(self) -> ContainerExit | None:
        return self.run.exit if self.run is not None else None

    @property
    def succeeded(self) -> bool:
        return not self.up and not self.stale and self.exit is not None and self.exit.exit_code == 0


class Ending(Struct):
    """Why, and until when, a pod ends.

    Attributes:
        until: monotonic time at which its grace period is over.
        failure: reason and message, if the pod as a whole has failed.
    """

    until: float
    failure: tuple[str, str] | None = None


class PodState(Struct):
    """Attributes:
    pod: as it was last given.
    containers: init containers, main ones, ephemeral ones, each in the order of the spec.
    prepared: it had its sandbox once, and has it still.
    active_until: monotonic time at which its activeDeadlineSeconds are over.
    failures, due: of preparing the pod: how often it has failed in a row, and when it is tried again.
    conditions: as last reported, for the times of their last transitions.
    obsolete: the runtime's ids of runs that nobody can ask for any more.
    cleared: it is deleted, and the runtime has nothing of it any more.
    unsure: a start has failed in a way that may have left a container behind.
    """

    pod: Pod
    start_time: datetime
    stage: PodStage = PodStage.PREPARING
    containers: list[ContainerRecord] = field(default_factory=list)
    sandbox: PodSandbox | None = None
    prepared: bool = False
    ending: Ending | None = None
    deleting: bool = False
    active_until: float | None = None
    failures: int = 0
    due: float = 0.0
    conditions: list[PodCondition] = field(default_factory=list)
    obsolete: list[str] = field(default_factory=list)
    cleared: bool = False
    unsure: bool = False

    @classmethod
    def of(cls, pod: Pod, now: Now) -> PodState:
        """A pod that has just come."""
        state = cls(pod, now.wall)
        state.take_containers()
        state.set_deadline(now)
        return state

    def take_containers(self) -> list[ContainerRecord]:
        """Records for containers of the spec that have none yet; gives the new ones."""
        known = {record.name for record in self.containers}
        spec = self.pod.spec
        new = [
            ContainerRecord(
                container.name, kind, sidecar=kind is ContainerKind.INIT and container.restart_policy == "Always"
            )
            for kind, containers in (
                (ContainerKind.INIT, spec.init_containers or ()),
                (ContainerKind.MAIN, spec.containers),
                (ContainerKind.EPHEMERAL, spec.ephemeral_containers or ()),
            )
            for container in containers
            if container.name not in known
        ]
        self.containers += new
        return new

    def set_deadline(self, now: Now) -> None:
        seconds = self.pod.spec.active_deadline_seconds
        passed = max(0.0, (now.wall - self.start_time).total_seconds())
        self.active_until = None if seconds is None else now.monotonic + seconds - passed

    @property
    def init(self) -> list[ContainerRecord]:
        return [record for record in self.containers if record.kind is ContainerKind.INIT]

    @property
    def main(self) -> list[ContainerRecord]:
        return [record for record in self.containers if record.kind is ContainerKind.MAIN]

    @property
    def ephemeral(self) -> list[ContainerRecord]:
        return [record for record in self.containers if record.kind is ContainerKind.EPHEMERAL]

    @property
    def resizing(self) -> list[ContainerRecord]:
        """Those that run with other resources than their specs say."""
        return [record for record in self.containers if record.resize is not None and record.up]

    @property
    def restarting_all(self) -> bool:
        """Whether all containers end to run anew in the sandbox that is there."""
        return self.stage is PodStage.RESETTING and self.prepared

    @property
    def has_run(self) -> bool:
        """Whether any of its main containers was ever begun: then it is past its init containers for good."""
        return any(record.attempts and not record.stale for record in self.main)

    def find(self, name: str) -> ContainerRecord | None:
        return next((record for record in self.containers if record.name == name), None)

    def spec_of(self, record: ContainerRecord) -> Container:
        """The container as the spec has it now; an ephemeral one in the shape of the others."""
        spec = self.pod.spec
        containers: list[Container] = [*(spec.init_containers or ()), *spec.containers]
        for container in containers:
            if container.name == record.name:
                return container
        for ephemeral in spec.ephemeral_containers or ():
            if ephemeral.name == record.name:
                return Container(**{name: getattr(ephemeral, name) for name in Container.__struct_fields__})
        raise KeyError(record.name)

    def shift(self, seconds: float) -> None:
        """Move all monotonic times: this process's clock is another one than that of the checkpoint's writer."""
        self.due += seconds
        if self.ending is not None:
            self.ending.until += seconds
        if self.active_until is not None:
            self.active_until += seconds
        for record in self.containers:
            record.due += seconds
            if record.resize is not None:
                record.resize.due += seconds
            for run in (record.run, record.last):
                if run is not None:
                    run.began, run.ended = run.began + seconds, run.ended + seconds
            if record.stop is not None:
                stop = record.stop
                stop.until, stop.retry = stop.until + seconds, stop.retry + seconds
                stop.terminated = None if stop.terminated is None else stop.terminated + seconds
                stop.killed = None if stop.killed is None else stop.killed + seconds


def is_sidecar(container: Container) -> bool:
    """Whether an init container is a restartable one (podutil.IsRestartableInitContainer)."""
    return container.restart_policy == "Always"

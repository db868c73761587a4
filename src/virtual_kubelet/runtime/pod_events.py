"""What happens to a pod: the words of ``transitions``. What is to be done about it: ``pod_actions``. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from msgspec import Struct

from virtual_kubelet.contracts.runtime import ContainerExit, ContainerInstance, Image, PodSandbox
from virtual_kubelet.objects.core_v1 import EnvVar, Pod, ResourceRequirements
from virtual_kubelet.runtime.pod_state import Ending, StopReason

__all__ = [
    "BackOff",
    "Begin",
    "Cleared",
    "ContainerEvent",
    "Deleted",
    "Emptied",
    "End",
    "Evicted",
    "Exited",
    "Forget",
    "HookDone",
    "Lost",
    "NotStarted",
    "PodEvent",
    "PreparationFailed",
    "Prepared",
    "ProbeFailed",
    "Probed",
    "Removed",
    "ResizeFailed",
    "Resized",
    "RestartAll",
    "SandboxLost",
    "SignalFailed",
    "Signalled",
    "SourcesChanged",
    "StartFailed",
    "Started",
    "Stop",
    "StrayFound",
    "Updated",
]


# Events of one container


class Begin(Struct, frozen=True):
    """It has its turn."""

    name: str


class BackOff(Struct, frozen=True):
    """It would run again, but not before its back-off is over."""

    name: str


@dataclass(frozen=True, slots=True)
class Started:
    """The runtime has started it."""

    name: str
    instance: ContainerInstance
    image: Image | None = None
    wanted_image: str = ""
    env: Sequence[EnvVar] = field(repr=False, default=())


class StartFailed(Struct, frozen=True):
    """It could not be started.

    Attributes:
        exit_code: as in ``ContainerStartError``.
        wait: seconds until it is tried again, if whoever failed knows.
        unsure: the runtime may have started it all the same.
        recorded: whoever failed has recorded its events.
    """

    name: str
    reason: str
    message: str
    exit_code: int | None = None
    wait: float | None = None
    unsure: bool = False
    recorded: bool = False
    image: Image | None = None
    wanted_image: str = ""


class NotStarted(Struct, frozen=True):
    """Its start was given up before the runtime was asked: its pod ends."""

    name: str


class HookDone(Struct, frozen=True):
    """Its hook has ended: postStart, or preStop. ``error`` is a sentence, if a postStart hook failed, or a preStop hook
    was cut short; who ran it has recorded its own failures."""

    name: str
    post_start: bool
    error: str | None = None


class Probed(Struct, frozen=True):
    """Its probes say something else than before."""

    name: str
    started: bool
    ready: bool


class ProbeFailed(Struct, frozen=True):
    """A probe says that it has to go, within ``grace`` seconds."""

    name: str
    kind: str
    grace: float


class Stop(Struct, frozen=True):
    """It has to end, for a reason of its pod's."""

    name: str
    reason: StopReason
    until: float
    message: str = ""


class Signalled(Struct, frozen=True):
    name: str
    number: int
    kill: bool


class SignalFailed(Struct, frozen=True):
    name: str
    kill: bool


class Exited(Struct, frozen=True):
    """A container of the runtime's has ended."""

    name: str
    container_id: str
    exit: ContainerExit


class Lost(Struct, frozen=True):
    """The runtime does not know its container any more: nobody will ever tell how it ended."""

    name: str
    container_id: str


class Resized(Struct, frozen=True):
    """It has these resources now."""

    name: str
    container_id: str
    resources: ResourceRequirements | None


class ResizeFailed(Struct, frozen=True):
    """``refused``: the runtime cannot do it; it is not asked again before something else is wanted."""

    name: str
    container_id: str
    message: str
    refused: bool = False


ContainerEvent: TypeAlias = (
    Begin
    | BackOff
    | Started
    | StartFailed
    | NotStarted
    | HookDone
    | Probed
    | ProbeFailed
    | Stop
    | Signalled
    | SignalFailed
    | Exited
    | Lost
    | Resized
    | ResizeFailed
)


# Events of the pod


class Prepared(Struct, frozen=True):
    """It has its volumes, and its sandbox if the runtime has any."""

    sandbox: PodSandbox | None


class PreparationFailed(Struct, frozen=True):
    reason: str
    message: str
    wait: float | None = None


class SandboxLost(Struct, frozen=True):
    sandbox_id: str


class RestartAll(Struct, frozen=True):
    """A container has ended so that all of the pod are to run anew, its init containers first."""


class SourcesChanged(Struct, frozen=True):
    """A ConfigMap, a Secret or the like has come or changed that the pod refers to."""


class Updated(Struct, frozen=True):
    """Spec, labels or annotations are others now."""

    pod: Pod


class Deleted(Struct, frozen=True):
    """It is to end, within ``until`` (monotonic), and to be forgotten then."""

    pod: Pod
    until: float


class End(Struct, frozen=True):
    """It ends by itself: its containers are done, or it has failed as a whole."""

    ending: Ending


class Evicted(Struct, frozen=True):
    """It uses more than it may; what it does is no longer asked."""

    message: str


class Emptied(Struct, frozen=True):
    """Nothing of it runs."""


class Cleared(Struct, frozen=True):
    """The runtime has nothing of it any more, neither containers nor a sandbox."""


class Removed(Struct, frozen=True):
    """All of it is gone from the runtime and the disk."""


class StrayFound(Struct, frozen=True):
    """The runtime has a container of this pod that is none of its runs."""

    container: str
    container_id: str


class Forget(Struct, frozen=True):
    """These runs are gone from the runtime."""

    ids: frozenset[str]


PodEvent: TypeAlias = (
    Prepared
    | PreparationFailed
    | SandboxLost
    | RestartAll
    | SourcesChanged
    | Updated
    | Deleted
    | End
    | Evicted
    | Emptied
    | Cleared
    | Removed
    | StrayFound
    | Forget
)

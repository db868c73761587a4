"""What happens to a pod: the words of ``transitions``. What is to be done about it: ``pod_actions``. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

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


@dataclass(frozen=True, slots=True)
class Begin:
    """It has its turn."""

    name: str


@dataclass(frozen=True, slots=True)
class BackOff:
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


@dataclass(frozen=True, slots=True)
class StartFailed:
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


@dataclass(frozen=True, slots=True)
class NotStarted:
    """Its start was given up before the runtime was asked: its pod ends."""

    name: str


@dataclass(frozen=True, slots=True)
class HookDone:
    """Its hook has ended: postStart, or preStop. ``error`` is a sentence, if a postStart hook failed, or a preStop hook
    was cut short; who ran it has recorded its own failures."""

    name: str
    post_start: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Probed:
    """Its probes say something else than before."""

    name: str
    started: bool
    ready: bool


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """A probe says that it has to go, within ``grace`` seconds."""

    name: str
    kind: str
    grace: float


@dataclass(frozen=True, slots=True)
class Stop:
    """It has to end, for a reason of its pod's."""

    name: str
    reason: StopReason
    until: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Signalled:
    name: str
    number: int
    kill: bool


@dataclass(frozen=True, slots=True)
class SignalFailed:
    name: str
    kill: bool


@dataclass(frozen=True, slots=True)
class Exited:
    """A container of the runtime's has ended."""

    name: str
    container_id: str
    exit: ContainerExit


@dataclass(frozen=True, slots=True)
class Lost:
    """The runtime does not know its container any more: nobody will ever tell how it ended."""

    name: str
    container_id: str


@dataclass(frozen=True, slots=True)
class Resized:
    """It has these resources now."""

    name: str
    container_id: str
    resources: ResourceRequirements | None


@dataclass(frozen=True, slots=True)
class ResizeFailed:
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


@dataclass(frozen=True, slots=True)
class Prepared:
    """It has its volumes, and its sandbox if the runtime has any."""

    sandbox: PodSandbox | None


@dataclass(frozen=True, slots=True)
class PreparationFailed:
    reason: str
    message: str
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class SandboxLost:
    sandbox_id: str


@dataclass(frozen=True, slots=True)
class RestartAll:
    """A container has ended so that all of the pod are to run anew, its init containers first."""


@dataclass(frozen=True, slots=True)
class SourcesChanged:
    """A ConfigMap, a Secret or the like has come or changed that the pod refers to."""


@dataclass(frozen=True, slots=True)
class Updated:
    """Spec, labels or annotations are others now."""

    pod: Pod


@dataclass(frozen=True, slots=True)
class Deleted:
    """It is to end, within ``until`` (monotonic), and to be forgotten then."""

    pod: Pod
    until: float


@dataclass(frozen=True, slots=True)
class End:
    """It ends by itself: its containers are done, or it has failed as a whole."""

    ending: Ending


@dataclass(frozen=True, slots=True)
class Evicted:
    """It uses more than it may; what it does is no longer asked."""

    message: str


@dataclass(frozen=True, slots=True)
class Emptied:
    """Nothing of it runs."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """The runtime has nothing of it any more, neither containers nor a sandbox."""


@dataclass(frozen=True, slots=True)
class Removed:
    """All of it is gone from the runtime and the disk."""


@dataclass(frozen=True, slots=True)
class StrayFound:
    """The runtime has a container of this pod that is none of its runs."""

    container: str
    container_id: str


@dataclass(frozen=True, slots=True)
class Forget:
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

"""What is to be done about a pod: the answers of ``transitions``. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from virtual_kubelet.objects.core_v1 import LifecycleHandler, ResourceRequirements

__all__ = [
    "Action",
    "CutHook",
    "CutStart",
    "Prepare",
    "Record",
    "Refresh",
    "Remove",
    "RemovePod",
    "RemoveSandbox",
    "Report",
    "Resize",
    "RunPostStart",
    "RunPreStop",
    "Send",
    "Start",
    "StartProbes",
    "StopProbes",
]


@dataclass(frozen=True, slots=True)
class Report:
    """Tell the pod's status as it is now, whatever comes next."""


@dataclass(frozen=True, slots=True)
class Record:
    """A Kubernetes event on the pod, or on one of its containers."""

    event_type: str
    reason: str
    message: str
    container: str | None = None


@dataclass(frozen=True, slots=True)
class Prepare:
    """Volumes and sandbox."""


@dataclass(frozen=True, slots=True)
class Refresh:
    """Bring the files of its volumes up to date: what they show may have changed."""


@dataclass(frozen=True, slots=True)
class Start:
    name: str


@dataclass(frozen=True, slots=True)
class RunPostStart:
    name: str
    container_id: str
    handler: LifecycleHandler = field(repr=False)


@dataclass(frozen=True, slots=True)
class RunPreStop:
    name: str
    container_id: str
    handler: LifecycleHandler = field(repr=False)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CutHook:
    """End a hook that runs."""

    name: str


@dataclass(frozen=True, slots=True)
class CutStart:
    """Give its start up, if the runtime has not been asked yet."""

    name: str


@dataclass(frozen=True, slots=True)
class StartProbes:
    name: str
    container_id: str


@dataclass(frozen=True, slots=True)
class StopProbes:
    """``terminating``: its pod ends and it still runs: only readiness goes on being probed."""

    name: str
    terminating: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """A signal."""

    name: str
    container_id: str
    number: int
    kill: bool


@dataclass(frozen=True, slots=True)
class Resize:
    """Give a running container other resources."""

    name: str
    container_id: str
    resources: ResourceRequirements | None


@dataclass(frozen=True, slots=True)
class Remove:
    """Runs that nobody can ask for any more."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    sandbox_id: str


@dataclass(frozen=True, slots=True)
class RemovePod:
    """Its containers, sandbox, volumes, files and checkpoint."""


Action: TypeAlias = (
    Report
    | Record
    | Prepare
    | Refresh
    | Start
    | CutStart
    | RunPostStart
    | RunPreStop
    | CutHook
    | StartProbes
    | StopProbes
    | Send
    | Resize
    | Remove
    | RemoveSandbox
    | RemovePod
)

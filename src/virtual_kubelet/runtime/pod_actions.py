"""What is to be done about a pod: the answers of ``transitions``. No I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from msgspec import Struct

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


class Report(Struct, frozen=True):
    """Tell the pod's status as it is now, whatever comes next."""


class Record(Struct, frozen=True):
    """A Kubernetes event on the pod, or on one of its containers."""

    event_type: str
    reason: str
    message: str
    container: str | None = None


class Prepare(Struct, frozen=True):
    """Volumes and sandbox."""


class Refresh(Struct, frozen=True):
    """Bring the files of its volumes up to date: what they show may have changed."""


class Start(Struct, frozen=True):
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


class CutHook(Struct, frozen=True):
    """End a hook that runs."""

    name: str


class CutStart(Struct, frozen=True):
    """Give its start up, if the runtime has not been asked yet."""

    name: str


class StartProbes(Struct, frozen=True):
    name: str
    container_id: str


class StopProbes(Struct, frozen=True):
    """``terminating``: its pod ends and it still runs: only readiness goes on being probed."""

    name: str
    terminating: bool = False


class Send(Struct, frozen=True):
    """A signal."""

    name: str
    container_id: str
    number: int
    kill: bool


class Resize(Struct, frozen=True):
    """Give a running container other resources."""

    name: str
    container_id: str
    resources: ResourceRequirements | None


class Remove(Struct, frozen=True):
    """Runs that nobody can ask for any more."""

    ids: tuple[str, ...]


class RemoveSandbox(Struct, frozen=True):
    sandbox_id: str


class RemovePod(Struct, frozen=True):
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

"""What the node knows of one incarnation of a pod: one record a UID, one worker at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.environment.settled import SettledEnvironment
from virtual_kubelet.node.cached_pod import CachedPod
from virtual_kubelet.objects.core_v1 import Pod, PodCondition, PodStatus, ResourceRequirements

__all__ = ["Applied", "PodRecord", "gates_of"]

#: Conditions that a node itself sets.
_OWN: Final = frozenset(
    {
        "PodScheduled",
        "PodReadyToStartContainers",
        "Initialized",
        "ContainersReady",
        "Ready",
        "DisruptionTarget",
        "PodResizePending",
        "PodResizeInProgress",
        "AllContainersRestarting",
    }
)


class Applied(NamedTuple):
    """What the provider was last given: as in the API, before the environment was resolved."""

    spec: msgspec.Raw
    labels: dict[str, str] | None
    annotations: dict[str, str] | None
    gates: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, pod: CachedPod) -> Applied:
        return cls(pod.spec, pod.metadata.labels, pod.metadata.annotations, gates_of(pod))


def gates_of(pod: CachedPod) -> Sequence[tuple[str, str]]:
    """Type and status of conditions that others have set, of a pod with ``readinessGates``: whether it is ready is theirs
    to say too."""
    others = [(c.type, c.status) for c in pod.status.conditions or () if c.type not in _OWN]
    return tuple(others) if others and b'"readinessGates"' in bytes(pod.spec) else ()


class PodRecord:
    """State of one pod. Changed only by the loop's thread; its provider calls only by its one worker."""

    __slots__ = (
        "again",
        "allocated",
        "applied",
        "attempts",
        "busy",
        "configuration",
        "configuration_changed",
        "configuration_timer",
        "created",
        "created_at",
        "delete_grace",
        "draining",
        "evicting",
        "finished",
        "finishing",
        "forgotten",
        "found",
        "grace_over",
        "in_provider",
        "key",
        "last_decoded",
        "last_patch",
        "pending_resize",
        "pod",
        "queued",
        "refused",
        "settled",
        "status",
        "status_is_ours",
        "timer",
        "waits_for_reference",
        "write_queued",
        "writing",
        "written",
        "written_on",
    )

    def __init__(self, key: PodKey) -> None:
        self.key = key
        self.pod: CachedPod | None = None  # as in the API; None: not there (any more)
        self.last_decoded: Pod | None = None  # while deleting: what the provider is told of a pod the API has lost
        self.applied: Applied | None = None
        self.allocated: dict[str, ResourceRequirements | None] | None = None  # while what its spec asks for has to wait
        self.pending_resize: PodCondition | None = None  # … and what is said of that
        self.settled: SettledEnvironment | None = None  # given at creation, where it came from other objects
        self.waits_for_reference = False  # a ConfigMap, Secret or Service of its environment is not there
        self.configuration: bytes | None = None  # digest of what the provider has of ConfigMaps, Secrets and files
        self.configuration_changed = False  # … and some of it may have changed
        self.configuration_timer: asyncio.TimerHandle | None = None  # until a token is to be renewed
        self.in_provider: bool | None = None
        self.found: Pod | None = None  # as the provider had it when this process began
        self.created = False  # by this process
        self.created_at: float | None = None  # when that had succeeded, by the monotonic clock
        self.status: PodStatus | None = None  # the newest from the provider
        self.status_is_ours = False  # the node wrote it, as the provider's call failed
        self.refused: PodStatus | None = None  # a status the API server calls invalid
        self.delete_grace: int | None = None  # grace period the provider was told; None: not told yet
        self.grace_over = False
        self.finishing = False  # the API object is to be removed
        self.finished = False  # … and has been: finalizers may keep it for a while
        self.last_patch: bytes | None = None  # the last status patch, whose echo may not be here yet
        self.written: PodStatus | None = None  # what the API has by it, while …
        self.written_on: CachedPod | None = None  # … this is the newest that has come from there
        self.draining: int | None = None  # seconds it has to end, because the node stops
        self.evicting = False  # the backend ends the pod by itself: the API object is to be deleted gracefully
        self.forgotten = False  # gone everywhere: nobody looks at it again
        self.attempts = 0
        self.timer: asyncio.TimerHandle | None = None
        # In the workers' queue, with a worker, to be looked at again; the same for the writers' queue.
        self.queued = self.busy = self.again = False
        self.write_queued = self.writing = False

    @property
    def log_fields(self) -> dict[str, str]:
        """What a log line about this pod carries."""
        return {"namespace": self.key.namespace, "pod": self.key.name, "uid": self.key.uid}

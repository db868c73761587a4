"""The pod contract: the methods every provider has, and those it may add.

A provider implements ``PodLifecycleHandler``. All else is optional and found by its methods (``isinstance`` against
these Protocols): ``PodNotifier``, ``PodStatusBatch``, ``PodAddresses``, ``EnvironmentResolver``, ``RerunSafe``, and
``ConfigurationWatcher`` in ``contracts.configuration``. The names and the
meaning follow the Go framework's node/podcontroller.go; the differences are marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from virtual_kubelet.objects.core_v1 import Pod, PodStatus

__all__ = [
    "EnvironmentResolver",
    "PodAddresses",
    "PodKey",
    "PodLifecycleHandler",
    "PodNotifier",
    "PodStatusBatch",
    "PodStatusCallback",
    "RerunSafe",
]


class PodKey(NamedTuple):
    """Identity of a pod. Two pods of one name but different UIDs are different pods."""

    namespace: str
    name: str
    uid: str

    @classmethod
    def of(cls, pod: Pod) -> PodKey:
        meta = pod.metadata
        return cls(meta.namespace or "", meta.name or "", meta.uid or "")

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}({self.uid})"


@runtime_checkable
class PodLifecycleHandler(Protocol):
    """Runs pods on a backend.

    Calls for one pod never overlap; calls for different pods do, up to the configured number of workers. Each call may
    be cancelled when the node stops; it must then leave nothing half-made that a later ``get_pods`` does not show.

    Errors: ``NotFoundError``, ``InvalidInputError``/``PermanentError`` (the pod fails for good), ``TransientError``
    (retried, after ``retry_after`` if given). Any other exception is retried with back-off too.
    """

    async def create_pod(self, pod: Pod) -> None:
        """Deploy the pod. ``pod`` is a private copy whose environment is resolved; the provider may keep and change it.

        Called again after a failure: creating what exists already (same UID) must succeed or do nothing.
        """
        ...

    async def update_pod(self, pod: Pod) -> None:
        """Bring the deployed pod in line with a changed spec, label or annotation."""
        ...

    async def delete_pod(self, pod: Pod) -> None:
        """Start to end the pod, and return. May be called many times, also with a shorter grace period.

        ``pod.metadata.deletion_grace_period_seconds`` is the grace period. The pod keeps being reported until its
        containers are terminal: the framework removes the API object when the provider reports that, or does not know
        the pod any more, or when the grace period is over. ``NotFoundError`` means it is gone already.
        """
        ...

    async def get_pod(self, key: PodKey) -> Pod | None:
        """The pod as deployed, or None (or ``NotFoundError``) if the backend does not know this UID."""
        ...

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        """Current status, or None (or ``NotFoundError``) if the backend does not know this UID."""
        ...

    async def get_pods(self) -> Sequence[Pod]:
        """All pods of this node that the backend holds, each with namespace, name and UID.

        Never a partial list: what is missing here counts as gone. If the backend cannot tell, raise.
        """
        ...


class PodStatusCallback(Protocol):
    """Takes a pod's new status at once; never blocks. Call it in the event loop's thread.

    The framework owns the pod's identity and metadata; a provider gives the status only (in Go: the whole pod).
    A status for a pod not known yet is kept until it is. The status object must not be changed afterwards.
    ``deleting`` says that the backend is ending the pod on its own (a reclaimed machine, say): the framework then
    deletes the API object gracefully.
    """

    def __call__(self, key: PodKey, status: PodStatus, *, deleting: bool = False) -> None: ...


@runtime_checkable
class PodNotifier(Protocol):
    """A provider that reports status changes by itself; one without it is polled."""

    def notify_pods(self, callback: PodStatusCallback) -> None:
        """Keep ``callback``; call it on every change. Called once, before anything else; must not block."""
        ...


@runtime_checkable
class PodStatusBatch(Protocol):
    """A polled provider that answers many statuses in one call."""

    async def get_pod_statuses(self, keys: Sequence[PodKey]) -> Mapping[PodKey, PodStatus | None]:
        """The status of each pod; None where the backend does not know it. A key left out says nothing this round."""
        ...


@runtime_checkable
class PodAddresses(Protocol):
    """A provider that knows a pod's addresses before it starts: ``status.podIP(s)`` in its environment."""

    async def get_pod_ips(self, pod: Pod) -> Sequence[str]:
        """The pod's addresses, the primary one first; empty while they are not known: the pod then waits for them."""
        ...


@runtime_checkable
class EnvironmentResolver(Protocol):
    """A provider that resolves environments by itself, when each container starts.

    With ``resolves_environment = True`` it is given pods as they are in the API: ``env`` with ``valueFrom``, ``envFrom``,
    commands with ``$(NAME)``.
    """

    resolves_environment: bool


@runtime_checkable
class RerunSafe(Protocol):
    """A provider may declare that running a lost pod again is safe.

    After a restart of the node, a pod that had run and that the provider no longer knows is Failed with reason
    ``NotFound``; with ``rerun_is_safe = True`` it is created again instead.
    """

    rerun_is_safe: bool

"""How large an ``emptyDir`` may get (pkg/volume/emptydir, and emptyDirLimitEviction in pkg/kubelet/eviction). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from virtual_kubelet.objects.core_v1 import EmptyDirVolumeSource, Pod
from virtual_kubelet.objects.quantity import Quantity

__all__ = ["limit_message", "memory_size", "size_limit"]


def memory_size(source: EmptyDirVolumeSource, pod: Pod, allocatable: Mapping[str, str]) -> int | None:
    """Bytes: its ``sizeLimit``, but no more than the pod's memory limit, or all of the node's memory; None if none is said.

    Raises ``ValueError`` for what is no quantity.
    """
    most = _memory_limit(pod) or _bytes(allocatable.get("memory"))
    own = _bytes(source.size_limit)
    if own and (not most or own < most):
        return own
    return most or None


def size_limit(source: EmptyDirVolumeSource) -> int:
    """Bytes; 0: none. Raises ``ValueError`` for what is no quantity."""
    return _bytes(source.size_limit)


def limit_message(volume: str, source: EmptyDirVolumeSource) -> str:
    """What a kubelet says of a pod that it evicts because a volume is too large."""
    return f'Usage of EmptyDir volume "{volume}" exceeds the limit "{Quantity(source.size_limit or "0")}". '


def _memory_limit(pod: Pod) -> int:
    """Of the pod: that of its containers together, or of the largest init container; 0 if one has none."""
    together = largest = 0
    for container in pod.spec.containers:
        limit = _bytes((container.resources.limits or {}).get("memory") if container.resources is not None else None)
        if not limit:
            return 0
        together += limit
    for container in pod.spec.init_containers or ():
        limit = _bytes((container.resources.limits or {}).get("memory") if container.resources is not None else None)
        if not limit:
            return 0
        if container.restart_policy == "Always":
            together += limit
        else:
            largest = max(largest, limit)
    return max(together, largest)


def _bytes(quantity: str | None) -> int:
    return Quantity(quantity).value() if quantity else 0

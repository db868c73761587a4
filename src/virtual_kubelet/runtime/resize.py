"""In-place resize: what of a container's resources may change while it runs, and how that is told. Pure.

Kubernetes: KEP-1287; pkg/kubelet/kuberuntime/kuberuntime_manager.go (computePodResizeAction), pkg/kubelet/allocation,
pkg/kubelet/status/status_manager.go (PodResizePending, PodResizeInProgress).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from virtual_kubelet.objects.core_v1 import Container, Pod, ResourceRequirements
from virtual_kubelet.objects.quantity import Quantity

__all__ = [
    "DEFERRED",
    "INFEASIBLE",
    "IN_PROGRESS",
    "PENDING",
    "UNSUPPORTED",
    "growth",
    "lower_memory_limit",
    "memory_shortage",
    "needs_restart",
    "resize_message",
    "resized_resources",
    "same_resources",
]

#: Types of conditions, and reasons of the first.
PENDING: Final = "PodResizePending"
IN_PROGRESS: Final = "PodResizeInProgress"
DEFERRED: Final = "Deferred"
INFEASIBLE: Final = "Infeasible"
#: What a runtime without ``ContainerResize`` has to say.
UNSUPPORTED: Final = "the container runtime of this node cannot change the resources of a running container"

#: The only ones that change while a container runs.
_RESIZABLE: Final = ("cpu", "memory")


def _amount(resources: ResourceRequirements | None, kind: str, name: str) -> Quantity | str | None:
    """A request that is not said is the limit, as the API server has it. What is no quantity is compared as text."""
    if resources is None:
        return None
    text = (getattr(resources, kind) or {}).get(name)
    if text is None and kind == "requests":
        text = (resources.limits or {}).get(name)
    try:
        return None if text is None else Quantity(text)
    except ValueError:
        return text


def _changed(had: ResourceRequirements | None, wanted: ResourceRequirements | None, name: str) -> bool:
    return any(_amount(had, kind, name) != _amount(wanted, kind, name) for kind in ("requests", "limits"))


def same_resources(had: ResourceRequirements | None, wanted: ResourceRequirements | None) -> bool:
    """Whether cpu and memory are the same."""
    return not any(_changed(had, wanted, name) for name in _RESIZABLE)


def growth(had: ResourceRequirements | None, wanted: ResourceRequirements | None) -> tuple[int, int]:
    """-1 for less, 1 for more: memory, then CPU (by its limit; by its request where that stays).

    The kubelet resizes the memory of all containers before their CPU (doPodResizeAction), and of each those first that get
    less (markContainerForUpdate). Here both go in one call.
    """
    cpu = _sign(had, wanted, "limits", "cpu") or _sign(had, wanted, "requests", "cpu")
    return _sign(had, wanted, "limits", "memory"), cpu


def _sign(had: ResourceRequirements | None, wanted: ResourceRequirements | None, kind: str, name: str) -> int:
    before, after = _number(had, kind, name), _number(wanted, kind, name)
    return (after > before) - (after < before)


def _number(resources: ResourceRequirements | None, kind: str, name: str) -> float:
    """No limit, which 0 is too, is more than any. What is no quantity is told by whoever takes it."""
    amount = _amount(resources, kind, name)
    number = amount.milli_value() if isinstance(amount, Quantity) else 0
    return number or (math.inf if kind == "limits" else 0)


def lower_memory_limit(had: ResourceRequirements | None, wanted: ResourceRequirements | None) -> int | None:
    """Bytes, if it is less than before."""
    before, after = _number(had, "limits", "memory"), _number(wanted, "limits", "memory")
    return int(after) // 1000 if after < before else None


def memory_shortage(name: str, limit: int, usage: int) -> str | None:
    """Why a container that uses so many bytes cannot have this limit now, as the kubelet's validateMemoryResizeAction."""
    if usage < limit:
        return None
    which = f'attempting to set container "{name}" memory limit ({limit}) below current usage ({usage})'
    return f"cannot decrease memory limits: {which}"


def needs_restart(container: Container, had: ResourceRequirements | None) -> bool:
    """Whether its ``resizePolicy`` wants it to run anew for what has changed."""
    anew = {p.resource_name for p in container.resize_policy or () if p.restart_policy == "RestartContainer"}
    return any(name in anew and _changed(had, container.resources, name) for name in _RESIZABLE)


def resized_resources(pod: Pod) -> Iterable[Container]:
    """The containers that can be resized: main ones and sidecars."""
    yield from (c for c in pod.spec.init_containers or () if c.restart_policy == "Always")
    yield from pod.spec.containers


def resize_message(what: str, pod: Pod, error: str | None = None) -> str:
    """Of an event, as a kubelet says it (pkg/kubelet/events/resize.go): ``what`` ("started", "completed", "Deferred" …) and
    what is wanted, of init containers too that cannot be resized, as JSON."""
    shown: dict[str, Any] = {}
    for field, containers in (("initContainers", pod.spec.init_containers), ("containers", pod.spec.containers)):
        if containers:
            shown[field] = [{"name": one.name, "resources": one.resources or {}} for one in containers]
    shown["generation"] = pod.metadata.generation
    if error is not None:
        shown["error"] = error
    return f"Pod resize {what}: {msgspec.json.encode(shown).decode()}"

"""What a pod as a whole asks for and may use, as its status says it since 1.34. Pure."""

from __future__ import annotations

from collections.abc import Callable

from virtual_kubelet.objects.core_v1 import Container, Pod, ResourceRequirements
from virtual_kubelet.objects.quantity import Quantity
from virtual_kubelet.runtime.pod_state import is_sidecar

__all__ = ["container_requests", "pod_resources"]


def container_requests(container: Container, resources: ResourceRequirements | None = None) -> dict[str, str]:
    """Its requests; where it has only a limit, that (the API server's default)."""
    wanted = resources or container.resources
    return {} if wanted is None else {**(wanted.limits or {}), **(wanted.requests or {})}


def pod_resources(pod: Pod) -> tuple[ResourceRequirements, dict[str, str] | None]:
    """``status.resources`` and ``status.allocatedResources``: containers and sidecars together, or an init container's if
    that is more; what the pod says as a whole counts instead."""
    requests = _total(pod, container_requests)
    limits = _total(pod, lambda container: (container.resources.limits if container.resources else None) or {})
    own = pod.spec.resources
    if own is not None:
        requests.update(own.requests or {})
        limits.update(own.limits or {})
    return ResourceRequirements(limits=limits or None, requests=requests or None), requests or None


def _total(pod: Pod, amounts_of: Callable[[Container], dict[str, str]]) -> dict[str, str]:
    total: dict[str, Quantity] = {}
    most: dict[str, Quantity] = {}
    sidecars: dict[str, Quantity] = {}
    for container in pod.spec.containers:
        _add(total, amounts_of(container))
    for container in pod.spec.init_containers or ():
        needed = sidecars if is_sidecar(container) else dict(sidecars)
        _add(needed, amounts_of(container))
        for name, amount in needed.items():
            most[name] = max(most.get(name, Quantity(0)), amount)
    for name, amount in sidecars.items():
        total[name] = total.get(name, Quantity(0)) + amount
    for name, amount in most.items():
        total[name] = max(total.get(name, Quantity(0)), amount)
    return {name: str(amount) for name, amount in total.items()}


def _add(to: dict[str, Quantity], amounts: dict[str, str]) -> None:
    for name, text in amounts.items():
        to[name] = to.get(name, Quantity(0)) + Quantity(text)

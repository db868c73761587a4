"""What a pod as a whole asks for and may use, as its status says it since 1.34. Pure."""

from __future__ import annotations

from collections.abc import Callable

from virtual_kubelet.objects.core_v1 import Container, Pod, ResourceRequirements
from virtual_kubelet.objects.quantity import Quantity
from virtual_kubelet.runtime.pod_state import ContainerRecord, PodState, is_sidecar

__all__ = ["allocated_to", "container_requests", "pod_resources", "resources_of"]


def resources_of(record: ContainerRecord, container: Container) -> ResourceRequirements | None:
    """What it has while it runs, and will have when it runs next."""
    return record.resize.had if record.resize is not None and record.up else container.resources


def allocated_to(record: ContainerRecord, container: Container) -> ResourceRequirements | None:
    """What is set aside for it: what it is to have, unless it cannot have that as it runs."""
    refused = record.resize is not None and record.up and record.resize.refused
    return resources_of(record, container) if refused else container.resources


def container_requests(container: Container, wanted: ResourceRequirements | None) -> dict[str, str]:
    """Requests; where there is only a limit, that (the API server's default)."""
    return {} if wanted is None else {**(wanted.limits or {}), **(wanted.requests or {})}


def pod_resources(state: PodState) -> tuple[ResourceRequirements, dict[str, str] | None]:
    """``status.resources`` and ``status.allocatedResources``: containers and sidecars together, or an init container's if
    that is more; what the pod says as a whole counts instead."""
    pod = state.pod
    records = {record.name: record for record in state.containers}

    def requests_of(container: Container) -> dict[str, str]:
        return container_requests(container, resources_of(records[container.name], container))

    def limits_of(container: Container) -> dict[str, str]:
        has = resources_of(records[container.name], container)
        return (has.limits if has is not None else None) or {}

    def allocated_of(container: Container) -> dict[str, str]:
        return container_requests(container, allocated_to(records[container.name], container))

    requests, limits, allocated = (_total(pod, one) for one in (requests_of, limits_of, allocated_of))
    own = pod.spec.resources
    if own is not None:
        requests.update(own.requests or {})
        allocated.update(own.requests or {})
        limits.update(own.limits or {})
    return ResourceRequirements(limits=limits or None, requests=requests or None), allocated or None


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

"""Requests and limits as the engine's numbers. Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet import container_cgroup
from virtual_kubelet.objects.core_v1 import ResourceRequirements

__all__ = ["docker_update", "engine_resources", "podman_update"]

_PERIOD: Final = 100_000
_NO_LIMIT: Final = {"CpuQuota": -1, "Memory": -1, "MemorySwap": -1}


def engine_resources(resources: ResourceRequirements | None) -> dict[str, Any]:
    """The part of ``HostConfig`` that limits a container. Zero: no limit.

    There is no swap for a container with a limit of memory, as on a kubelet without swap.
    """
    limits = container_cgroup(resources)
    return {
        "CpuShares": limits.cpu_shares,
        "CpuPeriod": 0 if limits.cpu_quota is None else _PERIOD,
        "CpuQuota": limits.cpu_quota or 0,
        "Memory": limits.memory or 0,
        "MemorySwap": limits.memory or 0,
    }


def docker_update(resources: ResourceRequirements | None) -> dict[str, Any]:
    """The body of ``/containers/{id}/update``: a limit that is not there any more is -1, for 0 leaves the old one."""
    return {name: value or _NO_LIMIT.get(name, value) for name, value in engine_resources(resources).items()}


def podman_update(resources: ResourceRequirements | None) -> dict[str, Any]:
    """The same as the OCI's ``LinuxResources``, for Podman's own API."""
    limits = docker_update(resources)
    cpu = {"shares": limits["CpuShares"], "quota": limits["CpuQuota"], "period": limits["CpuPeriod"] or _PERIOD}
    return {"cpu": cpu, "memory": {"limit": limits["Memory"], "swap": limits["MemorySwap"]}}

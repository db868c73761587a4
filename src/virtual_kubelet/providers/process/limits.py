"""A pod's and a container's limits as the supervisor wants them. Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet import CgroupLimits, container_cgroup, cpu_weight, pod_cgroup
from virtual_kubelet.objects.core_v1 import Container, Pod

__all__ = ["group_limits"]

#: Microseconds in which a CPU quota is counted (the kubelet's ``cpuCFSQuotaPeriod``).
_PERIOD: Final = 100_000


def group_limits(pod: Pod, container: Container, *, pod_pids: int | None) -> dict[str, Any]:
    """``pod``: of the group of all its containers; ``own``: of the container's. See ``cgroup_files.group_files``."""
    return {"pod": _limits(pod_cgroup(pod), pod_pids), "own": _limits(container_cgroup(container.resources), None)}


def _limits(limits: CgroupLimits, pids: int | None) -> dict[str, Any]:
    return {
        "shares": limits.cpu_shares,
        "weight": cpu_weight(limits.cpu_shares),
        "quota": limits.cpu_quota,
        "period": _PERIOD,
        "memory": limits.memory,
        "pids": pids,
    }

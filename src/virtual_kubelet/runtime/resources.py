"""Requests and limits as the numbers a kernel takes: CPU shares and quota, memory, how likely the OOM killer is. Pure.

Kubernetes: pkg/kubelet/kuberuntime/kuberuntime_container_linux.go, pkg/kubelet/cm/helpers_linux.go, pkg/kubelet/qos/
policy.go, pkg/apis/core/v1/helper/qos. Quantities that are none raise ``ValueError``; the API server lets none through.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from virtual_kubelet.objects.core_v1 import Container, Pod, ResourceRequirements
from virtual_kubelet.objects.pod_fitting import pod_limits, pod_requests
from virtual_kubelet.objects.quantity import Quantity
from virtual_kubelet.objects.serialization import to_builtins

__all__ = [
    "CPU_PERIOD",
    "CgroupLimits",
    "QosClass",
    "container_cgroup",
    "cpu_quota",
    "cpu_shares",
    "cpu_weight",
    "oom_score_adjustment",
    "pod_cgroup",
    "qos_class",
]

#: Microseconds in which a quota is counted.
CPU_PERIOD: Final = 100_000
_LEAST_QUOTA: Final = 1_000
_LEAST_SHARES: Final = 2
_MOST_SHARES: Final = 262_144
_SHARES_PER_CPU: Final = 1_024

_GUARANTEED_OOM: Final = -997
_BEST_EFFORT_OOM: Final = 1000
#: The only priority class whose pods are spared like guaranteed ones.
_NODE_CRITICAL: Final = "system-node-critical"
_CRITICAL_PRIORITY: Final = 2_000_000_000


class QosClass(StrEnum):
    """What ``status.qosClass`` says."""

    GUARANTEED = "Guaranteed"
    BURSTABLE = "Burstable"
    BEST_EFFORT = "BestEffort"


@dataclass(frozen=True, slots=True)
class CgroupLimits:
    """Of a container, or of a pod.

    Attributes:
        cpu_shares: of cgroup v1; ``cpu_weight`` makes the weight of v2 of it.
        cpu_quota: microseconds in each ``CPU_PERIOD``; None: no limit.
        memory: bytes; None: no limit.
    """

    cpu_shares: int
    cpu_quota: int | None = None
    memory: int | None = None


def cpu_shares(milli_cpu: int) -> int:
    """As ``MilliCPUToShares``."""
    return min(_MOST_SHARES, max(_LEAST_SHARES, milli_cpu * _SHARES_PER_CPU // 1000))


def cpu_weight(shares: int) -> int:
    """The ``cpu.weight`` of cgroup v2, 1 to 10000, for shares of v1 (KEP-2254)."""
    return 1 + (min(_MOST_SHARES, max(_LEAST_SHARES, shares)) - 2) * 9999 // 262142


def cpu_quota(milli_cpu: int, period: int = CPU_PERIOD) -> int | None:
    """Microseconds in each period, as ``MilliCPUToQuota``; None for no limit, which 0 is."""
    return max(_LEAST_QUOTA, milli_cpu * period // 1000) if milli_cpu else None


def container_cgroup(resources: ResourceRequirements | None) -> CgroupLimits:
    """Of one container. A CPU limit without a request is the request too."""
    limits, requests = _of(resources, "limits"), _of(resources, "requests")
    limit, request = _milli(limits, "cpu"), _milli(requests, "cpu")
    return CgroupLimits(
        cpu_shares(limit if limit and not request else request), cpu_quota(limit), _bytes(limits, "memory") or None
    )


def pod_cgroup(pod: Pod) -> CgroupLimits:
    """Of a whole pod (``ResourceConfigForPod``): limited only if all its containers are, or the pod itself."""
    spec: dict[str, Any] = to_builtins(pod.spec)
    requests, limits = pod_requests(spec), pod_limits(spec)
    match qos_class(pod):
        case QosClass.BEST_EFFORT:
            return CgroupLimits(_LEAST_SHARES)
        case QosClass.GUARANTEED:
            declared = {"cpu", "memory"}
        case QosClass.BURSTABLE:
            own = _of(pod.spec.resources, "limits")
            declared = {
                name
                for name in ("cpu", "memory")
                if _positive(own, name) or all(_positive(_of(c.resources, "limits"), name) for c in _containers(pod))
            }
    return CgroupLimits(
        cpu_shares(requests.cpu),
        cpu_quota(limits.get("cpu", 0)) if "cpu" in declared else None,
        (limits.get("memory") or None) if "memory" in declared else None,
    )


def qos_class(pod: Pod) -> QosClass:
    """As the API server sets it (``ComputePodQOS``): by the pod's own resources if it has any, else by its containers'."""
    sources = [c.resources for c in _containers(pod)] if pod.spec.resources is None else [pod.spec.resources]
    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}
    guaranteed = True
    for resources in sources:
        for name in ("cpu", "memory"):
            if amount := _positive(_of(resources, "requests"), name):
                requests[name] = requests[name] + amount if name in requests else amount
            if amount := _positive(_of(resources, "limits"), name):
                limits[name] = limits[name] + amount if name in limits else amount
            else:
                guaranteed = False
    if not requests and not limits:
        return QosClass.BEST_EFFORT
    return QosClass.GUARANTEED if guaranteed and requests == limits else QosClass.BURSTABLE


def oom_score_adjustment(pod: Pod, container: Container, memory_capacity: int) -> int:
    """The ``oom_score_adj`` of a container: -997 to 1000, the higher the sooner it is killed.

    Args:
        memory_capacity: bytes that the machine has.
    """
    if pod.spec.priority_class_name == _NODE_CRITICAL and (pod.spec.priority or 0) >= _CRITICAL_PRIORITY:
        return _GUARANTEED_OOM
    match qos_class(pod):
        case QosClass.GUARANTEED:
            return _GUARANTEED_OOM
        case QosClass.BEST_EFFORT:
            return _BEST_EFFORT_OOM
        case QosClass.BURSTABLE:
            score = 1000 - 1000 * _oom_share(pod, container) // memory_capacity
            # Above a guaranteed container that uses all memory, below best effort.
            return min(_BEST_EFFORT_OOM - 1, max(1000 + _GUARANTEED_OOM, score))


def _oom_share(pod: Pod, container: Container) -> int:
    """The bytes that a container of a burstable pod is spared for."""
    own = _bytes(_of(container.resources, "requests"), "memory")
    everyone = list(_containers(pod))
    of_pod = _bytes(_of(pod.spec.resources, "requests"), "memory")
    if of_pod and everyone:
        # What the pod asks for beyond its containers is shared among them.
        asked = sum(_bytes(_of(c.resources, "requests"), "memory") for c in everyone)
        own += max(0, of_pod - asked) // len(everyone)
    sidecars = [c for c in pod.spec.init_containers or () if c.restart_policy == "Always"]
    if any(c.name == container.name for c in sidecars):
        # A sidecar is spared at least as long as the first container that depends on it.
        least = min((_bytes(_of(c.resources, "requests"), "memory") for c in pod.spec.containers), default=0)
        own = max(own, least)
    return own


def _containers(pod: Pod) -> Iterator[Container]:
    yield from pod.spec.init_containers or ()
    yield from pod.spec.containers


def _of(resources: ResourceRequirements | None, kind: str) -> Mapping[str, str]:
    if resources is None:
        return {}
    return (resources.limits if kind == "limits" else resources.requests) or {}


def _positive(amounts: Mapping[str, str], name: str) -> Quantity | None:
    amount = Quantity(amounts.get(name) or "0")
    return amount if amount > Quantity(0) else None


def _milli(amounts: Mapping[str, str], name: str) -> int:
    return Quantity(amounts.get(name) or "0").milli_value()


def _bytes(amounts: Mapping[str, str], name: str) -> int:
    return Quantity(amounts.get(name) or "0").value()

"""What mock pods seem to use: each running container just what it requests, since it runs. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from virtual_kubelet.objects.core_v1 import Container, Pod
from virtual_kubelet.objects.quantity import Quantity
from virtual_kubelet.objects.stats_v1alpha1 import (
    ContainerStats,
    CPUStats,
    MemoryStats,
    NodeStats,
    PodReference,
    PodStats,
    Summary,
)

__all__ = ["cpu_time_of", "pod_stats", "summary_of"]


def summary_of(
    node_name: str, started: datetime, pods: Iterable[PodStats], now: datetime, *, ended_ns: int = 0
) -> Summary:
    """The node uses what its pods do.

    Args:
        started: when the node did.
        ended_ns: CPU time of pods that have ended.
    """
    shown = list(pods)
    cpu = _cpu([pod.cpu for pod in shown], now)
    cpu.usage_core_nano_seconds = (cpu.usage_core_nano_seconds or 0) + ended_ns
    return Summary(
        node=NodeStats(
            node_name=node_name,
            start_time=started,
            cpu=cpu,
            memory=_memory([pod.memory for pod in shown], now),
        ),
        pods=shown,
    )


def pod_stats(pod: Pod, started: datetime, now: datetime) -> PodStats:
    """Of a pod whose containers run since ``started``."""
    containers = [_container(container, started, now) for container in pod.spec.containers]
    meta = pod.metadata
    return PodStats(
        pod_ref=PodReference(name=meta.name or "", namespace=meta.namespace or "", uid=meta.uid or ""),
        start_time=started,
        containers=containers,
        cpu=_cpu([container.cpu for container in containers], now),
        memory=_memory([container.memory for container in containers], now),
    )


def cpu_time_of(pod: Pod, started: datetime, now: datetime) -> int:
    """What a pod has used since it runs, nanoseconds of CPU."""
    return sum(_cpu_time(container, started, now) for container in pod.spec.containers)


def _cpu_time(container: Container, started: datetime, now: datetime) -> int:
    microseconds = max(0, (now - started) // timedelta(microseconds=1))
    return _requested(container, "cpu").milli_value() * microseconds


def _container(container: Container, started: datetime, now: datetime) -> ContainerStats:
    nano_cores = _requested(container, "cpu").milli_value() * 1_000_000
    working_set = _requested(container, "memory").value()
    return ContainerStats(
        name=container.name,
        start_time=started,
        cpu=CPUStats(time=now, usage_nano_cores=nano_cores, usage_core_nano_seconds=_cpu_time(container, started, now)),
        memory=MemoryStats(time=now, usage_bytes=working_set, working_set_bytes=working_set, rss_bytes=working_set),
    )


def _requested(container: Container, name: str) -> Quantity:
    """The request, or else the limit, which is the default of a request; 0 without both."""
    resources = container.resources
    for amounts in (resources.requests, resources.limits) if resources is not None else ():
        if amounts and name in amounts:
            return Quantity(amounts[name])
    return Quantity("0")


def _cpu(parts: Iterable[CPUStats | None], now: datetime) -> CPUStats:
    known = [part for part in parts if part is not None]
    return CPUStats(
        time=now,
        usage_nano_cores=sum(part.usage_nano_cores or 0 for part in known),
        usage_core_nano_seconds=sum(part.usage_core_nano_seconds or 0 for part in known),
    )


def _memory(parts: Iterable[MemoryStats | None], now: datetime) -> MemoryStats:
    total = sum(part.working_set_bytes or 0 for part in parts if part is not None)
    return MemoryStats(time=now, usage_bytes=total, working_set_bytes=total, rss_bytes=total)

"""The Summary of a node whose containers' statistics are known by id (pkg/kubelet/server/stats). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from msgspec.structs import replace

from virtual_kubelet.objects.stats_v1alpha1 import (
    ContainerStats,
    CPUStats,
    MemoryStats,
    NodeStats,
    PodReference,
    PodStats,
    Summary,
)
from virtual_kubelet.runtime.pod_state import PodState

__all__ = ["build_summary", "running_ids"]


def running_ids(states: Iterable[PodState]) -> list[str]:
    """The runtime's ids of all containers that run."""
    return [r.run.id for state in states for r in state.containers if r.up and r.run is not None and r.run.id]


def build_summary(node: NodeStats, states: Iterable[PodState], known: Mapping[str, ContainerStats]) -> Summary:
    """Pods none of whose containers is known are left out, as by a kubelet."""
    pods = []
    for state in states:
        containers = [
            replace(known[r.run.id], name=r.name)
            for r in state.containers
            if r.up and r.run is not None and r.run.id in known
        ]
        if containers:
            pods.append(_pod(state, containers))
    return Summary(node=node, pods=pods)


def _pod(state: PodState, containers: Sequence[ContainerStats]) -> PodStats:
    meta = state.pod.metadata
    return PodStats(
        pod_ref=PodReference(name=meta.name or "", namespace=meta.namespace or "", uid=meta.uid or ""),
        start_time=state.start_time,
        containers=list(containers),
        cpu=_cpu([c.cpu for c in containers if c.cpu is not None]),
        memory=_memory([c.memory for c in containers if c.memory is not None]),
    )


def _sum(amounts: Iterable[int | None]) -> int | None:
    """What one does not know, the sum does not know."""
    total = 0
    for amount in amounts:
        if amount is None:
            return None
        total += amount
    return total


def _latest(times: Iterable[datetime]) -> datetime:
    return max(times)


def _cpu(known: Sequence[CPUStats]) -> CPUStats | None:
    if not known:
        return None
    return CPUStats(
        time=_latest(cpu.time for cpu in known),
        usage_nano_cores=_sum(cpu.usage_nano_cores for cpu in known),
        usage_core_nano_seconds=_sum(cpu.usage_core_nano_seconds for cpu in known),
    )


def _memory(known: Sequence[MemoryStats]) -> MemoryStats | None:
    if not known:
        return None
    return MemoryStats(
        time=_latest(memory.time for memory in known),
        available_bytes=_sum(memory.available_bytes for memory in known),
        usage_bytes=_sum(memory.usage_bytes for memory in known),
        working_set_bytes=_sum(memory.working_set_bytes for memory in known),
        rss_bytes=_sum(memory.rss_bytes for memory in known),
        page_faults=_sum(memory.page_faults for memory in known),
        major_page_faults=_sum(memory.major_page_faults for memory in known),
    )

"""The process provider's Summary: this machine, and what each container's processes use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from virtual_kubelet import Clock
from virtual_kubelet.objects.stats_v1alpha1 import (
    ContainerStats,
    CPUStats,
    FsStats,
    MemoryStats,
    PodReference,
    PodStats,
    ProcessStats,
    Summary,
)
from virtual_kubelet.providers.process.cgroup_usage import group_usage
from virtual_kubelet.providers.process.machine_usage import file_system, machine_usage
from virtual_kubelet.providers.process.process_usage import Usage, usage_of

__all__ = ["ProcessStatistics"]

#: Seconds between two measurements from which a rate can be told; kernels count CPU in hundredths of a second.
_SHORTEST_SPAN: Final = 1.0


@dataclass(slots=True)
class _Spent:
    """CPU time of one thing at a time, how fast it had grown until then, and the most that was told of it since."""

    time: datetime
    cpu_ns: int
    told_ns: int
    nano_cores: int | None = None


class ProcessStatistics:
    """Looks at /proc when it is asked."""

    def __init__(
        self,
        node_name: str,
        directory: Path,
        described: Callable[[], Awaitable[Sequence[dict[str, Any]]]],
        *,
        clock: Clock,
    ) -> None:
        """
        Args:
            node_name: of the Node.
            directory: of the supervisor; has the containers' logs.
            described: asks the supervisor for its containers.
            clock: wall time of measurements.
        """
        self._node_name = node_name
        self._directory = directory
        self._described = described
        self._clock = clock
        self._spent: dict[str, _Spent] = {}  # by container id; "" is the node
        self._one_at_a_time = asyncio.Lock()

    async def summary(self, *, only_cpu_and_memory: bool) -> Summary:
        """Raises ``TransientError`` if the supervisor cannot be had."""
        async with self._one_at_a_time:
            containers = [one for one in await self._described() if one["exit"] is None]
            return await asyncio.to_thread(self._look, containers, only_cpu_and_memory)

    def _look(self, containers: Sequence[dict[str, Any]], lean: bool) -> Summary:
        now = self._clock.now()
        node = machine_usage(self._node_name, now, directory=self._directory)
        assert node.cpu is not None
        self._spend("", node.cpu)
        usage = usage_of({one["id"]: one["pid"] for one in containers})
        pods: dict[str, list[tuple[dict[str, Any], Usage]]] = {}
        for one in containers:
            if one["id"] in usage:
                used = usage[one["id"]].corrected(group_usage(one.get("cgroups", {})))
                pods.setdefault(one["labels"]["uid"], []).append((one, used))
        summary = Summary(node=node, pods=[self._pod(members, now, lean) for members in pods.values()])
        for gone in self._spent.keys() - {"", *usage}:
            del self._spent[gone]
        return summary

    def _pod(self, members: Sequence[tuple[dict[str, Any], Usage]], now: datetime, lean: bool) -> PodStats:
        labels = members[0][0]["labels"]
        containers = [self._container(described, usage, now, lean) for described, usage in members]
        return PodStats(
            pod_ref=PodReference(name=labels["pod"], namespace=labels["namespace"], uid=labels["uid"]),
            start_time=min(container.start_time for container in containers),
            containers=containers,
            cpu=_sum_cpu(containers, now),
            memory=_memory([usage for _, usage in members], now),
            process_stats=ProcessStats(process_count=sum(usage.processes for _, usage in members)),
        )

    def _container(self, described: dict[str, Any], usage: Usage, now: datetime, lean: bool) -> ContainerStats:
        cpu = CPUStats(time=now, usage_core_nano_seconds=usage.cpu_ns)
        self._spend(described["id"], cpu)
        return ContainerStats(
            name=described["labels"]["container"],
            start_time=datetime.fromtimestamp(described["started_ns"] / 1e9, UTC),
            cpu=cpu,
            memory=_memory([usage], now),
            logs=None if lean else self._logs(described["id"], now),
        )

    def _spend(self, name: str, cpu: CPUStats) -> None:
        """Complete ``cpu`` from what is known of the past: the counter never falls, and its growth is a rate."""
        assert cpu.usage_core_nano_seconds is not None
        used = cpu.usage_core_nano_seconds
        before = self._spent.get(name)
        if before is None:
            self._spent[name] = _Spent(cpu.time, used, used)
            return
        cpu.usage_core_nano_seconds = before.told_ns = used = max(used, before.told_ns)
        seconds = (cpu.time - before.time).total_seconds()
        if seconds >= _SHORTEST_SPAN:
            before.nano_cores = round((used - before.cpu_ns) / seconds)
            before.time, before.cpu_ns = cpu.time, used
        cpu.usage_nano_cores = before.nano_cores

    def _logs(self, container_id: str, now: datetime) -> FsStats:
        directory = self._directory / "containers" / container_id
        stats = file_system(self._directory, now)
        sizes = []
        for path in directory.glob("log.*"):
            with contextlib.suppress(FileNotFoundError):  # rotated away meanwhile
                sizes.append(path.stat().st_size)
        stats.used_bytes, stats.inodes_used = sum(sizes), len(sizes)
        return stats


def _sum_cpu(containers: Sequence[ContainerStats], now: datetime) -> CPUStats:
    known = [container.cpu for container in containers if container.cpu is not None]
    rates = [cpu.usage_nano_cores for cpu in known]
    return CPUStats(
        time=now,
        usage_nano_cores=None if None in rates else sum(rate or 0 for rate in rates),
        usage_core_nano_seconds=sum(cpu.usage_core_nano_seconds or 0 for cpu in known),
    )


def _memory(usages: Sequence[Usage], now: datetime) -> MemoryStats:
    """Without cgroups, resident memory is all that is known: it stands for usage and working set too."""
    resident = sum(usage.rss_bytes for usage in usages)
    return MemoryStats(
        time=now,
        usage_bytes=sum(usage.rss_bytes if usage.usage_bytes is None else usage.usage_bytes for usage in usages),
        working_set_bytes=sum(
            usage.rss_bytes if usage.working_set_bytes is None else usage.working_set_bytes for usage in usages
        ),
        rss_bytes=resident,
        page_faults=sum(usage.page_faults for usage in usages),
        major_page_faults=sum(usage.major_page_faults for usage in usages),
    )

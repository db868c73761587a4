"""What containers use, by the engine's own numbers. Pure but for ``container_statistics``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from virtual_kubelet.objects.stats_v1alpha1 import ContainerStats, CPUStats, MemoryStats
from virtual_kubelet_docker.daemon import Daemon, DaemonError
from virtual_kubelet_docker.instances import parse_time

__all__ = ["container_statistics", "stats_of"]

#: Requests to the engine at once.
_AT_ONCE: Final = 8
#: Seconds for all answers: less than the engine of pods waits for them.
_LONGEST: Final = 8.0


async def container_statistics(
    daemon: Daemon,
    container_ids: Sequence[str],
    started: Mapping[str, datetime],
    now: datetime,
    *,
    longest: float = _LONGEST,
) -> dict[str, ContainerStats]:
    """By id; those that do not run are left out, and so are those of which the engine says nothing in time.

    Args:
        longest: seconds.

    Raises ``DaemonError`` if the engine cannot be reached, or says nothing at all in time.
    """
    machine_memory = int(daemon.info.get("MemTotal") or 0)
    gate = asyncio.Semaphore(_AT_ONCE)
    found: dict[str, ContainerStats] = {}

    async def look(container_id: str) -> None:
        async with gate:
            try:
                told = await daemon.get(f"containers/{container_id}/stats", **{"stream": False, "one-shot": True})
            except DaemonError as error:
                if error.status in (404, 409, 500):  # it has ended meanwhile
                    return
                raise
        if told and (told.get("memory_stats") or {}).get("usage"):  # else it has ended: the engine gives zeros
            found[container_id] = stats_of(told, started.get(container_id, now), now, machine_memory=machine_memory)

    try:
        async with asyncio.timeout(longest), asyncio.TaskGroup() as tasks:
            for container_id in container_ids:
                tasks.create_task(look(container_id))
    except TimeoutError:
        if not found:
            raise DaemonError(0, f"the container engine has given no statistics within {longest:g} s") from None
    return found


def stats_of(told: Mapping[str, Any], started: datetime, now: datetime, *, machine_memory: int) -> ContainerStats:
    """One answer of ``/containers/{id}/stats``. What the engine does not say stays None.

    Args:
        machine_memory: bytes; a limit of as much is none.
    """
    at = parse_time(told.get("read")) or now
    memory = told.get("memory_stats") or {}
    details = memory.get("stats") or {}
    usage = memory.get("usage")
    inactive = details.get("total_inactive_file", details.get("inactive_file", 0))
    working_set = None if usage is None else max(0, usage - inactive)
    limit = memory.get("limit") or 0
    limited = 0 < limit < machine_memory and working_set is not None
    return ContainerStats(
        name="",
        start_time=started,
        cpu=CPUStats(time=at, usage_core_nano_seconds=int(told["cpu_stats"]["cpu_usage"].get("total_usage") or 0)),
        memory=MemoryStats(
            time=at,
            usage_bytes=usage,
            working_set_bytes=working_set,
            rss_bytes=details.get("total_rss", details.get("anon")),
            page_faults=details.get("total_pgfault", details.get("pgfault")),
            major_page_faults=details.get("total_pgmajfault", details.get("pgmajfault")),
            available_bytes=max(0, limit - (working_set or 0)) if limited else None,
        ),
    )

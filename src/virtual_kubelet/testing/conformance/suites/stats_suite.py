"""What pods use: ``/stats/summary`` and ``/metrics/resource`` of the node, by the API server."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.testing.conformance.check import promise
from virtual_kubelet.testing.conformance.expectations import expect
from virtual_kubelet.testing.conformance.stage import Stage


async def _pod_stats(stage: Stage, pod: Pod) -> dict[str, Any]:
    """What the summary has of this pod; empty if nothing."""
    summary = msgspec.json.decode(await stage.user.node(stage.node_name, "stats/summary"))
    for found in summary.get("pods") or ():
        if found["podRef"]["uid"] == pod.metadata.uid:
            stats: dict[str, Any] = found
            return stats
    return {}


def _working_set(stats: dict[str, Any]) -> int:
    containers = stats.get("containers") or [{}]
    found: int = (containers[0].get("memory") or {}).get("workingSetBytes", -1)
    return found


def _cpu_time(stats: dict[str, Any]) -> int:
    containers = stats.get("containers") or [{}]
    found: int = (containers[0].get("cpu") or {}).get("usageCoreNanoSeconds", -1)
    return found


@promise("runs")
async def summary(stage: Stage) -> None:
    """The summary has the node's CPU and memory, and each running pod by UID, its containers with both."""
    pod = await stage.start(stage.runs())
    stats = await stage.sees(
        lambda: _pod_stats(stage, pod),
        lambda found: _working_set(found) >= 0 and _cpu_time(found) >= 0,
        "CPU and memory",
    )
    names = [one["name"] for one in stats["containers"]]
    expect(names == ["main"], "its container by name", names)
    whole = msgspec.json.decode(await stage.user.node(stage.node_name, "stats/summary"))
    node = whole["node"]
    expect(node["nodeName"] == stage.node_name, "the node's name", node["nodeName"])
    expect("cpu" in node and "memory" in node, "the node's CPU and memory", sorted(node))


@promise("shell")
async def what_is_used(stage: Stage) -> None:
    """A container that computes has its CPU time grow, by more than one that sleeps."""
    busy = await stage.start(stage.shell("while :; do :; done"))
    idle = await stage.start(stage.runs())
    first = await stage.sees(lambda: _pod_stats(stage, busy), lambda found: _cpu_time(found) > 0, "CPU time")
    await stage.sees(
        lambda: _pod_stats(stage, busy),
        lambda found: _cpu_time(found) >= _cpu_time(first) + 100_000_000,
        "a tenth of a second more of CPU time",
    )
    sleeping = _cpu_time(await _pod_stats(stage, idle))
    working = _cpu_time(await _pod_stats(stage, busy))
    expect(0 <= sleeping < working, "one that sleeps uses less", f"{sleeping} and {working} ns")


@promise("runs")
async def resource_metrics(stage: Stage) -> None:
    """/metrics/resource, of which kubectl top lives, has the container's CPU and memory."""
    pod = await stage.start(stage.runs())
    name = re.escape(pod.metadata.name or "")
    for metric in ("container_cpu_usage_seconds_total", "container_memory_working_set_bytes"):
        line = re.compile(rf'^{metric}\{{[^}}]*container="main"[^}}]*pod="{name}"[^}}]*\}} \S+'.encode(), re.MULTILINE)
        await stage.sees(
            lambda: stage.user.node(stage.node_name, "metrics/resource"),
            lambda text, line=line: line.search(text),  # type: ignore[misc]
            f"{metric} of the container",
        )


@promise("exits")
async def ended_pods(stage: Stage) -> None:
    """A pod that has ended uses nothing: it is not in the summary."""
    pod = await stage.finish(stage.exits(0, seconds=1))
    await stage.sees(lambda: _pod_stats(stage, pod), lambda found: not found.get("containers"), "no statistics of it")

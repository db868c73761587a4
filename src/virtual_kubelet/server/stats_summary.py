"""``/stats/summary``: a Summary as the kubelet writes it. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from virtual_kubelet.objects.stats_v1alpha1 import ContainerStats, NodeStats, PodStats, Summary

__all__ = ["only_cpu_and_memory", "summary_json"]

#: ``metav1.Time`` has whole seconds. Inside a JSON string each quotation mark has a backslash before it, so this matches
#: members of objects only.
_FRACTION: Final = re.compile(rb'((?<!\\)"(?:time|startTime)":"[^".]*)\.\d+')


def summary_json(summary: Summary) -> bytes:
    """Indented by one, times in whole seconds."""
    return msgspec.json.format(_FRACTION.sub(rb"\1", msgspec.json.encode(summary)), indent=1)


def only_cpu_and_memory(summary: Summary) -> Summary:
    """Without network, file systems and what else is not CPU, memory or swap (GetCPUAndMemoryStats)."""
    node = summary.node
    return Summary(
        node=NodeStats(
            node_name=node.node_name,
            system_containers=None if node.system_containers is None else [_lean(c) for c in node.system_containers],
            start_time=node.start_time,
            cpu=node.cpu,
            memory=node.memory,
            swap=node.swap,
        ),
        pods=[
            PodStats(
                pod_ref=pod.pod_ref,
                start_time=pod.start_time,
                containers=[_lean(container) for container in pod.containers],
                cpu=pod.cpu,
                memory=pod.memory,
                swap=pod.swap,
            )
            for pod in summary.pods
        ],
    )


def _lean(container: ContainerStats) -> ContainerStats:
    return ContainerStats(
        name=container.name,
        start_time=container.start_time,
        cpu=container.cpu,
        memory=container.memory,
        swap=container.swap,
    )

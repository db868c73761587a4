"""stats/v1alpha1: the kubelet's ``/stats/summary`` (k8s.io/kubelet/pkg/apis/stats/v1alpha1), without volumes.

Written by hand: the API server's OpenAPI does not have it. What is not known stays None and is left out; it is never 0.
Times are ``datetime`` with a time zone. Numbers are bytes, nanoseconds of CPU and counts since the start of what they are
about; ``usage_nano_cores`` is CPU in billionths of a core at that time.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

__all__ = [
    "CPUStats",
    "ContainerStats",
    "FsStats",
    "InterfaceStats",
    "MemoryStats",
    "NetworkStats",
    "NodeStats",
    "PSIData",
    "PSIStats",
    "PodReference",
    "PodStats",
    "ProcessStats",
    "RlimitStats",
    "RuntimeStats",
    "Summary",
    "SwapStats",
]


class PSIData(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    """Pressure: total microseconds, and percentages of the last 10, 60 and 300 seconds."""

    total: int
    avg10: int | float
    avg60: int | float
    avg300: int | float


class PSIStats(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    full: PSIData
    some: PSIData


class CPUStats(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    time: datetime
    usage_nano_cores: int | None = None
    usage_core_nano_seconds: int | None = None
    psi: PSIStats | None = None


class MemoryStats(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    """``available_bytes`` only where there is a limit."""

    time: datetime
    available_bytes: int | None = None
    usage_bytes: int | None = None
    working_set_bytes: int | None = None
    rss_bytes: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    psi: PSIStats | None = None


class SwapStats(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    time: datetime
    swap_available_bytes: int | None = None
    swap_usage_bytes: int | None = None


class InterfaceStats(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    name: str
    rx_bytes: int | None = None
    rx_errors: int | None = None
    tx_bytes: int | None = None
    tx_errors: int | None = None


class NetworkStats(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    """The default interface's numbers, and those of all interfaces."""

    time: datetime
    name: str = ""
    rx_bytes: int | None = None
    rx_errors: int | None = None
    tx_bytes: int | None = None
    tx_errors: int | None = None
    interfaces: list[InterfaceStats] | None = None


class FsStats(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    time: datetime
    available_bytes: int | None = None
    capacity_bytes: int | None = None
    used_bytes: int | None = None
    inodes_free: int | None = None
    inodes: int | None = None
    inodes_used: int | None = None


class RuntimeStats(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    image_fs: FsStats | None = None
    container_fs: FsStats | None = None


class RlimitStats(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    time: datetime
    maxpid: int | None = None
    curproc: int | None = None


class ProcessStats(Struct, omit_defaults=True, kw_only=True):
    process_count: int | None = None


class ContainerStats(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    name: str
    start_time: datetime
    cpu: CPUStats | None = None
    memory: MemoryStats | None = None
    rootfs: FsStats | None = None
    logs: FsStats | None = None
    swap: SwapStats | None = None


class PodReference(Struct, omit_defaults=True, kw_only=True):
    name: str
    namespace: str
    uid: str


class PodStats(
    Struct,
    omit_defaults=True,
    kw_only=True,
    rename={
        "pod_ref": "podRef",
        "start_time": "startTime",
        "ephemeral_storage": "ephemeral-storage",
    },
):
    pod_ref: PodReference
    start_time: datetime
    containers: list[ContainerStats]
    cpu: CPUStats | None = None
    memory: MemoryStats | None = None
    network: NetworkStats | None = None
    ephemeral_storage: FsStats | None = None
    process_stats: ProcessStats | None = None
    swap: SwapStats | None = None


class NodeStats(Struct, omit_defaults=True, kw_only=True, rename="camel"):
    """``system_containers``: parts of the machine (``kubelet``, ``runtime``, ``pods``), each with its usage."""

    node_name: str
    system_containers: list[ContainerStats] | None = None
    start_time: datetime
    cpu: CPUStats | None = None
    memory: MemoryStats | None = None
    network: NetworkStats | None = None
    fs: FsStats | None = None
    runtime: RuntimeStats | None = None
    rlimit: RlimitStats | None = None
    swap: SwapStats | None = None


class Summary(Struct, omit_defaults=True, kw_only=True):
    """The node and its pods that run."""

    node: NodeStats
    pods: list[PodStats]

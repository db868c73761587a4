"""What this machine uses, from /proc: the node's own statistics. Blocking; what is not there is None."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from virtual_kubelet.objects.stats_v1alpha1 import (
    CPUStats,
    FsStats,
    InterfaceStats,
    MemoryStats,
    NetworkStats,
    NodeStats,
    RlimitStats,
    SwapStats,
)

__all__ = ["file_system", "machine_usage"]

_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def machine_usage(node_name: str, now: datetime, *, directory: Path, proc: Path = Path("/proc")) -> NodeStats:
    """The node's part of a Summary.

    Args:
        node_name: of the Node.
        now: the time of the measurements.
        directory: on the file system that counts as the node's.
        proc: where the kernel shows its numbers.
    """
    stat = _table(proc / "stat")
    memory = _table(proc / "meminfo")
    return NodeStats(
        node_name=node_name,
        start_time=datetime.fromtimestamp(int(stat["btime"][0]), UTC),
        # user, nice, system, irq, softirq, steal: all but idle and waiting; guests are in user already.
        cpu=CPUStats(time=now, usage_core_nano_seconds=sum(int(stat["cpu"][at]) for at in (0, 1, 2, 5, 6, 7)) * _TICK),
        memory=_memory(memory, _table(proc / "vmstat"), now),
        network=_network(proc, now),
        fs=file_system(directory, now),
        rlimit=_processes(proc, now),
        swap=_swap(memory, now),
    )


def file_system(directory: Path, now: datetime) -> FsStats:
    """Of the file system that ``directory`` is on."""
    found = os.statvfs(directory)
    return FsStats(
        time=now,
        available_bytes=found.f_bavail * found.f_frsize,
        capacity_bytes=found.f_blocks * found.f_frsize,
        used_bytes=(found.f_blocks - found.f_bfree) * found.f_frsize,
        inodes_free=found.f_ffree,
        inodes=found.f_files,
        inodes_used=found.f_files - found.f_ffree,
    )


def _table(path: Path) -> dict[str, list[str]]:
    """Lines of words by the first one, without its colon."""
    rows = (line.split() for line in path.read_text().splitlines())
    return {first.removesuffix(":"): rest for first, *rest in (row for row in rows if row)}


def _kilobytes(memory: dict[str, list[str]], name: str) -> int | None:
    return int(memory[name][0]) * 1024 if name in memory else None


def _memory(memory: dict[str, list[str]], events: dict[str, list[str]], now: datetime) -> MemoryStats:
    total, free, available = (_kilobytes(memory, name) for name in ("MemTotal", "MemFree", "MemAvailable"))
    return MemoryStats(
        time=now,
        available_bytes=available,
        usage_bytes=None if total is None or free is None else total - free,
        working_set_bytes=None if total is None or available is None else total - available,
        rss_bytes=_kilobytes(memory, "AnonPages"),
        page_faults=_count(events, "pgfault"),
        major_page_faults=_count(events, "pgmajfault"),
    )


def _count(table: dict[str, list[str]], name: str) -> int | None:
    return int(table[name][0]) if name in table else None


def _swap(memory: dict[str, list[str]], now: datetime) -> SwapStats | None:
    total, free = _kilobytes(memory, "SwapTotal"), _kilobytes(memory, "SwapFree")
    if total is None or free is None:
        return None
    return SwapStats(time=now, swap_available_bytes=free, swap_usage_bytes=total - free)


def _network(proc: Path, now: datetime) -> NetworkStats:
    interfaces = []
    for name, numbers in _table(proc / "net" / "dev").items():
        if name != "lo" and len(numbers) == 16 and numbers[0].isdigit():
            received, errors, sent, send_errors = (int(numbers[at]) for at in (0, 2, 8, 10))
            interfaces.append(
                InterfaceStats(name=name, rx_bytes=received, rx_errors=errors, tx_bytes=sent, tx_errors=send_errors)
            )
    default = _default_interface(proc)
    shown = next((one for one in interfaces if one.name == default), None)
    if shown is None:
        return NetworkStats(time=now, interfaces=interfaces)
    return NetworkStats(
        time=now,
        name=shown.name,
        rx_bytes=shown.rx_bytes,
        rx_errors=shown.rx_errors,
        tx_bytes=shown.tx_bytes,
        tx_errors=shown.tx_errors,
        interfaces=interfaces,
    )


def _default_interface(proc: Path) -> str | None:
    for line in (proc / "net" / "route").read_text().splitlines():
        words = line.split()
        if len(words) > 1 and words[1] == "00000000":
            return words[0]
    return None


def _processes(proc: Path, now: datetime) -> RlimitStats:
    _, total = (proc / "loadavg").read_text().split()[3].split("/")
    return RlimitStats(time=now, maxpid=int((proc / "sys" / "kernel" / "pid_max").read_text()), curproc=int(total))

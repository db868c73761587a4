"""What a group of processes uses, from the files of its cgroups, as a kubelet reckons it (cAdvisor's handler). Blocking."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["GroupUsage", "group_usage"]


class GroupUsage(NamedTuple):
    """Of one group at this moment; None: the kernel does not say.

    Attributes:
        cpu_ns: CPU time of all processes that were ever in it.
        usage_bytes: memory that is charged to it, page cache included.
        working_set_bytes: the same without the files that have not been used for long: what cannot be had back.
        rss_bytes: anonymous memory.
        page_faults, major_page_faults: since it was made.
        processes: number of them now.
    """

    cpu_ns: int | None = None
    usage_bytes: int | None = None
    working_set_bytes: int | None = None
    rss_bytes: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    processes: int | None = None


def group_usage(groups: Mapping[str, str]) -> GroupUsage:
    """Of the group with these directories: by controller in version 1, under "" in version 2. What is gone is None."""
    whole = groups.get("")
    if whole is not None:
        microseconds = _table(whole, "cpu.stat").get("usage_usec")
        cpu = None if microseconds is None else microseconds * 1000
        usage, stat, prefix, anonymous = _number(whole, "memory.current"), _table(whole, "memory.stat"), "", "anon"
    else:
        cpu = _number(groups.get("cpuacct"), "cpuacct.usage")
        memory = groups.get("memory")
        usage, stat = _number(memory, "memory.usage_in_bytes"), _table(memory, "memory.stat")
        prefix, anonymous = "total_", "total_rss"  # of the groups below, too, as version 2 has it
    inactive = stat.get(f"{prefix}inactive_file")
    return GroupUsage(
        cpu_ns=cpu,
        usage_bytes=usage,
        working_set_bytes=None if usage is None or inactive is None else max(0, usage - inactive),
        rss_bytes=stat.get(anonymous),
        page_faults=stat.get(f"{prefix}pgfault"),
        major_page_faults=stat.get(f"{prefix}pgmajfault"),
        processes=_processes(next(iter(groups.values()), None)),
    )


def _read(directory: str | None, name: str) -> str | None:
    if directory is None:
        return None
    try:
        with open(os.path.join(directory, name)) as file:
            return file.read()
    except OSError:  # no such controller, or the group has gone meanwhile (ENODEV)
        return None


def _number(directory: str | None, name: str) -> int | None:
    text = (_read(directory, name) or "").strip()
    return int(text) if text.isdigit() else None


def _table(directory: str | None, name: str) -> dict[str, int]:
    rows = (line.split() for line in (_read(directory, name) or "").splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _processes(directory: str | None) -> int | None:
    text = _read(directory, "cgroup.procs")
    return None if text is None else len(text.split())

"""What containers use, added up over their processes from /proc: CPU time, memory, page faults. Blocking."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from virtual_kubelet.providers.process.cgroup_usage import GroupUsage
from virtual_kubelet.providers.process.process_tree import mark_of

__all__ = ["Usage", "usage_of"]

_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """Of one container at this moment.

    Attributes:
        cpu_ns: CPU time of its processes and of those that they have waited for. What ended unnoticed by its parents (the
            last process of a double fork) is missing, so this may fall.
        rss_bytes: resident memory; what processes share counts for each.
        page_faults, major_page_faults: like ``cpu_ns``.
        processes: number of them.
        usage_bytes, working_set_bytes: if a cgroup says more about memory than what is resident.
    """

    cpu_ns: int
    rss_bytes: int
    page_faults: int
    major_page_faults: int
    processes: int
    usage_bytes: int | None = None
    working_set_bytes: int | None = None

    def corrected(self, group: GroupUsage) -> Usage:
        """With what the container's cgroup knows better: it forgets no process, and counts shared memory once."""
        known = {name: value for name, value in group._asdict().items() if value is not None}
        return self._replace(**known)


class _Process(NamedTuple):
    ppid: int
    session: int
    started: int
    usage: Usage


def usage_of(mains: Mapping[str, int]) -> dict[str, Usage]:
    """The usage of containers, given the main process of each; those without any process are left out.

    A process belongs to a container by its session, by descent, or, as for ``members_of``, by its mark.
    """
    processes = _processes()
    owner = {pid: name for name, pid in mains.items() if pid in processes}
    if not owner:
        return {}
    by_main = dict(owner)
    first = min(processes[pid].started for pid in by_main)
    marks = {mark: name for pid, name in by_main.items() if (mark := mark_of(pid)) is not None}
    for pid, process in processes.items():
        if pid not in owner and process.session in by_main:
            owner[pid] = by_main[process.session]
    for pid in processes:
        _descent(pid, processes, owner)
    for pid, process in processes.items():
        if pid not in owner and process.started >= first:
            mark = mark_of(pid)
            if mark in marks:
                owner[pid] = marks[mark]
    for pid in processes:  # the children of those
        _descent(pid, processes, owner)
    totals: dict[str, list[int]] = {}
    for pid, name in owner.items():
        total = totals.setdefault(name, [0, 0, 0, 0, 0])
        for place, number in enumerate(processes[pid].usage[:5]):
            total[place] += number or 0
    return {name: Usage(*total) for name, total in totals.items()}


def _descent(pid: int, processes: Mapping[int, _Process], owner: dict[int, str]) -> None:
    """Find the nearest ancestor that has an owner."""
    path = []
    while pid in processes and pid not in owner and pid not in path:
        path.append(pid)
        pid = processes[pid].ppid
    if pid in owner:
        for descendant in path:
            owner[descendant] = owner[pid]


def _processes() -> dict[int, _Process]:
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = _read(int(name))
            if process is not None:
                found[int(name)] = process
    return found


def _read(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5) counts from 1 and has two fields before these.
    minor, minor_of_children, major, major_of_children = (int(fields[at]) for at in (7, 8, 9, 10))
    ticks = sum(int(fields[at]) for at in (11, 12, 13, 14))
    zombie = fields[0] == b"Z"
    return _Process(
        ppid=int(fields[1]),
        session=int(fields[3]),
        started=int(fields[19]),
        usage=Usage(
            cpu_ns=ticks * _TICK,
            rss_bytes=int(fields[21]) * _PAGE,
            page_faults=minor + minor_of_children,
            major_page_faults=major + major_of_children,
            processes=0 if zombie else 1,
        ),
    )

"""Limits of a group of processes as the files of cgroups want them. Pure; standard library only."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from typing import Any

__all__ = ["CONTROLLERS", "group_files", "hierarchies", "oom_kills"]

#: Those whose limits are used, and the one of version 1 that counts CPU time.
CONTROLLERS = ("cpu", "memory", "pids", "cpuacct")


def hierarchies(mountinfo: str) -> dict[str, str]:
    """Where groups are made: controller -> directory for version 1; "" -> directory for version 2 if that has them all."""
    version_1: dict[str, str] = {}
    version_2 = None
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        where = fields.split()[4]
        kind, _, options = rest.split()[:3]
        if kind == "cgroup2" and version_2 is None:
            version_2 = where
        elif kind == "cgroup":
            for name in options.split(","):
                if name in CONTROLLERS:
                    version_1.setdefault(name, where)
    return version_1 or ({} if version_2 is None else {"": version_2})


def group_files(version: int, limits: dict[str, Any], *, together: bool) -> list[tuple[str, str, str, bool]]:
    """(controller, file, content, whether it may be missing), in the order in which they are written.

    Args:
        limits: ``shares``, ``weight``, ``quota`` and ``period`` (microseconds), ``memory`` (bytes), ``pids``; None: none.
        together: whether all its processes are killed when one has to be (version 2).
    """
    quota, period, memory, pids = (limits.get(name) for name in ("quota", "period", "memory", "pids"))
    most_pids = "max" if pids is None else str(pids)
    if version == 2:
        files = [
            ("cpu", "cpu.weight", str(limits["weight"]), False),
            ("cpu", "cpu.max", f"{'max' if quota is None else quota} {period}", False),
            ("memory", "memory.max", "max" if memory is None else str(memory), False),
            ("pids", "pids.max", most_pids, False),
        ]
        if memory is not None:
            files.append(("memory", "memory.swap.max", "0", True))
        if together:
            files.append(("memory", "memory.oom.group", "1", True))
        return files
    files = [
        ("cpu", "cpu.shares", str(limits["shares"]), False),
        ("cpu", "cpu.cfs_period_us", str(period), True),
        ("cpu", "cpu.cfs_quota_us", "-1" if quota is None else str(quota), True),
        ("pids", "pids.max", most_pids, False),
    ]
    if memory is not None:
        # With swap it may never be less than without.
        files.append(("memory", "memory.limit_in_bytes", str(memory), False))
        files.append(("memory", "memory.memsw.limit_in_bytes", str(memory), True))
    return files


def oom_kills(text: str) -> int:
    """How many processes of a group were killed for want of memory, by ``memory.events`` or ``memory.oom_control``."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill":
            return int(number)
    return 0

"""Limits of a group of processes as the files of cgroups want them. Pure; standard library only."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from typing import Any

__all__ = ["CONTROLLERS", "MEMORY_FILES", "group_files", "hierarchies", "lower_memory", "oom_kills", "resize_writes"]

#: Those whose limits are used, and the one of version 1 that counts CPU time.
CONTROLLERS = ("cpu", "memory", "pids", "cpuacct")
#: By version: the limit, and what is used.
MEMORY_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    2: ("memory.max", "memory.current"),
}
#: From here on version 1 means no limit: the highest number of bytes is in whole pages, whose size differs.
_NO_MEMORY_LIMIT = 1 << 62


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


def group_files(
    version: int, limits: dict[str, Any], *, together: bool, lift: bool = False
) -> list[tuple[str, str, str, bool]]:
    """(controller, file, content, whether it may be missing), in the order in which they are written.

    Args:
        limits: ``shares``, ``weight``, ``quota`` and ``period`` (microseconds), ``memory`` (bytes), ``pids``; None: none.
        together: whether all its processes are killed when one has to be (version 2).
        lift: also say that there is no limit, of a group that may have had one.
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
        if memory is not None or lift:
            files.append(("memory", "memory.swap.max", "max" if memory is None else "0", True))
        if together:
            files.append(("memory", "memory.oom.group", "1", True))
        return files
    files = [
        ("cpu", "cpu.shares", str(limits["shares"]), False),
        ("cpu", "cpu.cfs_period_us", str(period), True),
        ("cpu", "cpu.cfs_quota_us", "-1" if quota is None else str(quota), True),
        ("pids", "pids.max", most_pids, False),
    ]
    if memory is not None or lift:
        # With swap it may never be less than without.
        most = "-1" if memory is None else str(memory)
        files.append(("memory", "memory.limit_in_bytes", most, False))
        files.append(("memory", "memory.memsw.limit_in_bytes", most, True))
    return files


def resize_writes(
    version: int, now: dict[tuple[str, str], str], of_pod: dict[str, Any], own: dict[str, Any]
) -> list[tuple[str, str, str]]:
    """(``pod`` or ``own``, file, content) of what changes in a container's and its pod's group, in an order that the kernel
    takes: no group may ever have more CPU time than the one above it, nor more memory than memory and swap.

    Args:
        now: what there is in the files of both groups; those that are not there are not written.
    """
    more: list[tuple[str, str, str]] = []
    less: list[tuple[str, str, str]] = []
    for group, limits in (("pod", of_pod), ("own", own)):
        mine: list[tuple[str, str, str]] = []  # what grows
        for _, file, content, _ in group_files(version, limits, together=False, lift=True):
            before = now.get((group, file))
            if before is None or _same(before, content):
                continue
            if _amount(content) > _amount(before):
                mine.insert(0, (group, file, content))  # swap before memory
            else:
                less.append((group, file, content))
        more += mine
    return more + sorted(less, key=lambda one: one[0])  # the container's before the pod's


def lower_memory(now: str, memory: int | None) -> int | None:
    """The limit that is wanted, if it is less than what the group's file says now."""
    return memory if memory is not None and memory < _amount(now) else None


def _amount(content: str) -> float:
    """Of a limit in a file; what stands for none is more than any."""
    word = content.split()[0]
    return float("inf") if word in ("max", "-1") or int(word) >= _NO_MEMORY_LIMIT else int(word)


def _same(one: str, other: str) -> bool:
    return one.split()[1:] == other.split()[1:] and _amount(one) == _amount(other)


def oom_kills(text: str) -> int:
    """How many processes of a group were killed for want of memory, by ``memory.events`` or ``memory.oom_control``."""
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        if name == "oom_kill":
            return int(number)
    return 0

"""Processes of this machine, read from /proc: who is who, and which belong to a container. Standard library only.

A container's processes are known by a mark that they inherit, whatever they do about sessions, parents, environment or
open files: their limit of resident memory (RLIMIT_RSS), of which Linux keeps account and which it has not enforced since
2.4. Each container has a number of its own for it, far above any real size. Without special rights a process can only
lower it; this is about finding daemons, it is no isolation. The soft limit of a command that somebody runs in a container
is a number of that command's own below it.
"""

from __future__ import annotations

import os
import signal

__all__ = [
    "boot_id",
    "kill",
    "mark_of",
    "members_of",
    "processes_of_command",
    "start_time_of",
    "stat_of",
]

_LIMIT_LINE = b"\nMax resident set"


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def stat_of(pid: int) -> tuple[str, int, int] | None:
    """(state, parent, start time) of a process, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0].decode(), int(fields[1]), int(fields[19])


def start_time_of(pid: int) -> int:
    """0 if it has ended."""
    found = stat_of(pid)
    return found[2] if found is not None else 0


def members_of(marks: set[int], *, mains: set[int], known: set[int], everywhere: bool) -> set[int]:
    """The processes of containers: their main ones, those with their marks, and the descendants of both.

    Args:
        mains: main processes of these containers that have not ended.
        known: main processes of other containers, which need not be looked at.
        everywhere: not only among the children of this process. It is the subreaper of all it starts, so what loses its
            parent becomes its child; what an earlier supervisor started does not.
    """
    me = os.getpid()
    children: dict[int, list[int]] = {}
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == me:
            continue
        pid, stat = int(name), stat_of(int(name))
        if stat is None or stat[0] in "ZX":
            continue
        children.setdefault(stat[1], []).append(pid)
        candidate = (everywhere or stat[1] == me) and pid not in known
        if pid in mains or (candidate and mark_of(pid) in marks):
            found.append(pid)
    members = set(found)
    while found:
        for child in children.get(found.pop(), ()):
            if child not in members:
                members.add(child)
                found.append(child)
    return members


def mark_of(pid: int) -> int | None:
    """The mark of a process; None if it has none, or has ended."""
    return _marks_of(pid)[1]


def processes_of_command(mark: int, command_mark: int) -> set[int]:
    """The processes of one command in a container, wherever they are."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    found = {pid for pid in pids if _marks_of(pid) == (command_mark, mark)}
    return {pid for pid in found if (stat := stat_of(pid)) is not None and stat[0] not in "ZX"}


def _marks_of(pid: int) -> tuple[int | None, int | None]:
    """Its soft and its hard limit."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            limits = file.read().partition(_LIMIT_LINE)[2].split(maxsplit=2)[:2]
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None, None
    soft, hard = (int(limit) if limit.isdigit() else None for limit in limits or (b"", b""))
    return soft, hard


def kill(pids: set[int]) -> int:
    """SIGKILL; gives how many could be sent one: what may not be signalled (setuid programs) is left."""
    sent = 0
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            sent += 1
        except (ProcessLookupError, PermissionError):
            continue  # the latter is not counted: who kills until none is left would go on
    return sent

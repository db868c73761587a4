"""Processes of this machine, read from /proc: who is who, and which belong to a container. Standard library only."""

from __future__ import annotations

import os

__all__ = ["MARKER", "boot_id", "members_of", "stat_of"]

#: The variable that marks a container's processes.
MARKER = "VIRTUAL_KUBELET_CONTAINER"


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def stat_of(pid: int) -> tuple[str, int, int, int, int] | None:
    """(state, ppid, pgrp, session, start time) of a process, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0].decode(), int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19])


def members_of(container_id: str, main: int, running: bool, known: set[int] | None) -> set[int]:
    """Processes that belong to a container: by descent, by session, by the mark in their environment.

    Args:
        main: pid of its main process; not among the result once it has ended (its number may be another's by then).
        known: main processes of all containers, if no other one runs: then children of ours that hide their descent and
            their mark can only be this one's. None otherwise.
    """
    marker = f"{MARKER}={container_id}".encode()
    stats = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            stat = stat_of(int(name))
            if stat is not None and stat[0] != "Z":
                stats[int(name)] = stat
    found = {pid for pid, stat in stats.items() if _marked(pid, marker) or (main and main in (pid, stat[3]))}
    if known is not None:
        found |= {pid for pid, stat in stats.items() if stat[1] == os.getpid() and pid not in known}
    grown = True
    while grown:
        children = {pid for pid, stat in stats.items() if stat[1] in found and pid not in found}
        found |= children
        grown = bool(children)
    return found if running else found - {main}


def _marked(pid: int, marker: bytes) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return marker in file.read().split(b"\0")
    except OSError:
        return False

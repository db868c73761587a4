"""What the kernel says of processes: as whom they run, and how far they may be spared when memory is short. Blocking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from virtual_kubelet.objects.core_v1 import ContainerUser, LinuxContainerUser

__all__ = ["container_user", "lowest_oom_score"]

_CAP_SYS_RESOURCE: Final = 24
#: The kernel's.
_LOWEST: Final = -1000


def container_user(pid: int, container_id: str) -> ContainerUser | None:
    """As whom the first process of a container runs.

    None if that cannot be known: it has ended, is not this machine's, or has a user namespace of its own, in which numbers
    mean something else.
    """
    process = Path(f"/proc/{pid}")
    try:
        if os.readlink(process / "ns/user") != os.readlink("/proc/self/ns/user"):
            return None
        fields = _fields((process / "status").read_text())
        # Its control group has the container's id in its name: the number is not another process's by now.
        if container_id not in (process / "cgroup").read_text():
            return None
    except OSError:
        return None
    uid, gid = int(fields["Uid"].split()[0]), int(fields["Gid"].split()[0])
    others = sorted({int(group) for group in fields["Groups"].split()} - {gid})
    return ContainerUser(linux=LinuxContainerUser(uid=uid, gid=gid, supplemental_groups=[gid, *others]))


def lowest_oom_score() -> int:
    """The lowest ``oom_score_adj`` that may be given to a process here (containerd's ``restrict_oom_score_adj``).

    Below its own a process may go with CAP_SYS_RESOURCE only, which root in a container often lacks.
    """
    capabilities = int(_fields(Path("/proc/self/status").read_text())["CapEff"], 16)
    if capabilities >> _CAP_SYS_RESOURCE & 1:
        return _LOWEST
    return int(Path("/proc/self/oom_score_adj").read_text())


def _fields(status: str) -> dict[str, str]:
    """``/proc/PID/status`` by name."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in status.splitlines())}

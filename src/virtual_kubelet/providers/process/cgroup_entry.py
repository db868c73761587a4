"""Being in a group of processes (cgroup). Standard library only, and little of that: each command in a container does it."""

from __future__ import annotations

import os

__all__ = ["enter_groups", "write_group_file"]


def enter_groups(groups: dict[str, str], pid: int) -> None:
    """Put a process into them; what it starts from then on is in them too. Raises ``OSError``."""
    for path in groups.values():
        write_group_file(path, "cgroup.procs", str(pid))


def write_group_file(group: str, name: str, content: str) -> None:
    """Raises ``OSError`` if the kernel refuses it."""
    # Not buffered: what the kernel refuses is to be seen here.
    descriptor = os.open(os.path.join(group, name), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)

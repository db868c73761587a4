"""What this program may do for its containers, found out by doing it in a child. Standard library only."""

from __future__ import annotations

import os

from virtual_kubelet.providers.process import mount_calls
from virtual_kubelet.providers.process.mount_namespace import new_namespaces

__all__ = ["effective_capabilities", "find_namespaces", "may_protect_root"]


def find_namespaces(staging: str) -> list[str]:
    """Kinds of namespaces in which containers can have mounts of their own; empty: they cannot.

    As root, or with CAP_SYS_ADMIN, a mount namespace does; else a user namespace may give the right to mount.

    Args:
        staging: a directory; what is in it is not touched.
    """
    for kinds in (["mnt"], ["user", "mnt"]):
        if _works(kinds, staging, protect=False):
            return kinds
    return []


def may_protect_root(kinds: list[str], staging: str) -> bool:
    """Whether all of the machine's files can be made read-only for a container."""
    return bool(kinds) and _works(kinds, staging, protect=True)


def effective_capabilities() -> int:
    """Of this program: a bit each."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def _works(kinds: list[str], staging: str, *, protect: bool) -> bool:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            new_namespaces(kinds)
            mount_calls.mount_tmpfs(staging, "size=64k")
            inner = os.path.join(staging, "inner")
            os.mkdir(inner)
            mount_calls.bind("/", inner)
            mount_calls.remount_read_only(inner)
            if protect:
                mount_calls.make_read_only("/")
            code = 0
        except OSError:
            code = 1  # that is the answer: the kernel, or who guards it, does not let this program
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    return status == 0

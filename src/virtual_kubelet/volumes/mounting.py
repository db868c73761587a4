"""Mounts of this machine, by the kernel's own calls: tmpfs, a place made visible at another, and their end. Blocking."""

from __future__ import annotations

import ctypes
import functools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["bind", "is_mounted", "may_mount", "mount_points_below", "mount_tmpfs", "unmount"]

_MS_NOSUID: Final = 0x2
_MS_NODEV: Final = 0x4
_MS_BIND: Final = 0x1000
_MNT_DETACH: Final = 0x2
_UMOUNT_NOFOLLOW: Final = 0x8
_CAP_SYS_ADMIN: Final = 21
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def may_mount() -> bool:
    """Whether this process may mount: it has CAP_SYS_ADMIN. (A container's profile may still forbid it.)"""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_SYS_ADMIN & 1)
    return False


def mount_tmpfs(target: Path, *, size: int | None = None) -> None:
    """A file system in memory, mode 1777; ``size`` in bytes, or half the machine's memory. Raises ``OSError``."""
    options = "mode=1777" if size is None else f"mode=1777,size={size}"
    # Unlike a kubelet's: no device and no set-user-ID program of it is of use to the machine, where all can see them.
    _check(
        _libc().mount(b"tmpfs", os.fsencode(target), b"tmpfs", _MS_NOSUID | _MS_NODEV, options.encode()),
        target,
    )


def bind(source: int, target: Path) -> None:
    """Show what ``source`` is a descriptor of at ``target`` too (a file on a file, a directory on a directory)."""
    _check(_libc().mount(f"/proc/self/fd/{source}".encode(), os.fsencode(target), None, _MS_BIND, None), target)


def unmount(target: Path) -> None:
    """Take away the topmost mount there; whoever still uses it, such as a container, keeps it. Raises ``OSError``."""
    _check(_libc().umount2(os.fsencode(target), _MNT_DETACH | _UMOUNT_NOFOLLOW), target)


def mount_points_below(directory: Path) -> Sequence[Path]:
    """All mounts at or below a directory, the newest first: in this order they can be taken away."""
    top = os.fsencode(os.path.realpath(directory))
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        where = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), line.split(b" ")[4])
        if where == top or where.startswith(top + b"/"):
            found.append(Path(os.fsdecode(where)))
    return found[::-1]


def is_mounted(directory: Path) -> bool:
    """Whether something is mounted at this very place."""
    return Path(os.path.realpath(directory)) in mount_points_below(directory)


def _check(result: int, target: Path) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))

"""The kernel's calls about mounts and namespaces, which Python 3.11 has not. Blocking; standard library only.

Raises ``OSError`` with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import os

__all__ = [
    "NAMESPACES",
    "bind",
    "join",
    "make_read_only",
    "make_writable",
    "mount_tmpfs",
    "move",
    "propagate",
    "remount_read_only",
    "unshare",
]

#: Names below /proc/PID/ns and the flags of what can be made and joined here, in the order in which they are joined.
NAMESPACES = {"user": 0x10000000, "mnt": 0x00020000}

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_RELATIME = 0x200000
PROPAGATIONS = {"private": MS_PRIVATE, "slave": MS_SLAVE, "unbindable": MS_UNBINDABLE}

#: Flags that ``statvfs`` and ``mount`` number alike.
_ALIKE = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME
_ST_RELATIME = 0x1000
_SYS_MOUNT_SETATTR = 442
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_ATTR_RDONLY = 0x1

_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def unshare(*namespaces: str) -> None:
    """Be in new ones of these kinds, all at once."""
    flags = 0
    for name in namespaces:
        flags |= NAMESPACES[name]
    _check(_libc.unshare(flags), "/proc/self/ns")


def join(pid: int, namespaces: list[str]) -> None:
    """Be in these namespaces of a process; its root is the root then."""
    paths = [f"/proc/{pid}/ns/{name}" for name in NAMESPACES if name in namespaces]
    opened: list[int] = []
    try:
        # All before the first: in another user namespace they might not be ours to open.
        for path in paths:
            opened.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))  # noqa: PERF401  # the rest is to be closed
        for path, descriptor in zip(paths, opened, strict=True):
            _check(_libc.setns(descriptor, 0), path)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def bind(source: str, target: str) -> None:
    """Show ``source``, with what is mounted below it, at ``target`` too."""
    _mount(source, target, MS_BIND | MS_REC)


def move(source: str, target: str) -> None:
    """What is mounted at ``source`` is at ``target`` from now on."""
    _mount(source, target, MS_MOVE)


def propagate(target: str, how: str, *, recursive: bool = True) -> None:
    """``private``, ``slave`` (mounts come from where it was copied, none go there) or ``unbindable``."""
    _mount(None, target, PROPAGATIONS[how] | (MS_REC if recursive else 0))


def mount_tmpfs(target: str, options: str) -> None:
    _check(_libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode()), target)


def remount_read_only(target: str) -> None:
    """This one mount, not what is mounted below; its other flags stay."""
    flags = os.statvfs(target).f_flag
    kept = flags & _ALIKE | (MS_RELATIME if flags & _ST_RELATIME else 0)
    _mount(None, target, MS_REMOUNT | MS_BIND | MS_RDONLY | kept)


def make_read_only(target: str) -> None:
    """The mount and all below. Needs Linux 5.12."""
    _set_attributes(target, _MountAttributes(set=_ATTR_RDONLY), recursive=True)


def make_writable(target: str) -> None:
    """This one mount. Needs Linux 5.12."""
    _set_attributes(target, _MountAttributes(clear=_ATTR_RDONLY), recursive=False)


def _set_attributes(target: str, attributes: _MountAttributes, *, recursive: bool) -> None:
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_long(_AT_FDCWD),
        os.fsencode(target),
        ctypes.c_ulong(_AT_RECURSIVE if recursive else 0),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    _check(result, target)


def _mount(source: str | None, target: str, flags: int) -> None:
    origin = None if source is None else os.fsencode(source)
    _check(_libc.mount(origin, os.fsencode(target), None, ctypes.c_ulong(flags), None), target)


def _check(result: int, where: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), where)

"""Who a process is to be: its capabilities, user, groups, directory and program. Standard library only."""

from __future__ import annotations

import ctypes
import errno
import os

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = ["become", "execute"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522


def become(wanted: dict[str, Any], at: Callable[[str], None]) -> None:
    """Be who is wanted. Raises ``OSError``.

    Args:
        wanted: ``drop`` (numbers of capabilities), ``uid``, ``gid``, ``groups``, ``cwd``, ``no_new_privileges``.
        at: told the field of the pod that is next, for what goes wrong.
    """
    os.umask(0o022)
    at("securityContext.capabilities")
    _drop(wanted.get("drop") or [])
    at("runAsUser/runAsGroup")
    _become_user(wanted.get("uid"), wanted.get("gid"), wanted.get("groups") or [])
    at("workingDir")
    os.chdir(wanted["cwd"])
    at("allowPrivilegeEscalation")
    if wanted.get("no_new_privileges") and ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(errno.EPERM, "PR_SET_NO_NEW_PRIVS failed")
    at("command")


def _drop(capabilities: list[int]) -> None:
    """From the bounding set, so that no program gets them back, and from the inheritable one, which root's would."""
    libc = ctypes.CDLL(None, use_errno=True)
    for number in capabilities:
        if libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0) != 0 and ctypes.get_errno() != errno.EINVAL:  # unknown here
            raise OSError(ctypes.get_errno(), f"capability {number} cannot be dropped")
    if not capabilities:
        return
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: the low halves, then the high ones
    if libc.capget(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capget failed")
    sets[2] = sets[5] = 0
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset failed")


def _become_user(uid: int | None, gid: int | None, groups: list[int]) -> None:
    """Without rights it may still become who it is; groups are root's to give."""
    if (uid is None or uid == os.getuid()) and (gid is None or gid == os.getgid()) and os.getuid() != 0:
        return
    if uid is not None or gid is not None or groups:
        os.setgroups(groups)
    if gid is not None:
        os.setgid(gid)
    if uid is not None:
        os.setuid(uid)


def execute(argv: list[str], environment: dict[str, str]) -> NoReturn:
    """Be this program, looked for in the environment's PATH. Raises ``OSError``."""
    if "/" in argv[0]:
        os.execve(argv[0], argv, environment)
    last = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for folder in environment.get("PATH", _PATH).split(":"):
        try:
            os.execve(os.path.join(folder or ".", argv[0]), argv, environment)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                last = error
    raise last

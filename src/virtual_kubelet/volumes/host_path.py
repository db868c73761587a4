"""``hostPath`` volumes: a path of this machine, checked as the kubelet does (pkg/volume/hostpath). Blocking."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from virtual_kubelet.objects.core_v1 import HostPathVolumeSource

__all__ = ["HostPathError", "set_up_host_path"]

_CHECKS: Final[dict[str, tuple[Callable[[int], bool], str]]] = {
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "Directory": (stat.S_ISDIR, "a directory"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


class HostPathError(ValueError):
    """The path is not what the pod says; the message is the kubelet's."""


def set_up_host_path(source: HostPathVolumeSource) -> Path:
    """The path, without symbolic links; made first if its type says so, and as a directory if it has no type.

    Raises ``HostPathError``, or ``OSError`` if it cannot be made.
    """
    path, kind = source.path, source.type or ""
    if not kind:
        if not os.path.lexists(path):
            os.makedirs(path, 0o755, exist_ok=True)  # as container runtimes do
        return Path(os.path.realpath(path))
    if kind not in _CHECKS:
        raise HostPathError(f"hostPath type check failed: {path} is an invalid volume type")
    if not os.path.exists(path):
        if kind == "DirectoryOrCreate":
            os.makedirs(path, 0o755, exist_ok=True)
        elif kind == "FileOrCreate":
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    is_right, what = _CHECKS[kind]
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = 0
    if not is_right(mode):
        raise HostPathError(f"hostPath type check failed: {path} is not {what}")
    return Path(os.path.realpath(path))

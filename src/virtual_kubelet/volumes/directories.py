"""A pod's directory on this machine: one directory a volume, and what is mounted below. Blocking.

    DIRECTORY/UID/volumes/NAME                            mode 0777 (1777 in memory), and the pod's fsGroup
    DIRECTORY/UID/volume-subpaths/NAME/CONTAINER/INDEX    parts of volumes, bound here
    DIRECTORY/UID/ready/NAME                              the volume was set up: what is in it is the pod's

Names are those of the API, which are DNS labels; others raise ``ValueError``. A process that is killed at any moment leaves
what the next one finishes or removes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final

from virtual_kubelet.environment.volume_ownership import WRITABLE_BITS
from virtual_kubelet.volumes.beneath import directory_fd
from virtual_kubelet.volumes.mounting import is_mounted, may_mount, mount_points_below, mount_tmpfs, unmount
from virtual_kubelet.volumes.removal import remove_tree

__all__ = ["PodDirectory", "uids_with_directories"]

_NAME: Final = re.compile(r"[a-z0-9A-Z]([-a-z0-9A-Z_.]{0,251}[a-z0-9A-Z])?\Z")
_VOLUME_MODE: Final = 0o777
_SET_GROUP_ID: Final = 0o2000
#: As the kernel makes a tmpfs, and a kubelet leaves it.
_STICKY: Final = 0o1000


class PodDirectory:
    """Of the pod with this UID; ``binding``: whether this process may mount, found out where None."""

    def __init__(self, directory: Path, uid: str, *, binding: bool | None = None) -> None:
        self.path = directory / _checked(uid)
        self._binding = binding

    @property
    def binding(self) -> bool:
        return may_mount() if self._binding is None else self._binding

    def volume(self, name: str) -> Path:
        """Where a volume is, or will be."""
        return self.path / "volumes" / _checked(name)

    def sub_path(self, volume: str, container: str, index: int) -> Path:
        """Where a part of a volume is bound for a container's mount of this number."""
        return self.path / "volume-subpaths" / _checked(volume) / _checked(container) / str(index)

    def is_set_up(self, name: str) -> bool:
        """Whether there is what ``set_up`` has made, by this process or an earlier one."""
        return (self.path / "ready" / _checked(name)).exists() and self.volume(name).is_dir()

    def set_up(self, name: str, *, group: int | None, writable: bool, memory: bool, size: int | None = None) -> Path:
        """A volume's directory; what is in it already stays.

        Args:
            group: that it belongs to.
            writable: whether others than the node write in it.
            memory: on a file system in memory, if this process may mount one.
            size: of that, in bytes.
        """
        path, ready = self.volume(name), self.path / "ready" / name
        for above in (self.path.parent, self.path, path.parent, ready.parent):
            above.mkdir(mode=0o700, parents=above == self.path.parent, exist_ok=True)
        in_memory = memory and self.binding
        # A machine that was started anew has the marker, and lost what was in memory.
        mounted = in_memory and is_mounted(path)
        if ready.exists() and path.is_dir() and mounted == in_memory:
            return path
        ready.unlink(missing_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        if in_memory and not mounted:
            mount_tmpfs(path, size=size)
        descriptor = directory_fd(path)
        try:
            mode = _VOLUME_MODE | (_STICKY if memory else 0)
            if group is not None:
                os.fchown(descriptor, -1, group)
                mode |= _SET_GROUP_ID | (WRITABLE_BITS if writable else 0)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        ready.touch(mode=0o600)
        return path

    def remove(self) -> None:
        """All of it, mounts first. No error if there is nothing. Raises ``OSError``."""
        for mounted in mount_points_below(self.path):
            unmount(mounted)
        remove_tree(self.path)


def uids_with_directories(directory: Path) -> Collection[str]:
    """Of which pods there are directories."""
    try:
        with os.scandir(directory) as entries:
            return [e.name for e in entries if e.is_dir(follow_symlinks=False) and _NAME.match(e.name)]
    except FileNotFoundError:
        return ()


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError(f"no name for a directory: {name!r}")
    return name

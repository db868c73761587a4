"""How much of the disk a tree takes that a container may change meanwhile, and make as deep as it likes. Blocking.

No symbolic link is followed and no other file system entered. One descriptor is open, however deep it is: back up is by
``..``, and if that is another directory than before, somebody has moved it and what is below is left out.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from virtual_kubelet.volumes.beneath import directory_fd

__all__ = ["disk_usage"]


class _Level(NamedTuple):
    identity: tuple[int, int]
    directories: list[str]  # that are still to be looked at


def disk_usage(directory: str | os.PathLike[str]) -> int:
    """Bytes on disk, hard links once. Raises ``OSError`` if the directory itself cannot be read."""
    here = directory_fd(directory)
    try:
        info = os.fstat(here)
        total, linked = info.st_blocks * 512, set[int]()
        size, directories = _level(here, info.st_dev, linked)
        total += size
        levels = [_Level((info.st_dev, info.st_ino), directories)]
        while levels:
            if not levels[-1].directories:
                levels.pop()
                if levels:
                    here = _moved(here, "..")
                    if _identity(here) != levels[-1].identity:
                        return total  # what was counted is the least it is
                continue
            name = levels[-1].directories.pop()
            try:
                here = _moved(here, name)
            except OSError:  # gone meanwhile, or something else by now
                continue
            size, directories = _level(here, info.st_dev, linked)
            total += size
            levels.append(_Level(_identity(here), directories))
        return total
    finally:
        os.close(here)


def _level(directory: int, device: int, linked: set[int]) -> tuple[int, list[str]]:
    """Bytes of all entries of one directory, and its directories."""
    total, directories = 0, []
    for name in os.listdir(directory):
        try:
            info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            continue
        if info.st_dev != device or info.st_ino in linked:
            continue
        if stat.S_ISDIR(info.st_mode):
            directories.append(name)
        elif info.st_nlink > 1:
            linked.add(info.st_ino)
        total += info.st_blocks * 512
    return total, directories


def _moved(here: int, name: str) -> int:
    there = directory_fd(name, dir_fd=here)
    os.close(here)
    return there


def _identity(directory: int) -> tuple[int, int]:
    info = os.fstat(directory)
    return info.st_dev, info.st_ino

"""Removing a tree in which a container could do what it liked: links, any depth, no rights, other mounts. Blocking.

No symbolic link is followed, and neither descriptors nor stack grow with the depth: a directory's own directories are
moved up to the top before it is removed, so each is handled once. What is mounted in the tree is never emptied.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from virtual_kubelet.volumes.beneath import directory_fd

__all__ = ["remove_tree"]

_NOT_EMPTY: Final = (errno.ENOTEMPTY, errno.EEXIST)


def remove_tree(name: str | os.PathLike[str], *, dir_fd: int | None = None) -> None:
    """Remove a file, link or directory with all that is in it; no error if there is none.

    Raises ``OSError``: EBUSY for a mount point in it, which stays with its contents.
    """
    try:
        info = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if not stat.S_ISDIR(info.st_mode):
            os.unlink(name, dir_fd=dir_fd)
            return
        if _rmdir(name, dir_fd):
            return
        top = _opened(name, dir_fd)
    except FileNotFoundError:
        return
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=dir_fd)


def _empty(top: int) -> None:
    moved = 0
    while entries := os.listdir(top):
        progress = False
        for entry in entries:
            if _remove_plain(entry, top):
                progress = True
                continue
            try:
                inner = _opened(entry, top)
            except FileNotFoundError:
                continue
            try:
                for child in os.listdir(inner):
                    progress = True
                    if not _remove_plain(child, inner):
                        moved = _move_up(child, inner, top, moved)
            finally:
                os.close(inner)
        if not progress:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))


def _remove_plain(name: str, parent: int) -> bool:
    """Whether it is gone: all but directories with something in them go at once."""
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return _rmdir(name, parent)
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    return True


def _rmdir(name: str | os.PathLike[str], parent: int | None) -> bool:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno not in _NOT_EMPTY:  # of a mount point, empty or not, the kernel says EBUSY
            raise
        return False
    return True


def _move_up(name: str, parent: int, top: int, number: int) -> int:
    while True:
        number += 1
        target = f"..removing.{number}"
        try:
            os.stat(target, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            break
    try:
        os.rename(name, target, src_dir_fd=parent, dst_dir_fd=top)
    except PermissionError:  # the ".." of a directory that may not be written cannot be changed either
        os.close(_opened(name, parent))
        os.rename(name, target, src_dir_fd=parent, dst_dir_fd=top)
    return number


def _opened(name: str | os.PathLike[str], parent: int | None) -> int:
    """A directory, with the right to list it and to take from it, which root has anyway and an owner can give himself."""
    if os.geteuid() != 0:
        by_path = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
        try:
            if os.fstat(by_path).st_uid == os.geteuid():
                os.chmod(f"/proc/self/fd/{by_path}", 0o700)
        finally:
            os.close(by_path)
    return directory_fd(name, dir_fd=parent)

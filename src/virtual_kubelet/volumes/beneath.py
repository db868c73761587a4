"""Paths that never leave a directory, whatever a container has planted in it.

Each name is opened by itself, relative to the directory before it, and a symbolic link is followed by hand: an absolute
one, or ``..`` out of the directory, is an error. ``..`` goes back to the directory that was come from. So nothing that is
renamed or replaced meanwhile leads outside (what ``openat2`` does with RESOLVE_BENEATH, on any kernel). Blocking.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

__all__ = ["EscapeError", "directory_fd", "make_beneath", "open_beneath"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PATH: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS: Final = 40
_MOST_NAMES: Final = 255


class EscapeError(OSError):
    """A path that leads out of its directory."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EXDEV, "the path leads out of its directory", path)


def directory_fd(name: str | os.PathLike[str], *, dir_fd: int | None = None) -> int:
    """A descriptor of a directory, never through a symbolic link as the last name. Raises ``OSError``."""
    return os.open(name, _DIRECTORY, dir_fd=dir_fd)


def open_beneath(root: int, path: str) -> int:
    """An ``O_PATH`` descriptor of what ``path`` is, in the directory that ``root`` is a descriptor of.

    Raises ``EscapeError``, ``FileNotFoundError`` or another ``OSError``.
    """
    return _walk(root, path, None)


def make_beneath(root: int, path: str, mode: int) -> int:
    """The same; what is missing of the path is made, as directories of this mode (whatever the umask)."""
    return _walk(root, path, mode)


def _walk(root: int, path: str, mode: int | None) -> int:
    if path.startswith("/") or "\0" in path:
        raise EscapeError(path)
    names = path.split("/")[::-1]
    trail = [os.dup(root)]
    links = 0
    try:
        while names:
            name = names.pop()
            if name in ("", "."):
                continue
            if name == "..":
                if len(trail) == 1:
                    raise EscapeError(path)
                os.close(trail.pop())
                continue
            if len(trail) > _MOST_NAMES:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
            found = _step(trail[-1], name, mode)
            if not stat.S_ISLNK(os.fstat(found).st_mode):
                trail.append(found)
                continue
            try:
                target = os.readlink("", dir_fd=found)
            finally:
                os.close(found)
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                raise EscapeError(path)
            names += target.split("/")[::-1]
        return os.dup(trail[-1])
    finally:
        for descriptor in trail:
            os.close(descriptor)


def _step(parent: int, name: str, mode: int | None) -> int:
    try:
        return os.open(name, _PATH, dir_fd=parent)
    except FileNotFoundError:
        if mode is None:
            raise
    try:
        os.mkdir(name, mode, dir_fd=parent)
    except FileExistsError:  # somebody was faster
        return os.open(name, _PATH, dir_fd=parent)
    made = directory_fd(name, dir_fd=parent)
    try:
        os.fchmod(made, mode)
    finally:
        os.close(made)
    return os.open(name, _PATH, dir_fd=parent)

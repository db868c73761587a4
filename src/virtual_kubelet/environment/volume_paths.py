"""Paths of files in a volume: which are allowed (validatePath in pkg/volume/util/atomic_writer.go). Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from typing import Final

__all__ = ["PathError", "check_conflicts", "clean_path"]

_LONGEST_PATH: Final = 4096
_LONGEST_NAME: Final = 255


class PathError(ValueError):
    """A path that cannot be in a volume; the message is the kubelet's."""


def clean_path(path: str) -> str:
    """The path without ``.`` and doubled slashes. Raises ``PathError``.

    Names that begin with ``..`` are the atomic writer's own.
    """
    if not path:
        raise PathError('invalid path: must not be empty: ""')
    if path.startswith("/"):
        raise PathError(f"invalid path: must be relative path: {path}")
    if len(path.encode(errors="surrogatepass")) > _LONGEST_PATH:
        raise PathError(f"invalid path: must be less than or equal to {_LONGEST_PATH} characters")
    names = path.split("/")
    for name in names:
        if name == "..":
            raise PathError(f"invalid path: must not contain '..': {path}")
        if len(name.encode(errors="surrogatepass")) > _LONGEST_NAME:
            raise PathError(f"invalid path: filenames must be less than or equal to {_LONGEST_NAME} characters")
    if "\0" in path or not _is_text(path):
        raise PathError(f"invalid path: no file can have this name: {path!r}")
    clean = posixpath.normpath(path)
    if clean == ".":
        raise PathError(f"invalid path: it names the volume itself: {path}")
    if clean.startswith(".."):
        raise PathError(f"invalid path: must not start with '..': {path}")
    return clean


def check_conflicts(paths: Iterable[str]) -> None:
    """Raises ``PathError`` if one clean path is a file and, for another, a directory."""
    known = set(paths)
    for path in sorted(known):
        above = posixpath.dirname(path)
        while above:
            if above in known:
                raise PathError(f"conflicting paths: {above} is a file, so {path} cannot be one")
            above = posixpath.dirname(above)


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    return True

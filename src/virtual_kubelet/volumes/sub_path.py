"""``subPath``: a part of a volume, mounted so that no container can make it lead elsewhere (pkg/volume/util/subpath).

With the right to mount, what was found is bound to a place that only the node can change, so that nothing the pod does
between now and the container's start counts. Without it, the path is free of links at this moment. Blocking.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from virtual_kubelet.volumes.beneath import EscapeError, make_beneath
from virtual_kubelet.volumes.mounting import bind, mount_points_below, unmount

__all__ = ["prepare_sub_path"]


def prepare_sub_path(volume: Path, sub_path: str, place: Path, *, binding: bool) -> Path:
    """What to mount for ``sub_path`` of a volume; what is missing of it is made, as directories with the volume's mode.

    Args:
        volume: where the volume is; a directory.
        place: where to bind it; of an earlier start of the container it is taken away. Its folder is made if need be.
        binding: whether this process may mount.

    Raises ``EscapeError`` or another ``OSError``.
    """
    root = os.open(volume, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        mode = stat.S_IMODE(os.fstat(root).st_mode)
        found = make_beneath(root, sub_path, mode)
        try:
            if not binding:
                return _path_of(found, root, sub_path)
            _clear(place)
            if stat.S_ISDIR(os.fstat(found).st_mode):
                place.mkdir(mode=0o750, parents=True)
            else:
                place.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
                place.touch(mode=0o640)
            bind(found, place)
            return place
        finally:
            os.close(found)
    finally:
        os.close(root)


def _clear(place: Path) -> None:
    for mounted in mount_points_below(place):
        unmount(mounted)
    if place.is_dir() and not place.is_symlink():
        place.rmdir()
    else:
        place.unlink(missing_ok=True)


def _path_of(found: int, root: int, sub_path: str) -> Path:
    path, top = (Path(os.readlink(f"/proc/self/fd/{descriptor}")) for descriptor in (found, root))
    if not path.is_relative_to(top) or not path.exists():  # moved away, or removed, meanwhile
        raise EscapeError(sub_path)
    return path

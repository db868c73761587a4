"""Files of a volume replaced all at once, as a kubelet does (pkg/volume/util/atomic_writer.go). Blocking.

    volume/
      ..2026_11_28_02_21_55.123456789/    the files as they are now
      ..data                              -> ..2026_11_28_02_21_55.123456789
      key                                 -> ..data/key

``..data`` is swapped by one rename, so who opens it once reads from one version only. Content that has not changed is not
written. All is done relative to descriptors and no symbolic link is followed: what a container has planted in the volume is
replaced or left, and never leads elsewhere. A write that fails, for a full disk say, leaves what was there.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias

from virtual_kubelet.contracts.configuration import VolumeContents, VolumeFile
from virtual_kubelet.volumes.beneath import directory_fd
from virtual_kubelet.volumes.removal import remove_tree

__all__ = ["write_atomically"]

_DATA: Final = "..data"
_NEW_DATA: Final = "..data_tmp"
_VERSION: Final = re.compile(r"\.\.[0-9]{4}(_[0-9]{2}){5}\.[0-9]+\Z")
_DIRECTORY_MODE: Final = 0o755
#: What a group is given on directories, as by SetVolumeOwnership for volumes that only the node writes.
_GROUP_DIRECTORY_BITS: Final = 0o2550

#: Names in a directory: a file, or a directory with its own.
_Tree: TypeAlias = "dict[str, VolumeFile | _Tree]"


def write_atomically(volume: str | os.PathLike[str], contents: VolumeContents) -> bool:
    """Make the directory ``volume`` show these files; whether anything had to be written.

    The paths in ``contents`` are clean (see there). Raises ``OSError``; then the old files are still there.
    """
    top = directory_fd(volume)
    try:
        tree = _tree(contents.files)
        current = _current(top)
        written = current is None or not _is_same(top, current, tree, contents)
        if written:
            _swap(top, tree, contents)
        _link(top, tree, contents.group)
        _remove_others(top, tree)
        return written
    finally:
        os.close(top)


def _tree(files: Mapping[str, VolumeFile]) -> _Tree:
    tree: _Tree = {}
    for path, file in files.items():
        *above, name = path.split("/")
        node = tree
        for part in above:
            inner = node.setdefault(part, {})
            if isinstance(inner, VolumeFile):
                raise NotADirectoryError(f"{part} is a file and a directory")
            node = inner
        node[name] = file
    return tree


def _current(top: int) -> str | None:
    """The directory that ``..data`` names, if it is one that this module has made."""
    try:
        target = os.readlink(_DATA, dir_fd=top)
    except OSError:  # not there, or no link
        return None
    return target if _VERSION.match(target) else None


# Comparing


def _is_same(top: int, name: str, tree: _Tree, contents: VolumeContents) -> bool:
    try:
        directory = directory_fd(name, dir_fd=top)
    except OSError:
        return False
    try:
        if not _has_directory_mode(directory, contents.group) or set(os.listdir(directory)) != tree.keys():
            return False
        for entry, node in tree.items():
            if isinstance(node, VolumeFile):
                if not _is_same_file(directory, entry, node, contents.group):
                    return False
            elif not _is_same(directory, entry, node, contents):
                return False
        return True
    finally:
        os.close(directory)


def _has_directory_mode(directory: int, group: int | None) -> bool:
    info = os.fstat(directory)
    if group is None:
        return stat.S_IMODE(info.st_mode) == _DIRECTORY_MODE
    return stat.S_IMODE(info.st_mode) == _DIRECTORY_MODE | _GROUP_DIRECTORY_BITS and info.st_gid == group


def _is_same_file(directory: int, name: str, file: VolumeFile, group: int | None) -> bool:
    try:
        # Not to hang on a pipe that was planted.
        found = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return False
    try:
        info = os.fstat(found)
        return (
            stat.S_ISREG(info.st_mode)
            and stat.S_IMODE(info.st_mode) == file.mode
            and info.st_nlink == 1
            and info.st_size == len(file.data)
            and info.st_uid == (os.geteuid() if file.owner is None else file.owner)
            and (group is None or info.st_gid == group)
            and _read(found, len(file.data)) == file.data
        )
    finally:
        os.close(found)


def _read(descriptor: int, size: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(size + 1)


# Writing


def _swap(top: int, tree: _Tree, contents: VolumeContents) -> None:
    name = f"..{datetime.now(UTC):%Y_%m_%d_%H_%M_%S}.{secrets.randbelow(10**9):09}"
    try:
        _write(top, name, tree, contents.group)
        remove_tree(_NEW_DATA, dir_fd=top)
        _symlink(name, _NEW_DATA, top, contents.group)
        if not _is_link(_DATA, top):
            remove_tree(_DATA, dir_fd=top)  # nothing, or something that was planted
        os.rename(_NEW_DATA, _DATA, src_dir_fd=top, dst_dir_fd=top)
    except BaseException:
        remove_tree(name, dir_fd=top)
        raise


def _write(parent: int, name: str, tree: _Tree, group: int | None) -> None:
    os.mkdir(name, 0o700, dir_fd=parent)
    directory = directory_fd(name, dir_fd=parent)
    try:
        for entry, node in tree.items():
            if isinstance(node, VolumeFile):
                _write_file(directory, entry, node, group)
            else:
                _write(directory, entry, node, group)
        if group is not None:
            os.fchown(directory, -1, group)
        os.fchmod(directory, _DIRECTORY_MODE if group is None else _DIRECTORY_MODE | _GROUP_DIRECTORY_BITS)
    finally:
        os.close(directory)


def _write_file(directory: int, name: str, file: VolumeFile, group: int | None) -> None:
    # Nobody but us until it is whole and belongs to whom it is for.
    made = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        rest = memoryview(file.data)
        while rest:
            rest = rest[os.write(made, rest) :]
        if file.owner is not None or group is not None:
            os.fchown(made, -1 if file.owner is None else file.owner, -1 if group is None else group)
        os.fchmod(made, file.mode)
    finally:
        os.close(made)


def _symlink(target: str, name: str, top: int, group: int | None) -> None:
    os.symlink(target, name, dir_fd=top)
    if group is not None:
        os.chown(name, -1, group, dir_fd=top, follow_symlinks=False)


# What users see


def _link(top: int, tree: _Tree, group: int | None) -> None:
    for name in tree:
        target = f"{_DATA}/{name}"
        if _is_link(name, top) and os.readlink(name, dir_fd=top) == target:
            continue
        remove_tree(name, dir_fd=top)
        _symlink(target, name, top, group)


def _remove_others(top: int, tree: _Tree) -> None:
    """Links to keys that are gone, and versions that are no longer shown: of a swap now, or of one that was broken off.

    What a container has put there otherwise is its own.
    """
    current = _current(top)
    for name in os.listdir(top):
        if name in tree or name in (_DATA, current):
            continue
        if name == _NEW_DATA or _VERSION.match(name) or _is_link_into_data(name, top):
            remove_tree(name, dir_fd=top)


def _is_link(name: str, top: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _is_link_into_data(name: str, top: int) -> bool:
    return _is_link(name, top) and os.readlink(name, dir_fd=top).startswith(f"{_DATA}/")

"""A container's own view of the machine's files: a mount namespace in which its volumes are where it wants them.

Nothing of it is seen by the machine or remains when the last process in it has ended. Run in the child that becomes the
container, before it gives up its rights. Standard library only.

A place that the machine does not have is made without touching the machine: the directory in which it is missing is
covered by a small one in memory that shows all that is in the directory, entry by entry, and the new place. What the
container then creates in that very directory is its own; everything below its entries is still the machine's. Places
missing in a volume are made in the volume, as by a container runtime.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from virtual_kubelet.providers.process import mount_calls

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from typing import Any

__all__ = ["MOST_ENTRIES", "make_namespace", "new_namespaces"]

#: Of a directory that is shown entry by entry: each is a mount.
MOST_ENTRIES = 4096
#: Of what a container itself creates in such a directory.
_OPTIONS = "size=16m,nr_inodes=65536"
#: What a container may write though its root file system is read-only, as in a runtime's containers.
_ALWAYS_WRITABLE = ("/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")


def new_namespaces(kinds: list[str]) -> None:
    """Be in new namespaces of these kinds (``mnt``, and ``user`` where this program is not root).

    Mounts that the machine makes later come here too, none of ours go there. In a user namespace the user is still who he
    was, and no other: there he may mount.
    """
    user, group = os.geteuid(), os.getegid()
    mount_calls.unshare(*kinds)
    if "user" in kinds:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    mount_calls.propagate("/", "slave")


def make_namespace(request: dict[str, Any], staging: str) -> None:
    """Be where the request's ``mounts`` are. Raises ``OSError``; then this process is of no use any more.

    Args:
        request: ``namespaces``: kinds; ``mounts``: each with ``source``, ``target``, ``read_only``, ``propagation``;
            ``read_only_root``; ``beside``: a process in whose view of the files these mounts are made, and ``kinds`` of
            its namespaces.
        staging: a directory that nobody needs meanwhile.
    """
    beside = request.get("beside")
    if beside is not None:
        mount_calls.join(beside["pid"], beside["kinds"])
        mount_calls.unshare("mnt")
        mount_calls.propagate("/", "slave")
    else:
        new_namespaces(request["namespaces"])
    view = _View(staging)
    # All sources first: a mount may cover the way to the next one's.
    sources = [view.open(mount["source"]) for mount in request["mounts"]]
    if request.get("read_only_root"):
        view.protect()
    for mount, source in zip(request["mounts"], sources, strict=True):
        view.add(mount, source)
    if request.get("read_only_root"):
        view.protect_covers()
    for descriptor, _ in sources:
        os.close(descriptor)
    os.chdir("/")


class _View:
    def __init__(self, staging: str) -> None:
        self.staging = staging
        self.covers: list[str] = []
        self.devices: set[int] = set()  # of covers
        self.volumes: list[str] = []  # where they are mounted
        self.protected = False

    def open(self, source: str) -> tuple[int, bool]:
        """A descriptor of it, and whether it may be written."""
        descriptor = os.open(source, os.O_PATH | os.O_CLOEXEC)
        return descriptor, not os.fstatvfs(descriptor).f_flag & os.ST_RDONLY

    def protect(self) -> None:
        """Nobody in this namespace writes but where it is said."""
        writable = [p for p in _ALWAYS_WRITABLE if os.path.ismount(p) and not os.statvfs(p).f_flag & os.ST_RDONLY]
        mount_calls.make_read_only("/")
        for path in writable:
            mount_calls.make_writable(path)
        self.protected = True

    def protect_covers(self) -> None:
        for cover in self.covers:
            if cover not in _ALWAYS_WRITABLE:
                mount_calls.remount_read_only(cover)

    def add(self, mount: dict[str, Any], source: tuple[int, bool]) -> None:
        descriptor, writable = source
        target = mount["target"]
        real = os.path.realpath(target)
        directory = stat.S_ISDIR(os.stat(descriptor).st_mode)
        parent = self._parent(real, directory)
        try:
            place = _open_in(parent, os.path.basename(real))
            if directory != stat.S_ISDIR(os.stat(place).st_mode):
                number = errno.ENOTDIR if directory else errno.EISDIR
                raise OSError(number, os.strerror(number), target)
            mount_calls.bind(_path(descriptor), _path(place))
            os.close(place)
            place = _open_in(parent, os.path.basename(real))  # what is mounted there
        finally:
            os.close(parent)
        mount_calls.propagate(_path(place), "slave" if mount["propagation"] == "HostToContainer" else "private")
        if mount["read_only"]:
            mount_calls.remount_read_only(_path(place))
        elif self.protected and writable:
            mount_calls.make_writable(_path(place))
        os.close(place)
        self.volumes.append(real)

    def _parent(self, real: str, directory: bool) -> int:
        """A descriptor of the directory in which ``real`` is; made with it, if it is not there."""
        above, name = os.path.split(real)
        volume = max((v for v in self.volumes if real.startswith(v + "/")), key=len, default=None)
        if volume is not None:
            return self._make(os.open(volume, os.O_PATH | os.O_CLOEXEC), os.path.relpath(real, volume), directory)
        if os.path.lexists(real):
            return os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        missing = [name]
        while not os.path.lexists(above):
            above, name = os.path.split(above)
            missing.insert(0, name)
        if os.stat(above).st_dev not in self.devices:
            self._cover(above)
        start = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if os.stat(start).st_dev not in self.devices:
            os.close(start)
            raise OSError(errno.EAGAIN, "the machine's directories have changed meanwhile", above)
        return self._make(start, "/".join(missing), directory)

    def _make(self, start: int, path: str, directory: bool) -> int:
        """Make what is missing of a path, and follow no link: who can write in a volume leads nobody out of it."""
        *folders, last = path.split("/")
        for name in folders:
            with contextlib.suppress(FileExistsError):  # what is there is gone through, if it is a directory
                os.mkdir(name, 0o755, dir_fd=start)
            below = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=start)
            os.close(start)
            start = below
        # What is there is mounted over; of the wrong kind, it is refused there.
        with contextlib.suppress(FileExistsError):
            if directory:
                os.mkdir(last, 0o755, dir_fd=start)
            else:
                how = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
                os.close(os.open(last, how, 0o644, dir_fd=start))
        return start

    def _cover(self, directory: str) -> None:
        """Put a directory in memory over this one, with the same entries."""
        was = os.stat(directory)
        names = os.listdir(directory)
        if len(names) > MOST_ENTRIES:
            why = f"there are more than {MOST_ENTRIES} entries in the directory: no mount point can be made in it"
            raise OSError(errno.EFBIG, why, directory)
        mount_calls.mount_tmpfs(self.staging, _OPTIONS)
        # Else it would show itself where it is below what it shows.
        mount_calls.propagate(self.staging, "unbindable")
        with contextlib.suppress(OSError):  # not root, or somebody unknown in this user namespace
            os.chown(self.staging, was.st_uid, was.st_gid)
        os.chmod(self.staging, stat.S_IMODE(was.st_mode))
        for name in names:
            _show(os.path.join(directory, name), os.path.join(self.staging, name))
        mount_calls.propagate(self.staging, "private", recursive=False)
        self.devices.add(os.stat(self.staging).st_dev)
        if directory == "/":
            os.chdir(self.staging)
            mount_calls.move(".", "/")
            os.chroot(".")
        else:
            mount_calls.move(self.staging, directory)
        self.covers.append(directory)


def _show(entry: str, place: str) -> None:
    try:
        mode = os.lstat(entry).st_mode
    except FileNotFoundError:  # gone meanwhile
        return
    except PermissionError:  # another user's FUSE: it is a directory
        mode = stat.S_IFDIR
    if stat.S_ISLNK(mode):
        os.symlink(os.readlink(entry), place)
        return
    if stat.S_ISDIR(mode):
        os.mkdir(place, 0o755)
    else:
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        mount_calls.bind(entry, place)
    except FileNotFoundError:
        (os.rmdir if stat.S_ISDIR(mode) else os.unlink)(place)


def _open_in(parent: int, name: str) -> int:
    """Of what is there, the topmost mount; no link is followed."""
    return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _path(descriptor: int) -> str:
    return f"/proc/self/fd/{descriptor}"


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)

"""A group of processes (cgroup) for each pod and container: made, limited, emptied, removed. Blocking.

Standard library only. Below a root that the node names, ``virtual-kubelet-HASH/podUID/CONTAINER-ATTEMPT``, where HASH is of
the supervisor's directory: nobody else's groups are touched.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import time

from virtual_kubelet.providers.process.cgroup_entry import write_group_file
from virtual_kubelet.providers.process.cgroup_files import (
    CONTROLLERS,
    MEMORY_FILES,
    group_files,
    hierarchies,
    lower_memory,
    oom_kills,
    resize_writes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from typing import Any

__all__ = [
    "find_controllers",
    "limit_groups",
    "make_groups",
    "places",
    "remove_groups",
    "resize_groups",
    "was_killed",
]

#: Seconds for the processes of a group to be gone once they are killed.
_PATIENCE = 2.0


def places(root: str, directory: str, pod: str, container: str) -> dict[str, str]:
    """Controller -> directory of a container's group ("" for all of them in version 2); empty if there are no cgroups."""
    base = "virtual-kubelet-" + hashlib.sha256(directory.encode()).hexdigest()[:12]
    with open("/proc/self/mountinfo", errors="surrogateescape") as file:
        found = hierarchies(file.read())
    return {name: os.path.join(top, root.strip("/"), base, f"pod{pod}", container) for name, top in found.items()}


def find_controllers(root: str, directory: str) -> list[str]:
    """Which limits can be set, found out by making groups and removing them."""
    groups = places(root, directory, "-probe", "probe")
    able = []
    for name, path in groups.items():
        try:
            make_groups({name: path})
            if name:
                able.append(name)
            else:
                able += [one for one in _read(path, "cgroup.controllers").split() if one in CONTROLLERS]
        except OSError:
            continue  # that is the answer: this one is not ours to use, and the node says so
        finally:
            remove_groups({name: path})
    return able


def make_groups(groups: dict[str, str]) -> None:
    """The container's group and those above it. Raises ``OSError``."""
    for name, path in groups.items():
        pod = os.path.dirname(path)
        base = os.path.dirname(pod)
        for above, below in ((os.path.dirname(base), base), (base, pod), (pod, path)):
            if not name:
                _enable(above)
            with contextlib.suppress(FileExistsError):
                os.mkdir(below, 0o755)


def limit_groups(groups: dict[str, str], of_pod: dict[str, Any], own: dict[str, Any]) -> None:
    """Write the limits of the pod and of the container. Raises ``OSError``."""
    for name, path in groups.items():
        version = 1 if name else 2
        for where, limits in ((os.path.dirname(path), of_pod), (path, own)):
            for controller, file, content, optional in group_files(version, limits, together=where == path):
                if name and controller != name:
                    continue
                missing = not os.path.exists(os.path.join(where, file))
                if missing and (optional or not name):  # in version 2 a controller may be no one's to give
                    continue
                write_group_file(where, file, content)


def resize_groups(groups: dict[str, str], name: str, of_pod: dict[str, Any], own: dict[str, Any]) -> None:
    """Change the limits of a container that runs, and of its pod.

    Raises ``OSError``; with EBUSY, in a kubelet's words, if more memory is in use than is to be had: version 2 would kill
    for it.

    Args:
        name: of the container, for that.
    """
    short = []
    writes = []
    for controller, path in groups.items():
        version = 1 if controller else 2
        where = {"pod": os.path.dirname(path), "own": path}
        now = {}
        for group, directory in where.items():
            for of_file, file, _, _ in group_files(version, own, together=False, lift=True):
                if controller in ("", of_file):
                    with contextlib.suppress(FileNotFoundError):  # not every kernel has it, nor every group
                        now[group, file] = _read(directory, file)
        limit_file, usage_file = MEMORY_FILES[version]
        for group, limits, what in (("pod", of_pod, "pod"), ("own", own, f'container "{name}"')):
            present = now.get((group, limit_file))
            limit = None if present is None else lower_memory(present, limits["memory"])
            if limit is not None:
                usage = int(_read(where[group], usage_file))
                if usage >= limit:
                    short.append(f"attempting to set {what} memory limit ({limit}) below current usage ({usage})")
        for group, file, content in resize_writes(version, now, of_pod, own):
            writes.append((where[group], file, content))
    if short:
        why = short[0] if len(short) == 1 else f"[{', '.join(short)}]"
        raise OSError(errno.EBUSY, f"cannot decrease memory limits: {why}")
    for directory, file, content in writes:
        write_group_file(directory, file, content)


def was_killed(groups: dict[str, str]) -> bool:
    """Whether the kernel has killed a process of the group for want of memory."""
    for name, path in groups.items():
        if name in ("", "memory"):
            with contextlib.suppress(OSError):  # it is gone: nobody knows any more
                if oom_kills(_read(path, "memory.oom_control" if name else "memory.events")):
                    return True
    return False


def remove_groups(groups: dict[str, str]) -> bool:
    """Kill what is in a container's group and remove it, and what is above and empty. Whether it is gone."""
    gone = True
    for path in groups.values():
        deadline = time.monotonic() + _PATIENCE
        while not _remove(path):
            _kill(path)
            if time.monotonic() > deadline:
                gone = False
                break
            time.sleep(0.002)
        pod = os.path.dirname(path)
        _ = _remove(pod) and _remove(os.path.dirname(pod))
    return gone


def _remove(path: str) -> bool:
    try:
        os.rmdir(path)
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.EACCES, errno.EROFS)  # what is not ours cannot be there
    return True


def _kill(path: str) -> None:
    with contextlib.suppress(OSError):  # it is gone; else whoever removes it finds it still there, and says so
        for line in _read(path, "cgroup.procs").split():
            with contextlib.suppress(ProcessLookupError, PermissionError):  # it has ended, or is a setuid program
                os.kill(int(line), signal.SIGKILL)


def _enable(path: str) -> None:
    """Give what controllers there are to the groups below (version 2)."""
    for name in _read(path, "cgroup.controllers").split():
        if name in CONTROLLERS and name not in _read(path, "cgroup.subtree_control").split():
            with contextlib.suppress(OSError):  # processes in a group that is not the root: it keeps them for itself
                write_group_file(path, "cgroup.subtree_control", f"+{name}")


def _read(path: str, name: str) -> str:
    with open(os.path.join(path, name)) as file:
        return file.read()

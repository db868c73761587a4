"""A pod's volumes: set up before its containers start, kept up to date while they run, removed after.

    volumes = PodVolumes(directory, PodKey.of(pod), VolumeSources.of(context), changed=wake)
    await volumes.prepare(pod)                # MountError: say its messages as events, and try again with back-off
    mounts = await volumes.mounts(container)  # at each start of a container; its environment is resolved
    await volumes.refresh(pod)                # after ``changed``, and when the pod's labels or annotations have changed
    await volumes.over_limit()                # from time to time: why the pod is to be evicted
    await volumes.remove()                    # when its containers are gone

``prepare`` may be called again at any time and by any later process: what is there is adopted, an ``emptyDir`` keeps what is
in it. A pod that asks for what there cannot be is to be refused before (``environment.volume_support.check_volumes``).
"""

from __future__ import annotations

import asyncio
import os
import posixpath
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

from virtual_kubelet.contracts.configuration import VolumeContents
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import ContainerStartError, Mount
from virtual_kubelet.environment.empty_dir_size import limit_message, memory_size, size_limit
from virtual_kubelet.environment.expansion import expand
from virtual_kubelet.environment.volume_contents import VolumeContentsError, has_contents, volume_contents
from virtual_kubelet.environment.volume_ownership import volume_group
from virtual_kubelet.environment.volume_references import used_volumes
from virtual_kubelet.environment.volume_support import source_of
from virtual_kubelet.errors import MountError
from virtual_kubelet.objects.core_v1 import Container, Pod, Volume, VolumeMount
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.volumes.atomic_writer import write_atomically
from virtual_kubelet.volumes.directories import PodDirectory, uids_with_directories
from virtual_kubelet.volumes.host_path import set_up_host_path
from virtual_kubelet.volumes.sources import VolumeSources
from virtual_kubelet.volumes.sub_path import prepare_sub_path
from virtual_kubelet.volumes.usage import disk_usage

__all__ = ["PodVolumes", "remove_volumes_of_others"]

log = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds at least and at most until the wall clock is looked at again: it may jump.
_SHORTEST_SLEEP: Final = 1.0
_LONGEST_SLEEP: Final = 60.0
#: The reason of a kubelet for what is wrong with a container's mounts.
_REASON: Final = "CreateContainerConfigError"


class PodVolumes:
    """See the module's docstring. Calls of one pod wait for each other.

    Args:
        directory: of all pods' volumes; private to the node's user.
        key: of the pod.
        sources: of contents.
        changed: called in the loop's thread when ``refresh`` has something to do; must not block.
        binding: whether this process may mount; found out where None. Without it an ``emptyDir`` in memory and secrets
            are plain directories, and a ``subPath`` is not protected against a pod that changes it at that moment.
    """

    def __init__(
        self,
        directory: Path,
        key: PodKey,
        sources: VolumeSources,
        *,
        changed: Callable[[], None],
        binding: bool | None = None,
    ) -> None:
        self._directory = PodDirectory(directory, key.uid, binding=binding)
        self._key = key
        self._sources = sources
        self._changed = changed
        self._owned = os.geteuid() == 0
        self._volumes: dict[str, Volume] = {}
        self._places: dict[str, Path] = {}  # of volumes that were set up
        self._lock = asyncio.Lock()
        self._disk = threading.Lock()  # a call that was cancelled leaves its thread behind, and the next one waits
        self._timer: asyncio.TimerHandle | None = None
        self._removed = False

    async def prepare(self, pod: Pod) -> None:
        """Set up all volumes that a container mounts, and watch what they refer to.

        Raises ``MountError`` for those that cannot be; the others are set up.
        """
        await self._bring_up(pod, used_volumes(pod))

    async def refresh(self, pod: Pod) -> None:
        """Bring files up to date, and set up what was not yet. Raises ``MountError``; the old files stay."""
        await self._bring_up(pod, [v for v in used_volumes(pod) if has_contents(v) or v.name not in self._places])

    async def mounts(self, container: Container) -> Sequence[Mount]:
        """What to mount for one start of a container, outer paths first.

        Args:
            container: with plain variables, for ``subPathExpr``.

        Raises ``ContainerStartError`` with the kubelet's words.
        """
        async with self._lock:
            return await self._in_thread(self._mounts_of, container)

    async def usage(self) -> Mapping[str, int]:
        """Bytes on disk of each ``emptyDir``, by the volume's name."""
        async with self._lock:
            return await self._in_thread(self._usage)

    async def over_limit(self) -> str | None:
        """Why the pod is to be evicted (reason ``Evicted``), if an ``emptyDir`` is larger than its ``sizeLimit``.

        To be asked from time to time: only one in memory cannot grow beyond it.
        """
        limited = {
            name: volume.empty_dir
            for name, volume in self._volumes.items()
            if volume.empty_dir is not None and size_limit(volume.empty_dir)
        }
        if not limited:
            return None
        for name, used in (await self.usage()).items():
            if name in limited and used > size_limit(limited[name]):
                return limit_message(name, limited[name])
        return None

    async def remove(self) -> None:
        """Take away all that was mounted, remove all directories and watch nothing any more.

        Raises ``OSError``; then it is to be called again. No error if there is nothing.
        """
        self._removed = True
        self._sources.references.release(self)
        self._sources.tokens.forget(self._key.uid)
        self._set_timer(None)
        async with self._lock:
            await self._in_thread(self._directory.remove)

    def release(self) -> None:
        """Watch nothing any more, and leave all as it is: for a node that stops."""
        self._sources.references.release(self)
        self._set_timer(None)

    # Setting up

    async def _bring_up(self, pod: Pod, volumes: Sequence[Volume]) -> None:
        async with self._lock:
            if self._removed:
                return
            self._volumes = {volume.name: volume for volume in pod.spec.volumes or ()}
            wanted = used_volumes(pod)
            self._sources.hold(self, pod, wanted, self._changed)
            objects, renew = await self._sources.read(pod, volumes)
            self._set_timer(renew)
            failures = []
            for volume in volumes:
                try:
                    if has_contents(volume):
                        contents = volume_contents(pod, volume, objects, owned=self._owned)
                        place = await self._in_thread(self._write, volume, contents)
                    else:
                        place = await self._in_thread(self._set_up, pod, volume, objects.allocatable)
                except VolumeContentsError as error:
                    failures.append((volume.name, str(error)))
                    # What an earlier process has written is as good as what this one has.
                    if volume.name not in self._places and await self._in_thread(
                        self._directory.is_set_up, volume.name
                    ):
                        self._places[volume.name] = self._directory.volume(volume.name)
                except OSError as error:
                    log.warning("the volume %s cannot be set up: %s", volume.name, error)
                    failures.append((volume.name, (error.strerror or str(error)).lower()))
                except ValueError as error:  # of a hostPath, or something that the API server should not have let pass
                    failures.append((volume.name, str(error)))
                else:
                    self._places[volume.name] = place
            if failures:
                raise MountError(failures)

    def _write(self, volume: Volume, contents: VolumeContents) -> Path:
        # What may be secret is in memory, as with a kubelet.
        memory = volume.config_map is None
        place = self._directory.set_up(volume.name, group=contents.group, writable=False, memory=memory)
        write_atomically(place, contents)
        return place

    def _set_up(self, pod: Pod, volume: Volume, allocatable: Mapping[str, str]) -> Path:
        if volume.host_path is not None:
            return set_up_host_path(volume.host_path)
        if source_of(volume) != "emptyDir":
            raise ValueError(f"this node has no {source_of(volume)} volumes")
        source = volume.empty_dir
        memory = source is not None and source.medium == "Memory"
        return self._directory.set_up(
            volume.name,
            group=volume_group(pod) if self._owned else None,
            writable=True,
            memory=memory,
            size=memory_size(source, pod, allocatable) if memory and source is not None else None,
        )

    def _usage(self) -> Mapping[str, int]:
        found = {}
        for name, place in self._places.items():
            if source_of(self._volumes[name]) == "emptyDir":
                found[name] = disk_usage(place)
        return found

    # Mounts

    def _mounts_of(self, container: Container) -> Sequence[Mount]:
        mounts = [self._mount(container, index, mount) for index, mount in enumerate(container.volume_mounts or ())]
        return sorted(mounts, key=lambda mount: mount.container_path.count("/"))

    def _mount(self, container: Container, index: int, mount: VolumeMount) -> Mount:
        volume, place = self._volumes.get(mount.name), self._places.get(mount.name)
        if volume is None or place is None:
            raise ContainerStartError(f'volume "{mount.name}" is not set up', reason=_REASON)
        sub_path = _sub_path(container, mount)
        if sub_path:
            try:
                place = prepare_sub_path(
                    place,
                    sub_path,
                    self._directory.sub_path(volume.name, container.name, index),
                    binding=self._directory.binding,
                )
            except (OSError, ValueError) as error:
                # What is wrong could tell the pod's user about the machine.
                log.warning("subPath %r of the volume %s: %s", sub_path, volume.name, error)
                raise ContainerStartError(
                    f'failed to prepare subPath for volumeMount "{mount.name}" of container "{container.name}"',
                    reason=_REASON,
                ) from None
        return Mount(
            place,
            posixpath.normpath("/" + mount.mount_path.lstrip("/")),
            read_only=bool(mount.read_only) or has_contents(volume),
            propagation=mount.mount_propagation,
        )

    # Waiting, and threads

    def _set_timer(self, renew: datetime | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if renew is not None:
            left = (renew - self._sources.clock.now()).total_seconds()
            delay = max(_SHORTEST_SLEEP, min(left, _LONGEST_SLEEP))
            self._timer = asyncio.get_running_loop().call_later(delay, self._look_at_clock, renew)

    def _look_at_clock(self, renew: datetime) -> None:
        if self._sources.clock.now() >= renew:
            self._timer = None
            self._changed()
        else:
            self._set_timer(renew)

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        def locked() -> T:
            with self._disk:
                return call(*args, **kwargs)

        return await asyncio.to_thread(locked)


def _sub_path(container: Container, mount: VolumeMount) -> str:
    """``subPath``, or ``subPathExpr`` with the container's variables. Raises ``ContainerStartError``."""
    path = mount.sub_path or ""
    if mount.sub_path_expr:
        values = {variable.name: variable.value for variable in container.env or () if variable.value}
        missing = _Missing()
        path = expand(mount.sub_path_expr, values, missing)
        if missing:
            raise ContainerStartError(f"missing value for {', '.join(sorted(missing))}", reason=_REASON)
    if path.startswith("/"):
        raise ContainerStartError(f"error SubPath `{path}` must not be an absolute path", reason=_REASON)
    if ".." in path.split("/"):
        raise ContainerStartError(f"unable to provision SubPath `{path}`: must not contain '..'", reason=_REASON)
    return path


class _Missing(dict[str, str]):
    """Has every name, as an empty text, and remembers which were asked for."""

    def __contains__(self, name: object) -> bool:
        self[str(name)] = ""
        return True


async def remove_volumes_of_others(directory: Path, uids: Collection[str]) -> None:
    """Remove the volumes of pods that are not among ``uids``: left by a process that was killed. Raises ``OSError``."""

    def remove() -> None:
        for uid in uids_with_directories(directory):
            if uid not in uids:
                PodDirectory(directory, uid).remove()

    await asyncio.to_thread(remove)

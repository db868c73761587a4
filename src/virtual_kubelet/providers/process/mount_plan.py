"""What a container's mounts become on this machine: mounts of its own, or links where it cannot have any. Pure."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from virtual_kubelet import ContainerConfig, Mount
from virtual_kubelet.objects.core_v1 import Container, Pod, Volume

__all__ = ["Abilities", "planned_links", "planned_mounts", "unlinkable"]

_SERVICE_ACCOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_MESSAGE: Final = "/dev/termination-log"


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the supervisor may do for containers.

    Attributes:
        namespaces: kinds that each container gets, so that it has mounts of its own; empty: it cannot have any.
        read_only_root: whether all of the machine's files can be read-only for a container.
        capabilities: that this program has, a bit each.
        controllers: of cgroups whose limits it can set.
    """

    namespaces: Sequence[str] = ()
    read_only_root: bool = False
    capabilities: int = 0
    controllers: frozenset[str] = frozenset()


def planned_mounts(mounts: Sequence[Mount]) -> list[dict[str, Any]]:
    """For ``mount_namespace.make_namespace``: outer places first."""
    planned = [
        {
            "source": str(mount.host_path),
            "target": _place(mount.container_path),
            "read_only": mount.read_only,
            "propagation": mount.propagation,
        }
        for mount in mounts
    ]
    return sorted(planned, key=lambda one: one["target"].count("/"))


def planned_links(config: ContainerConfig, may_link: Callable[[str], bool]) -> list[list[str]]:
    """Place and volume of each link that stands for a mount.

    The service account's volume and the message's file are in every pod, at places that only root can make: they are left
    out where they cannot be. All else was refused when the pod was admitted, or fails.
    """
    optional = {place for place, volume in _volume_places(config.pod, config.container) if _is_automatic(volume, place)}
    optional.add(_MESSAGE)
    links = []
    for mount in config.mounts:
        place = _place(mount.container_path)
        if str(mount.host_path) == place or (place in optional and not may_link(place)):
            continue
        links.append([place, str(mount.host_path)])
    return links


def unlinkable(pod: Pod, container: Container, may_link: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Fields of a container whose volumes cannot be where they are wanted without mounts, each with the reason."""
    volumes = {volume.name: volume for volume in pod.spec.volumes or ()}
    for mount in container.volume_mounts or ():
        volume, place = volumes.get(mount.name), _place(mount.mount_path)
        if volume is None or _is_automatic(volume, place):
            continue
        where = f"volumeMounts[{mount.name}]"
        if mount.read_only and (volume.host_path is not None or volume.empty_dir is not None):
            yield f"{where}.readOnly", "this program may not mount, and without that it can make nothing read-only"
        if volume.host_path is not None and not mount.sub_path and _place(volume.host_path.path) == place:
            continue
        if not may_link(place):
            yield (
                f"{where}.mountPath",
                "this program may not mount: a volume can only be linked where there is nothing yet, in a directory that "
                "it may write",
            )


def _volume_places(pod: Pod, container: Container) -> Iterator[tuple[str, Volume]]:
    volumes = {volume.name: volume for volume in pod.spec.volumes or ()}
    for mount in container.volume_mounts or ():
        if mount.name in volumes:
            yield _place(mount.mount_path), volumes[mount.name]


def _is_automatic(volume: Volume, place: str) -> bool:
    """Whether it is the volume that an API server puts into every pod."""
    token = volume.projected is not None and volume.name.startswith("kube-api-access-")
    return place == _SERVICE_ACCOUNT and (token or volume.secret is not None)


def _place(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))

"""Which volumes this node can set up. A pod that wants others is refused when it is admitted, never half-run. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator
from typing import Final

from msgspec.structs import fields

from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import Container, Pod, Volume, VolumeMount, VolumeProjection

__all__ = ["MOUNT_PROPAGATIONS", "VOLUME_SOURCES", "check_volumes", "source_of"]

#: Fields of ``Volume`` that ``PodVolumes`` sets up.
VOLUME_SOURCES: Final = frozenset({"emptyDir", "hostPath", "configMap", "secret", "downwardAPI", "projected"})

_REASON: Final = "UnsupportedVolume"
_HOST_PATH_TYPES: Final = (
    "",
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
)
#: All that there are.
MOUNT_PROPAGATIONS: Final = ("None", "HostToContainer", "Bidirectional")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z")
#: JSON names of ``Volume``'s fields, by their names here.
_JSON: Final = {field.name: field.encode_name for field in fields(Volume)}


def source_of(volume: Volume) -> str:
    """The JSON name of the one source that a volume has; ``emptyDir`` if it has none, as the API server's default."""
    for name, json_name in _JSON.items():
        if name != "name" and getattr(volume, name) is not None:
            return json_name
    return "emptyDir"


def check_volumes(
    pod: Pod, *, sources: Collection[str] = VOLUME_SOURCES, propagations: Collection[str] = ("None",)
) -> None:
    """Raise ``InvalidInputError``, naming the field, if the pod wants a volume that it cannot have here.

    Args:
        sources: JSON names of the kinds of volumes that the runtime can mount.
        propagations: values of ``mountPropagation`` that it honours.
    """
    names = set()
    for index, volume in enumerate(pod.spec.volumes or ()):
        for message in _problems(volume, f"spec.volumes[{index}]", sources):
            raise InvalidInputError(message, reason=_REASON)
        names.add(volume.name)
    spec = pod.spec
    groups: tuple[tuple[str, Collection[Container]], ...] = (
        ("initContainers", spec.init_containers or ()),
        ("containers", spec.containers),
        ("ephemeralContainers", spec.ephemeral_containers or ()),  # type: ignore[assignment]  # have what counts here
    )
    for group, containers in groups:
        for index, container in enumerate(containers):
            at = f"spec.{group}[{index}]"
            for message in _problems_of_mounts(container, at, names, propagations):
                raise InvalidInputError(message, reason=_REASON)


def _problems(volume: Volume, at: str, sources: Collection[str]) -> Iterator[str]:
    if not _NAME.match(volume.name):
        yield f"{at}.name: a volume's name is a DNS label: {volume.name!r}"
    source = source_of(volume)
    if source not in sources:
        yield f"{at}.{source}: this node has no {source} volumes"
    if volume.empty_dir is not None and volume.empty_dir.medium not in (None, "", "Memory"):
        yield f"{at}.emptyDir.medium: this node has no medium {volume.empty_dir.medium!r}"
    if volume.host_path is not None:
        kind, path = volume.host_path.type, volume.host_path.path
        if (kind or "") not in _HOST_PATH_TYPES:
            yield f"{at}.hostPath.type: {kind} is an invalid volume type"
        if not path.startswith("/") or "\0" in path or ".." in path.split("/"):
            yield f"{at}.hostPath.path: must be an absolute path without '..'"
    for index, projection in enumerate((volume.projected.sources if volume.projected is not None else None) or ()):
        yield from _problems_of_projection(projection, f"{at}.projected.sources[{index}]")


def _problems_of_projection(projection: VolumeProjection, at: str) -> Iterator[str]:
    if projection.cluster_trust_bundle is not None:
        yield f"{at}.clusterTrustBundle: this node has no clusterTrustBundle volume sources"
    if projection.pod_certificate is not None:
        yield f"{at}.podCertificate: this node has no podCertificate volume sources"


def _problems_of_mounts(
    container: Container, at: str, volumes: Collection[str], propagations: Collection[str]
) -> Iterator[str]:
    if container.volume_devices:
        yield f"{at}.volumeDevices: this node has no block devices for containers"
    for index, mount in enumerate(container.volume_mounts or ()):
        where = f"{at}.volumeMounts[{index}]"
        if mount.name not in volumes:
            yield f"{where}.name: there is no volume {mount.name!r}"
        yield from _problems_of_mount(mount, where, propagations)


def _problems_of_mount(mount: VolumeMount, at: str, propagations: Collection[str]) -> Iterator[str]:
    path = mount.mount_path
    if not path or "\0" in path or posixpath.normpath("/" + path.lstrip("/")) == "/":
        yield f"{at}.mountPath: {path!r} is no place for a volume"
    wanted = mount.mount_propagation or "None"
    if wanted not in MOUNT_PROPAGATIONS:
        yield f"{at}.mountPropagation: {wanted} is an unknown mount propagation"
    elif wanted not in propagations:
        yield f"{at}.mountPropagation: this node does not propagate mounts ({wanted})"
    if mount.recursive_read_only == "Enabled":
        yield f"{at}.recursiveReadOnly: this node cannot make mounts below a mount read-only"

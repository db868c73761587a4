"""A pod's whole configuration, for providers that keep files by themselves: read once, and told apart from another."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import NamedTuple, TypeVar

import msgspec

from virtual_kubelet.contracts.configuration import PodConfiguration, VolumeContents
from virtual_kubelet.environment.reading import read_object
from virtual_kubelet.environment.references import references_of
from virtual_kubelet.environment.resolution import ReadFailure
from virtual_kubelet.environment.volume_contents import VolumeContentsError, has_contents, volume_contents
from virtual_kubelet.environment.volume_references import used_volumes, volume_references
from virtual_kubelet.errors import ApiConnectionError, MountError
from virtual_kubelet.objects.core_v1 import ConfigMap, Pod, Secret
from virtual_kubelet.volumes.sources import VolumeSources

__all__ = ["ConfigurationRead", "hold_configuration", "read_configuration"]

T = TypeVar("T", ConfigMap, Secret)


class ConfigurationRead(NamedTuple):
    """``renew``: when tokens in it are to be renewed; ``digest``: equal for equal configurations."""

    configuration: PodConfiguration
    renew: datetime | None
    digest: bytes


def hold_configuration(sources: VolumeSources, holder: Hashable, pod: Pod, changed: Callable[[], None]) -> None:
    """Watch all that the pod's variables and volumes refer to."""
    variables, files = references_of(pod), volume_references(used_volumes(pod))
    sources.references.hold(
        holder,
        namespace=pod.metadata.namespace or "",
        config_maps=variables.config_maps | files.config_maps,
        secrets=variables.secrets | files.secrets,
        changed=changed,
    )


async def read_configuration(sources: VolumeSources, pod: Pod) -> ConfigurationRead:
    """Raises ``MountError`` for volumes that cannot be had, ``ApiConnectionError`` if the rest cannot be read now."""
    namespace = pod.metadata.namespace or ""
    volumes = [volume for volume in used_volumes(pod) if has_contents(volume)]
    objects, renew = await sources.read(pod, volumes)
    contents: dict[str, VolumeContents] = {}
    failures = []
    for volume in volumes:
        try:
            contents[volume.name] = volume_contents(pod, volume, objects)
        except VolumeContentsError as error:
            failures.append((volume.name, str(error)))
    if failures:
        raise MountError(failures)
    variables = references_of(pod)
    config_maps = dict(objects.config_maps)
    secrets = dict(objects.secrets)
    for name in variables.config_maps - config_maps.keys():
        config_maps[name] = await read_object(sources.config_maps.get(namespace, name))
    for name in variables.secrets - secrets.keys():
        secrets[name] = await read_object(sources.secrets.get(namespace, name))
    configuration = PodConfiguration(
        {name: _known(name, found) for name, found in sorted(config_maps.items())},
        {name: _known(name, found) for name, found in sorted(secrets.items())},
        contents,
    )
    return ConfigurationRead(configuration, renew, _digest(configuration))


def _known(name: str, found: T | ReadFailure | None) -> T | None:
    if isinstance(found, ReadFailure):
        raise ApiConnectionError(f"{name} cannot be read: {found.message}")
    return found


def _digest(configuration: PodConfiguration) -> bytes:
    objects = [
        (kind, name, found and (found.data, getattr(found, "binary_data", None)))
        for kind, table in (("c", configuration.config_maps), ("s", configuration.secrets))
        for name, found in table.items()
    ]
    files = [
        (name, contents.group, path, file.data, file.mode, file.owner)
        for name, contents in configuration.volumes.items()
        for path, file in contents.files.items()
    ]
    return hashlib.sha256(msgspec.json.encode((objects, files), order="sorted")).digest()

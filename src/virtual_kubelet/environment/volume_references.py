"""Which volumes of a pod count, and which ConfigMaps, Secrets and tokens these refer to. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from virtual_kubelet.environment.references import containers_of
from virtual_kubelet.environment.volume_contents import TokenSpec
from virtual_kubelet.objects.core_v1 import Pod, Volume

__all__ = ["VolumeReferences", "used_volumes", "volume_references"]


class VolumeReferences(NamedTuple):
    """Names in the pod's own namespace, and the tokens of its own service account."""

    config_maps: frozenset[str]
    secrets: frozenset[str]
    tokens: frozenset[TokenSpec]


def used_volumes(pod: Pod) -> list[Volume]:
    """The volumes that a container mounts. A kubelet sets up no other: what those refer to need not be there."""
    mounted = {mount.name for container in containers_of(pod) for mount in container.volume_mounts or ()}
    return [volume for volume in pod.spec.volumes or () if volume.name in mounted]


def volume_references(volumes: Iterable[Volume]) -> VolumeReferences:
    """What has to be read before the contents of these volumes are known."""
    config_maps: set[str | None] = set()
    secrets: set[str | None] = set()
    tokens: set[TokenSpec] = set()
    for volume in volumes:
        if volume.config_map is not None:
            config_maps.add(volume.config_map.name)
        if volume.secret is not None:
            secrets.add(volume.secret.secret_name)
        for source in (volume.projected.sources if volume.projected is not None else None) or ():
            if source.config_map is not None:
                config_maps.add(source.config_map.name)
            if source.secret is not None:
                secrets.add(source.secret.name)
            if source.service_account_token is not None:
                tokens.add(TokenSpec.of(source.service_account_token))
    return VolumeReferences(
        frozenset(name for name in config_maps if name), frozenset(name for name in secrets if name), frozenset(tokens)
    )

"""Which ConfigMaps and Secrets a pod's environment refers to, whether it wants Services, and its own addresses. Pure."""

from __future__ import annotations

from collections.abc import Container as Holder
from collections.abc import Iterator
from typing import Final, NamedTuple

from virtual_kubelet.objects.core_v1 import Container, Pod

__all__ = ["ObjectReferences", "containers_of", "references_of"]


_ADDRESSES: Final = ("status.podIP", "status.podIPs")


class ObjectReferences(NamedTuple):
    """Names in the pod's own namespace; ``needs_addresses``: a variable is one of its ``status.podIP(s)``."""

    config_maps: frozenset[str]
    secrets: frozenset[str]
    needs_services: bool
    needs_addresses: bool = False


def containers_of(pod: Pod) -> Iterator[Container]:
    """Init containers, containers and ephemeral containers, in this order; the last as far as they are containers."""
    yield from pod.spec.init_containers or ()
    yield from pod.spec.containers
    yield from pod.spec.ephemeral_containers or ()  # type: ignore[misc]  # have all that an environment needs


def references_of(pod: Pod, settled: Holder[str] = ()) -> ObjectReferences:
    """What has to be read before the environment of the pod's containers, but for the ``settled`` ones, can be resolved."""
    config_maps: set[str] = set()
    secrets: set[str] = set()
    needs_addresses = False
    for container in containers_of(pod):
        if container.name in settled:
            continue
        for source in container.env_from or ():
            if source.config_map_ref is not None and source.config_map_ref.name:
                config_maps.add(source.config_map_ref.name)
            if source.secret_ref is not None and source.secret_ref.name:
                secrets.add(source.secret_ref.name)
        for variable in container.env or ():
            if variable.value_from is None:
                continue
            if variable.value_from.config_map_key_ref is not None:
                config_maps.add(variable.value_from.config_map_key_ref.name or "")
            if variable.value_from.secret_key_ref is not None:
                secrets.add(variable.value_from.secret_key_ref.name or "")
            field = variable.value_from.field_ref
            needs_addresses = needs_addresses or (field is not None and field.field_path in _ADDRESSES)
    # A nil enableServiceLinks is true; the API server's own Service is wanted in any case.
    return ObjectReferences(
        frozenset(config_maps - {""}),
        frozenset(secrets - {""}),
        pod.spec.enable_service_links is not False,
        needs_addresses,
    )

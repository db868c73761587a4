"""Reads what a pod's volumes are made of: ConfigMaps, Secrets and tokens, by the readers of a ``ProviderContext``."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from virtual_kubelet.clock import Clock
from virtual_kubelet.contracts.context import ObjectReader, ProviderContext, ReferenceWatcher, TokenReader
from virtual_kubelet.environment.reading import read_object
from virtual_kubelet.environment.resolution import ReadFailure
from virtual_kubelet.environment.volume_contents import TokenSpec, VolumeObjects
from virtual_kubelet.environment.volume_references import volume_references
from virtual_kubelet.errors import ApiConnectionError, ApiError
from virtual_kubelet.objects.core_v1 import ConfigMap, Pod, Secret, Volume

__all__ = ["VolumeSources"]


@dataclass(frozen=True, slots=True)
class VolumeSources:
    """Where contents come from; each as in ``ProviderContext``."""

    config_maps: ObjectReader[ConfigMap]
    secrets: ObjectReader[Secret]
    references: ReferenceWatcher
    tokens: TokenReader
    allocatable: Callable[[], Mapping[str, str]]
    clock: Clock

    @classmethod
    def of(cls, context: ProviderContext) -> VolumeSources:
        """Those that a provider was given."""
        return cls(
            context.config_maps,
            context.secrets,
            context.references,
            context.tokens,
            context.allocatable,
            context.clock,
        )

    def hold(self, holder: Hashable, pod: Pod, volumes: Sequence[Volume], changed: Callable[[], None]) -> None:
        """Watch what these volumes refer to, in place of what ``holder`` held."""
        wanted = volume_references(volumes)
        self.references.hold(
            holder,
            namespace=pod.metadata.namespace or "",
            config_maps=wanted.config_maps,
            secrets=wanted.secrets,
            changed=changed,
        )

    async def read(self, pod: Pod, volumes: Sequence[Volume]) -> tuple[VolumeObjects, datetime | None]:
        """What ``volume_contents`` needs, and when it is to be read again for the sake of its tokens."""
        wanted = volume_references(volumes)
        namespace = pod.metadata.namespace or ""
        tokens: dict[TokenSpec, str | ReadFailure] = {}
        renewals = []
        for spec in sorted(wanted.tokens):
            try:
                found = await self.tokens.get(pod, spec.audience, spec.expiration_seconds)
            except (ApiError, ApiConnectionError) as error:
                tokens[spec] = ReadFailure(str(error))
            else:
                tokens[spec] = found.token
                renewals.append(found.renew)
        objects = VolumeObjects(
            config_maps={n: await read_object(self.config_maps.get(namespace, n)) for n in sorted(wanted.config_maps)},
            secrets={n: await read_object(self.secrets.get(namespace, n)) for n in sorted(wanted.secrets)},
            tokens=tokens,
            allocatable=self.allocatable(),
        )
        return objects, min(renewals, default=None)

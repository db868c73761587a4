"""The environment of one pod's containers, resolved when each starts, as a kubelet does.

    environment = ContainerEnvironment(EnvironmentSources.of(context), changed=wake)
    container = await environment.resolve(pod, container, pod_ips)   # at each start; ContainerStartError says why not
    environment.release()                                            # when the pod is gone

By then the pod's addresses are known, and a container that starts again sees a ConfigMap as it is now. A provider that does
this says so with ``resolves_environment`` and is given pods as they are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from virtual_kubelet.contracts.context import ObjectReader, ProviderContext, ReferenceWatcher
from virtual_kubelet.contracts.runtime import ContainerStartError
from virtual_kubelet.environment.reading import read_object
from virtual_kubelet.environment.references import containers_of, references_of
from virtual_kubelet.environment.resolution import EnvironmentSource, resolve_container
from virtual_kubelet.errors import ApiConnectionError, ApiError
from virtual_kubelet.objects.core_v1 import ConfigMap, Container, Pod, Secret, Service

__all__ = ["ContainerEnvironment", "EnvironmentSources"]

#: As the kubelet's kubelet_pods.go says it.
_NO_SERVICES: Final = "services have not yet been read at least once, cannot construct envvars"
_REASON: Final = "CreateContainerConfigError"


@dataclass(frozen=True, slots=True)
class EnvironmentSources:
    """Where variables come from; each as in ``ProviderContext``."""

    config_maps: ObjectReader[ConfigMap]
    secrets: ObjectReader[Secret]
    services: Callable[[str], Awaitable[Sequence[Service]]]
    references: ReferenceWatcher
    allocatable: Callable[[], Mapping[str, str]]
    host_ips: Sequence[str]
    api_server: tuple[str, int] | None

    @classmethod
    def of(cls, context: ProviderContext) -> EnvironmentSources:
        """Those that a provider was given."""
        return cls(
            context.config_maps,
            context.secrets,
            context.services,
            context.references,
            context.allocatable,
            context.host_ips,
            context.api_server,
        )


class ContainerEnvironment:
    """Of one pod. ``changed`` is called in the loop's thread when something that its variables refer to has changed: a
    container that could not start may now."""

    def __init__(self, sources: EnvironmentSources, *, changed: Callable[[], None]) -> None:
        self._sources = sources
        self._changed = changed

    async def resolve(self, pod: Pod, container: Container, pod_ips: Sequence[str]) -> Container:
        """A copy with plain variables, and with command and arguments expanded.

        Raises ``ContainerStartError`` with the kubelet's reason and words; that it may be tried again is for all of them.
        """
        sources, namespace = self._sources, pod.metadata.namespace or ""
        wanted = references_of(pod)
        sources.references.hold(
            self,
            namespace=namespace,
            config_maps=wanted.config_maps,
            secrets=wanted.secrets,
            changed=self._changed,
        )
        of = {"default", namespace} if wanted.needs_services else {"default"}
        sources.references.hold((self, "services"), namespace=namespace, services_of=of)  # no container waits for one
        own = references_of(pod, {other.name for other in containers_of(pod)} - {container.name})
        source = EnvironmentSource(
            config_maps={n: await read_object(sources.config_maps.get(namespace, n)) for n in sorted(own.config_maps)},
            secrets={n: await read_object(sources.secrets.get(namespace, n)) for n in sorted(own.secrets)},
            services=await self._services(of),
            pod_ips=pod_ips,
            host_ips=sources.host_ips,
            allocatable=sources.allocatable(),
            api_server_override=sources.api_server,
        )
        resolution = resolve_container(pod, container, source)
        if resolution.container is None:
            assert resolution.failure is not None
            raise ContainerStartError(resolution.failure.message, reason=_REASON)
        return resolution.container

    def release(self) -> None:
        """Watch nothing any more."""
        self._sources.references.release(self)
        self._sources.references.release((self, "services"))

    async def _services(self, namespaces: set[str]) -> Sequence[Service]:
        try:
            return [service for name in sorted(namespaces) for service in await self._sources.services(name)]
        except (ApiError, ApiConnectionError) as error:
            raise ContainerStartError(f"{_NO_SERVICES}: {error}", reason=_REASON) from error

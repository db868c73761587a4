"""A pod's environment before it goes to the provider: fetches what it refers to, has it resolved, keeps the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from virtual_kubelet.contracts.pods import EnvironmentResolver, PodAddresses
from virtual_kubelet.environment.reading import read_object
from virtual_kubelet.environment.references import ObjectReferences, containers_of, references_of
from virtual_kubelet.environment.resolution import EnvironmentSource, resolve_environment
from virtual_kubelet.environment.settled import settled_at_creation, settled_in
from virtual_kubelet.errors import ApiConnectionError, ApiError, InvalidInputError
from virtual_kubelet.kube.events import EventRecorder, pod_reference
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.node.provider_calls import ProviderCalls
from virtual_kubelet.node.provider_failures import config_error_status
from virtual_kubelet.objects.core_v1 import Pod, PodStatus, Service

__all__ = ["EnvironmentNotReadyError", "PodEnvironment"]

#: The reason of a kubelet, and its words where Services cannot be had (kubelet_pods.go).
_REASON: Final = "CreateContainerConfigError"
_NO_SERVICES: Final = "services have not yet been read at least once, cannot construct envvars"


class EnvironmentNotReadyError(Exception):
    """The pod refers to something that is not there (yet); ``status`` says so as a kubelet would.

    ``waits_for_address``: to the pod's own address.
    """

    def __init__(self, message: str, status: PodStatus, *, waits_for_address: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.waits_for_address = waits_for_address


class PodEnvironment:
    """Resolves once, at creation; later updates of the pod get the same variables, whatever became of their sources."""

    def __init__(self, config: PodControllerConfig, calls: ProviderCalls, recorder: EventRecorder) -> None:
        assert config.references is not None
        self._config = config
        self._calls = calls
        self._references = config.references
        provider = config.provider
        self._resolves_itself = isinstance(provider, EnvironmentResolver) and provider.resolves_environment
        self._recorder = recorder

    def adopt(self, record: PodRecord, pod: Pod, deployed: Pod) -> None:
        """``deployed`` is the provider's own copy: what it says of variables from other objects is settled."""
        wanted = references_of(pod)
        if wanted.config_maps or wanted.secrets:
            record.settled = settled_in(deployed, pod)

    async def resolve(self, record: PodRecord, pod: Pod) -> Pod:
        """The pod for the provider.

        Raises ``EnvironmentNotReadyError``, ``InvalidInputError`` if it can never be, ``ProviderCallError``.
        """
        config = self._config
        if config.skip_downward_api_resolution or self._resolves_itself:
            return pod
        settled = record.settled or {}
        wanted = references_of(pod, settled)
        everything_settled = bool(settled) and all(c.name in settled for c in containers_of(pod))
        if everything_settled:
            source = EnvironmentSource()
        else:
            source = await self._gather(record, pod, wanted)
        resolution = resolve_environment(pod, source, settled=settled)
        for event in resolution.events:
            self._recorder.event(pod_reference(pod), *event)
        failure = resolution.failure
        if failure is not None:
            if failure.permanent:
                raise InvalidInputError(f"container {failure.container}: {failure.message}", reason=failure.reason)
            raise EnvironmentNotReadyError(
                failure.message,
                config_error_status(pod, failure.container, failure.reason, failure.message),
                waits_for_address=not failure.missing,
            )
        assert resolution.pod is not None
        if wanted.config_maps or wanted.secrets:
            record.settled = settled_at_creation(resolution.pod)
        return resolution.pod

    def release(self, record: PodRecord) -> None:
        """The pod is gone: what it referred to need not be watched for it."""
        self._references.release(record.key)

    async def _gather(self, record: PodRecord, pod: Pod, wanted: ObjectReferences) -> EnvironmentSource:
        config = self._config
        namespace = pod.metadata.namespace or ""
        namespaces = {"default", namespace} if wanted.needs_services else {"default"}
        self._references.hold(
            record.key,
            namespace=namespace,
            config_maps=wanted.config_maps,
            secrets=wanted.secrets,
            services_of=namespaces,
        )
        get_map, get_secret = self._references.get_config_map, self._references.get_secret
        return EnvironmentSource(
            config_maps={name: await read_object(get_map(namespace, name)) for name in wanted.config_maps},
            secrets={name: await read_object(get_secret(namespace, name)) for name in wanted.secrets},
            services=await self._services(pod, namespaces),
            pod_ips=await self._pod_ips(record, pod) if wanted.needs_addresses else None,
            pod_ips_may_come=isinstance(config.provider, PodAddresses),
            host_ips=config.host_ips,
            allocatable=config.allocatable(),
            api_server_override=config.api_server,
        )

    async def _services(self, pod: Pod, namespaces: Iterable[str]) -> Sequence[Service]:
        try:
            return [service for name in namespaces for service in await self._references.services(name)]
        except (ApiError, ApiConnectionError) as error:
            message = f"{_NO_SERVICES}: {error}"
            first = next(containers_of(pod)).name
            self._recorder.event(pod_reference(pod), "Warning", "FailedToReadServices", message)
            raise EnvironmentNotReadyError(message, config_error_status(pod, first, _REASON, message)) from error

    async def _pod_ips(self, record: PodRecord, pod: Pod) -> Sequence[str] | None:
        told = record.status
        if told is not None and told.pod_ip:
            return [address.ip for address in told.pod_ips or ()] or [told.pod_ip]
        return await self._calls.get_pod_ips(pod) if isinstance(self._config.provider, PodAddresses) else None

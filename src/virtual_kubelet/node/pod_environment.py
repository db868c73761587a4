"""A pod's environment before it goes to the provider: fetches what it refers to, has it resolved, keeps the result."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import Any, TypeVar

from virtual_kubelet.contracts.pods import PodAddresses
from virtual_kubelet.environment.expansion import expand
from virtual_kubelet.environment.references import references_of
from virtual_kubelet.environment.resolution import EnvironmentSource, ReadFailure, resolve_environment
from virtual_kubelet.errors import ApiConnectionError, ApiError, ApiNotFoundError, InvalidInputError
from virtual_kubelet.kube.events import EventRecorder, pod_reference
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.node.provider_failures import config_error_status
from virtual_kubelet.objects.core_v1 import Pod, PodStatus, Service

__all__ = ["EnvironmentNotReadyError", "PodEnvironment"]

T = TypeVar("T")


class EnvironmentNotReadyError(Exception):
    """The pod refers to something that is not there (yet); ``status`` says so as a kubelet would."""

    def __init__(self, message: str, status: PodStatus) -> None:
        super().__init__(message)
        self.status = status


class PodEnvironment:
    """Resolves once, at creation; later updates of the pod get the same variables, whatever became of their sources.

    (Upstream resolves at every sync, so a deleted ConfigMap blocks an unrelated update: virtual-kubelet#649.)
    """

    def __init__(self, config: PodControllerConfig, recorder: EventRecorder) -> None:
        assert config.references is not None
        self._config = config
        self._references = config.references
        self._recorder = recorder

    async def resolve(self, record: PodRecord, pod: Pod) -> Pod:
        """The pod for the provider. Raises ``EnvironmentNotReadyError``, or ``InvalidInputError`` if it can never be."""
        config = self._config
        if config.skip_downward_api_resolution:
            return pod
        if record.resolved is not None:
            return _with_environment(pod, record.resolved)
        namespace = pod.metadata.namespace or ""
        wanted = references_of(pod)
        namespaces = {"default", namespace} if wanted.needs_services else {"default"}
        self._references.hold(
            record.key,
            namespace=namespace,
            config_maps=wanted.config_maps,
            secrets=wanted.secrets,
            services_of=namespaces,
        )
        get_map, get_secret = self._references.get_config_map, self._references.get_secret
        source = EnvironmentSource(
            config_maps={name: await _read(get_map(namespace, name)) for name in wanted.config_maps},
            secrets={name: await _read(get_secret(namespace, name)) for name in wanted.secrets},
            services=await self._services(namespaces),
            pod_ips=await self._pod_ips(pod),
            host_ips=config.host_ips,
            allocatable=config.allocatable(),
            api_server_override=config.api_server,
        )
        resolution = resolve_environment(pod, source)
        for event in resolution.events:
            self._recorder.event(pod_reference(pod), *event)
        failure = resolution.failure
        if failure is not None:
            if failure.permanent:
                raise InvalidInputError(f"container {failure.container}: {failure.message}", reason=failure.reason)
            raise EnvironmentNotReadyError(
                failure.message, config_error_status(pod, failure.container, failure.reason, failure.message)
            )
        assert resolution.pod is not None
        if wanted.config_maps or wanted.secrets:
            record.resolved = _environment_of(resolution.pod)
        return resolution.pod

    def release(self, record: PodRecord) -> None:
        """The pod is gone: what it referred to need not be watched for it."""
        self._references.release(record.key)

    async def _services(self, namespaces: Iterable[str]) -> Sequence[Service]:
        return [service for name in namespaces for service in await self._references.services(name)]

    async def _pod_ips(self, pod: Pod) -> Sequence[str] | None:
        provider = self._config.provider
        return await provider.get_pod_ips(pod) if isinstance(provider, PodAddresses) else None


async def _read(call: Awaitable[T]) -> T | ReadFailure | None:
    try:
        return await call
    except ApiNotFoundError:
        return None
    except (ApiError, ApiConnectionError) as error:
        return ReadFailure(str(error))


def _environment_of(pod: Pod) -> dict[str, Any]:
    return {c.name: c.env for c in (*(pod.spec.init_containers or ()), *pod.spec.containers)}


def _with_environment(pod: Pod, environment: dict[str, Any]) -> Pod:
    for container in (*(pod.spec.init_containers or ()), *pod.spec.containers):
        if container.name in environment:
            container.env, container.env_from = environment[container.name], None
            values = {variable.name: variable.value or "" for variable in container.env or ()}
            container.command = [expand(part, values) for part in container.command or ()] or container.command
            container.args = [expand(part, values) for part in container.args or ()] or container.args
    return pod

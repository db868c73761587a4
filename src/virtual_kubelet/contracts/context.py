"""What a provider is given when it is made."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from virtual_kubelet.clock import Clock
from virtual_kubelet.contracts.configuration import PodConfiguration
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import ConfigMap, Pod, Secret, Service
from virtual_kubelet.objects.service_account_token import ServiceAccountToken
from virtual_kubelet.telemetry.tracing import Tracer

__all__ = [
    "EventCallback",
    "ObjectReader",
    "PodReader",
    "ProviderContext",
    "ReferenceWatcher",
    "TokenReader",
]

T_co = TypeVar("T_co", covariant=True)


class PodReader(Protocol):
    """The pods bound to this node, as the API server last said."""

    def get(self, namespace: str, name: str) -> Pod | None: ...

    def list(self) -> Iterable[Pod]: ...


class ObjectReader(Protocol[T_co]):
    """One kind of object, read one by one: with a node's own rights, only those its pods refer to."""

    async def get(self, namespace: str, name: str) -> T_co:
        """The object. Raises ``ApiNotFoundError`` or another ``ApiError``."""
        ...


class ReferenceWatcher(Protocol):
    """Watches ConfigMaps and Secrets that pods of this node refer to; ``ObjectReader`` then answers from what is watched."""

    def hold(
        self,
        holder: Hashable,
        *,
        namespace: str,
        config_maps: Iterable[str] = (),
        secrets: Iterable[str] = (),
        services_of: Iterable[str] = (),
        changed: Callable[[], None] | None = None,
    ) -> None:
        """Watch these, and the Services of whole namespaces, for ``holder``, in place of what it held.

        ``changed`` is called in the loop's thread, must not block, and says only that something may have appeared, changed
        or gone: whoever hears it reads all again. An object that is ``immutable`` is not watched once it is known.
        """
        ...

    def release(self, holder: Hashable) -> None:
        """``holder`` needs nothing any more. No error if it held nothing."""
        ...


class TokenReader(Protocol):
    """Tokens of the service accounts of this node's pods, bound to the pod, by the node's own rights."""

    async def get(self, pod: Pod, audience: str = "", expiration_seconds: int = 3600) -> ServiceAccountToken:
        """The same token until it is to be renewed; a failure to renew shows only when it has expired.

        Raises ``ApiError`` or ``ApiConnectionError``. ``audience``: empty for the API server itself.
        """
        ...

    def forget(self, uid: str) -> None:
        """A pod is gone: nothing of it is kept."""
        ...


class EventCallback(Protocol):
    """Records a Kubernetes event on a pod; never blocks. No secret and no value of a variable in ``message``.

    ``field_path`` says which part of the pod it is about, as ``spec.containers{main}``.
    """

    def __call__(
        self, key: PodKey, event_type: str, reason: str, message: str, *, field_path: str | None = None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """Everything a provider may need from its node. It never needs the API client.

    Attributes:
        node_name: name of the Node.
        config_path: the file given with ``--provider-config``, or None.
        state_directory: where the provider may keep what must outlive this process; made by the framework, mode 0700.
        internal_ip: the node's InternalIP.
        host_ips: all addresses of the node, that first: ``status.hostIP(s)`` of its pods.
        daemon_port: port of the node's HTTPS API; 0 if it is off.
        operating_system: ``linux`` or ``windows``.
        cluster_domain: such as ``cluster.local``.
        cluster_dns: addresses of the cluster's DNS, the preferred one first; empty if nobody has said.
        pods, config_maps, secrets: read access.
        references: tells of changes of ConfigMaps and Secrets.
        tokens: of service accounts.
        allocatable: what the node can give to pods, by resource.
        read_configuration: all that a pod refers to, with the files of its volumes; raises ``MountError`` for what is
            missing (let it leave ``create_pod``: the node says it by events, and tries again), ``ApiConnectionError``.
        services: the Services of a namespace.
        api_server: host and port that pods shall find in ``KUBERNETES_SERVICE_HOST`` and ``_PORT``; None: the Service's.
        record_event: puts an event on a pod.
        logger: carries node, namespace, pod and UID by itself.
        tracer: spans under the call that is running; does nothing unless OpenTelemetry is installed.
        clock: wall and monotonic time.
    """

    node_name: str
    config_path: Path | None
    state_directory: Path
    internal_ip: str
    host_ips: Sequence[str]
    daemon_port: int
    operating_system: str
    cluster_domain: str
    pods: PodReader
    config_maps: ObjectReader[ConfigMap]
    secrets: ObjectReader[Secret]
    references: ReferenceWatcher
    tokens: TokenReader
    allocatable: Callable[[], Mapping[str, str]]
    read_configuration: Callable[[Pod], Awaitable[PodConfiguration]]
    services: Callable[[str], Awaitable[Sequence[Service]]]
    api_server: tuple[str, int] | None
    record_event: EventCallback
    logger: logging.LoggerAdapter[logging.Logger]
    tracer: Tracer
    clock: Clock
    cluster_dns: Sequence[str] = ()

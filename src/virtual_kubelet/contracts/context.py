"""What a provider is given when it is made."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from virtual_kubelet.clock import Clock
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import ConfigMap, Pod, Secret, Service
from virtual_kubelet.telemetry.tracing import Tracer

__all__ = ["EventCallback", "ObjectReader", "PodReader", "ProviderContext"]

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


class EventCallback(Protocol):
    """Records a Kubernetes event on a pod; never blocks. No secret and no value of a variable in ``message``."""

    def __call__(self, key: PodKey, event_type: str, reason: str, message: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ProviderContext:
    """Everything a provider may need from its node. It never needs the API client.

    Attributes:
        node_name: name of the Node.
        config_path: the file given with ``--provider-config``, or None.
        state_directory: where the provider may keep what must outlive this process; made by the framework, mode 0700.
        internal_ip: the node's InternalIP.
        daemon_port: port of the node's HTTPS API; 0 if it is off.
        operating_system: ``linux`` or ``windows``.
        cluster_domain: such as ``cluster.local``.
        pods, config_maps, secrets: read access.
        services: the Services of a namespace.
        record_event: puts an event on a pod.
        logger: carries node, namespace, pod and UID by itself.
        tracer: spans under the call that is running; does nothing unless OpenTelemetry is installed.
        clock: wall and monotonic time.
    """

    node_name: str
    config_path: Path | None
    state_directory: Path
    internal_ip: str
    daemon_port: int
    operating_system: str
    cluster_domain: str
    pods: PodReader
    config_maps: ObjectReader[ConfigMap]
    secrets: ObjectReader[Secret]
    services: Callable[[str], Awaitable[Sequence[Service]]]
    record_event: EventCallback
    logger: logging.LoggerAdapter[logging.Logger]
    tracer: Tracer
    clock: Clock

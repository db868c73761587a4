"""A ProviderContext without a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.contracts.configuration import PodConfiguration
from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.errors import ApiNotFoundError
from virtual_kubelet.objects.core_v1 import Pod, Service
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.telemetry.tracing import tracer


class Nothing:
    """Readers of a cluster in which there is nothing."""

    async def get(self, namespace: str, name: str) -> Any:
        raise ApiNotFoundError(404, "NotFound", name)

    async def configuration(self, pod: Pod) -> PodConfiguration:
        return PodConfiguration({}, {}, {})

    def list(self) -> list[Any]:
        return []

    def hold(self, holder: Any, **what: Any) -> None:
        """Nothing ever changes."""

    def release(self, holder: Any) -> None:
        """As if it had been held."""

    def forget(self, uid: str) -> None:
        """There are no tokens."""


async def no_services(namespace: str) -> Sequence[Service]:
    return []


def context(folder: Path, *, config_path: Path | None = None, clock: Clock | None = None) -> ProviderContext:
    nothing: Any = Nothing()
    return ProviderContext(
        node_name="node-a",
        config_path=config_path,
        state_directory=folder,
        internal_ip="10.0.0.1",
        host_ips=["10.0.0.1"],
        daemon_port=10250,
        operating_system="linux",
        cluster_domain="cluster.local",
        pods=nothing,
        config_maps=nothing,
        secrets=nothing,
        references=nothing,
        tokens=nothing,
        allocatable=dict,
        read_configuration=nothing.configuration,
        services=no_services,
        api_server=None,
        record_event=lambda key, event_type, reason, message, field_path=None: None,
        logger=get_logger("tests"),
        tracer=tracer(),
        clock=clock or SystemClock(),
    )

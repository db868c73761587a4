"""DockerProvider: the pod engine on containers of Docker or Podman."""

from __future__ import annotations

from functools import partial
from typing import Self

from virtual_kubelet import EngineOptions, PodEngine, ProviderConfigError, ProviderContext
from virtual_kubelet.objects.core_v1 import Node, NodeCondition
from virtual_kubelet_docker.cluster_identity import cluster_identity
from virtual_kubelet_docker.config import load_config
from virtual_kubelet_docker.daemon import DaemonError
from virtual_kubelet_docker.docker_runtime import DockerRuntime

__all__ = ["DockerProvider"]


class DockerProvider(PodEngine):
    """An async context manager. Its node is Ready while the container engine answers."""

    def __init__(self, context: ProviderContext) -> None:
        self._config = load_config(context.config_path)
        self._containers = DockerRuntime(
            self._config,
            node_name=context.node_name,
            cluster=partial(cluster_identity, context.services, context.state_directory, context.logger),
            node_ip=context.internal_ip,
            cluster_dns=context.cluster_dns,
            cluster_domain=context.cluster_domain,
            log=context.logger,
            clock=context.clock,
        )
        super().__init__(self._containers, context, EngineOptions(runtime_name="docker"))

    async def __aenter__(self) -> Self:
        """Raises ``ProviderConfigError`` if there is no container engine, or no knowing which cluster this is."""
        try:
            return await super().__aenter__()
        except DaemonError as error:
            raise ProviderConfigError(
                str(error),
                hint="start Docker or Podman's service, or name it: DOCKER_HOST, or host in the provider's configuration",
            ) from error

    async def ping(self) -> None:
        """Raises ``DaemonError`` unless the engine answers."""
        await self._containers.daemon.ping()

    def configure_node(self, node: Node) -> None:
        """The engine's CPUs and memory, or the configuration's."""
        daemon, config, status = self._containers.daemon, self._config, node.status
        capacity = {
            "cpu": config.cpu or str(daemon.info.get("NCPU") or 1),
            "memory": config.memory or f"{int(daemon.info.get('MemTotal') or 0) // 1024}Ki",
            "pods": config.pods,
        }
        status.capacity, status.allocatable = capacity, dict(capacity)
        if status.node_info is not None:
            name = "podman" if daemon.is_podman else "docker"
            status.node_info.container_runtime_version = f"{name}://{daemon.version.get('Version', '')}"
        ready = [condition for condition in status.conditions or [] if condition.type == "Ready"]
        status.conditions = ready + [
            NodeCondition(
                type=kind, status="False", reason="NotWatched", message="the docker provider does not watch this"
            )
            for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
        ]

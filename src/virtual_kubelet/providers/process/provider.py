"""ProcessProvider: the pod engine on processes of this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from virtual_kubelet import (
    EngineOptions,
    PodEngine,
    ProviderConfigError,
    ProviderContext,
)
from virtual_kubelet.objects.core_v1 import Node, NodeCondition
from virtual_kubelet.objects.quantity import Quantity
from virtual_kubelet.objects.stats_v1alpha1 import Summary
from virtual_kubelet.providers.process.process_runtime import ProcessRuntime
from virtual_kubelet.providers.process.statistics import ProcessStatistics

__all__ = ["ProcessProvider"]

_KEYS = frozenset(
    {
        "allowHostProcesses", "cpu", "memory", "pods", "maxLogBytes", "maxLogFiles",
        "cgroupRoot", "mountNamespaces", "podPidsLimit",
    }
)  # fmt: skip


class ProcessProvider(PodEngine):
    """Containers are processes with this program's rights: no isolation. An async context manager.

    Args:
        allow_host_processes: the user has said that pods may run here; or ``allowHostProcesses`` in the configuration.
    """

    def __init__(self, context: ProviderContext, *, allow_host_processes: bool = False) -> None:
        config = _load(context.config_path)
        if not (allow_host_processes or config.get("allowHostProcesses") is True):
            raise ProviderConfigError(
                "the process provider runs pods as plain processes of this machine, with this program's rights",
                hint="if everybody who may create pods for this node may do that, add --allow-host-processes",
            )
        self._config = config
        directory = context.state_directory / "process"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._processes = ProcessRuntime(
            directory,
            node_ip=context.internal_ip,
            log=context.logger,
            max_log_bytes=int(config.get("maxLogBytes", 10 * 1024 * 1024)),
            max_log_files=int(config.get("maxLogFiles", 5)),
            cgroup_root=config.get("cgroupRoot", "/" if os.geteuid() == 0 else None),
            pod_pids=config.get("podPidsLimit"),
            mount_namespaces=config.get("mountNamespaces", True),
        )
        super().__init__(
            self._processes,
            context,
            EngineOptions(runtime_name="process", directory=directory / "pods"),
        )
        self._statistics = ProcessStatistics(
            context.node_name, directory, self._processes.described, clock=context.clock
        )

    async def get_stats_summary(self, *, only_cpu_and_memory: bool) -> Summary:
        """This machine, and what the processes of each container use."""
        return await self._statistics.summary(only_cpu_and_memory=only_cpu_and_memory)

    def configure_node(self, node: Node) -> None:
        """The machine's CPUs and memory, or the configuration's; 110 pods, as a kubelet."""
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024
        capacity = {
            "cpu": str(self._config.get("cpu", os.cpu_count() or 1)),
            "memory": str(self._config.get("memory", f"{memory}Ki")),
            "pods": str(self._config.get("pods", 110)),
        }
        node.status.capacity, node.status.allocatable = capacity, dict(capacity)
        ready = [c for c in node.status.conditions or [] if c.type == "Ready"]
        node.status.conditions = ready + [
            NodeCondition(
                type=kind, status="False", reason="NotWatched", message="the process provider does not watch this"
            )
            for kind in ("MemoryPressure", "DiskPressure", "PIDPressure")
        ]


def _load(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ProviderConfigError(f"cannot read the provider configuration {path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ProviderConfigError(f"the provider configuration {path} is not YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ProviderConfigError(f"the provider configuration {path} is not a mapping")
    unknown = sorted(str(key) for key in content.keys() - _KEYS)
    if unknown:
        raise ProviderConfigError(
            f"the provider configuration {path} has unknown keys: {', '.join(unknown)}",
            hint=f"known ones: {', '.join(sorted(_KEYS))}",
        )
    for name in ("cpu", "memory", "pods"):
        if name in content:
            try:
                Quantity(content[name])
            except ValueError as error:
                raise ProviderConfigError(f"the provider configuration {path}: {name}: {error}") from None
    root = content.get("cgroupRoot")
    if root is not None and not (isinstance(root, str) and root.startswith("/") and ".." not in root.split("/")):
        raise ProviderConfigError(f"the provider configuration {path}: cgroupRoot must be an absolute path, or null")
    if not isinstance(content.get("mountNamespaces", True), bool):
        raise ProviderConfigError(f"the provider configuration {path}: mountNamespaces must be true or false")
    for name in ("maxLogBytes", "maxLogFiles", "podPidsLimit"):
        if name in content and (not isinstance(content[name], int) or content[name] < 1):
            raise ProviderConfigError(f"the provider configuration {path}: {name} must be a number from 1")
    return content

"""Sandboxes of pods: an infra container each, whose network and IPC (and processes, if the pod wants) the others join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from virtual_kubelet import PodSandbox, TransientError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet_docker.config import DockerConfig
from virtual_kubelet_docker.daemon import Daemon, DaemonError
from virtual_kubelet_docker.exit_watch import ExitWatch
from virtual_kubelet_docker.labels import identity, is_sandbox, of_node, sandbox_name
from virtual_kubelet_docker.sandbox_spec import sandbox_spec

__all__ = ["DaemonSandboxes"]


class DaemonSandboxes:
    """``PodSandboxes`` of one engine.

    Attributes:
        image: the infra containers'.
    """

    def __init__(
        self,
        daemon: Daemon,
        watch: ExitWatch,
        config: DockerConfig,
        *,
        node_name: str,
        node_ip: str,
        cluster_domain: str,
    ) -> None:
        self._daemon = daemon
        self._watch = watch
        self._config = config
        self._node_name = node_name
        self._node_ip = node_ip
        self._cluster_domain = cluster_domain
        self.image = ""

    def known_ips(self, pod: Pod) -> Sequence[str]:
        """Before anything runs: only the node's own network is known."""
        return [self._node_ip] if pod.spec.host_network and self._node_ip else []

    async def ensure(self, pod: Pod) -> PodSandbox:
        name = sandbox_name(pod)
        there = await self._inspect(name)
        if there is not None:
            if there["State"].get("Running"):
                return self._sandbox(there)
            await self.remove(there["Id"])
        spec = sandbox_spec(
            pod,
            node_name=self._node_name,
            image=self.image,
            config=self._config,
            cluster_domain=self._cluster_domain,
            podman=self._daemon.is_podman,
        )
        made = await self._daemon.request("POST", "containers/create", params={"name": name}, body=spec)
        try:
            await self._daemon.request("POST", f"containers/{made['Id']}/start")
        except DaemonError:
            await self.remove(made["Id"])
            raise
        started = await self._inspect(made["Id"])
        if started is None or not started["State"].get("Running"):
            raise TransientError("the pod's infra container ended as soon as it was started")
        return self._sandbox(started)

    async def remove(self, sandbox_id: str) -> None:
        self._watch.forget(sandbox_id)
        try:
            await self._daemon.request("DELETE", f"containers/{sandbox_id}", params={"force": True, "v": True})
        except DaemonError as error:
            if error.status not in (404, 409):
                raise

    async def list(self) -> Sequence[PodSandbox]:
        listed = await self._daemon.get("containers/json", all=True, filters=of_node(self._node_name))
        found = []
        for one in listed:
            if is_sandbox(one.get("Labels") or {}):
                inspected = await self._inspect(one["Id"])
                if inspected is None:
                    continue
                if inspected["State"].get("Running"):
                    found.append(self._sandbox(inspected))
                else:
                    await self.remove(one["Id"])
        return found

    async def _inspect(self, name: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = await self._daemon.get(f"containers/{name}/json")
        except DaemonError as error:
            if error.status == 404:
                return None
            raise
        return found

    def _sandbox(self, inspected: Mapping[str, Any]) -> PodSandbox:
        self._watch.runs(inspected["Id"])
        settings = inspected["NetworkSettings"]
        ips = []
        if (inspected.get("HostConfig") or {}).get("NetworkMode") == "host":
            ips = [self._node_ip] if self._node_ip else []
        else:
            for network in (settings.get("Networks") or {}).values():
                ips += [ip for ip in (network.get("IPAddress"), network.get("GlobalIPv6Address")) if ip]
        return PodSandbox(id=inspected["Id"], labels=identity(inspected["Config"].get("Labels") or {}), ips=ips)

"""Sandboxes of pods: an infra container each, whose network and IPC (and processes, if the pod wants) the others join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from virtual_kubelet import NodeDns, PodSandbox, TransientError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet_docker.config import DockerConfig
from virtual_kubelet_docker.daemon import Daemon, DaemonError
from virtual_kubelet_docker.exit_watch import ExitWatch
from virtual_kubelet_docker.labels import identity, is_sandbox, of_node, sandbox_name
from virtual_kubelet_docker.sandbox_spec import sandbox_spec

__all__ = ["DaemonSandboxes"]

#: Podman's words for a container whose network others use.
_JOINED = "has dependent containers"


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
        dns: NodeDns,
    ) -> None:
        self._daemon = daemon
        self._watch = watch
        self._config = config
        self._node_name = node_name
        self._node_ip = node_ip
        self._dns = dns
        self.image = ""
        self._left: set[str] = set()  # ended, and kept by the engine for those that had joined them

    def known_ips(self, pod: Pod) -> Sequence[str]:
        """Before anything runs: only the node's own network is known."""
        return [self._node_ip] if pod.spec.host_network and self._node_ip else []

    async def ensure(self, pod: Pod) -> PodSandbox:
        number = 0
        for one in await self._listed(pod.metadata.uid or ""):
            there = await self._inspect(one["Id"])
            if there is None:
                continue
            if there["State"].get("Running"):
                return self._sandbox(there)
            number = max(number, int(there["Name"].rpartition("_")[2]) + 1)
            await self.remove(there["Id"])
        spec = sandbox_spec(
            pod,
            node_name=self._node_name,
            image=self.image,
            config=self._config,
            dns=self._dns,
            podman=self._daemon.is_podman,
        )
        name = sandbox_name(pod, number)
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
        """End and remove it. Podman keeps one that others have joined, ended or not: it goes with the last of them."""
        self._watch.forget(sandbox_id)
        try:
            await self._daemon.request("DELETE", f"containers/{sandbox_id}", params={"force": True, "v": True})
        except DaemonError as error:
            if error.status in (404, 409):
                return
            if _JOINED not in str(error):
                raise
            await self._end(sandbox_id)
            self._left.add(sandbox_id)

    async def sweep(self) -> None:
        """A container was removed: ended sandboxes that it had joined may go now."""
        for sandbox_id in list(self._left):
            self._left.discard(sandbox_id)
            await self.remove(sandbox_id)

    async def list(self) -> Sequence[PodSandbox]:
        found = []
        for one in await self._listed():
            inspected = await self._inspect(one["Id"])
            if inspected is not None and inspected["State"].get("Running"):
                found.append(self._sandbox(inspected))
            elif inspected is not None and inspected["Id"] not in self._left:
                await self.remove(inspected["Id"])
        return found

    async def _end(self, sandbox_id: str) -> None:
        try:
            await self._daemon.request("POST", f"containers/{sandbox_id}/kill", params={"signal": 9})
        except DaemonError:
            inspected = await self._inspect(sandbox_id)
            if inspected is not None and inspected["State"].get("Running"):
                raise

    async def _listed(self, uid: str = "") -> Sequence[Mapping[str, Any]]:
        listed = await self._daemon.get("containers/json", all=True, filters=of_node(self._node_name))
        of_pods = ((one, one.get("Labels") or {}) for one in listed)
        return [one for one, labels in of_pods if is_sandbox(labels) and uid in ("", identity(labels)["uid"])]

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

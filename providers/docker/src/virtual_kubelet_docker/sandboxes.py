"""Sandboxes of pods: an infra container each, whose network and IPC (and processes, if the pod wants) the others join."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from virtual_kubelet import NodeDns, PodSandbox, TransientError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet_docker.config import DockerConfig
from virtual_kubelet_docker.daemon import Daemon, DaemonError
from virtual_kubelet_docker.exit_watch import ExitWatch
from virtual_kubelet_docker.labels import Owner, identity, is_sandbox, sandbox_name
from virtual_kubelet_docker.removals import Removals
from virtual_kubelet_docker.sandbox_spec import sandbox_spec

__all__ = ["DaemonSandboxes"]

#: ``oom_score_adj`` of infra containers, as the kubelet's (pkg/kubelet/qos/policy.go): pods end after what is in them.
_OOM_SCORE: Final = -998


class DaemonSandboxes:
    """``PodSandboxes`` of one engine.

    Args:
        image: the infra containers'.
        lowest_oom_score: the lowest ``oom_score_adj`` that the engine may give.
    """

    def __init__(
        self,
        daemon: Daemon,
        watch: ExitWatch,
        removals: Removals,
        config: DockerConfig,
        *,
        owner: Owner,
        node_ip: str,
        dns: NodeDns,
        image: str,
        lowest_oom_score: int,
    ) -> None:
        self._daemon = daemon
        self._watch = watch
        self._config = config
        self._removals = removals
        self._owner = owner
        self._node_ip = node_ip
        self._dns = dns
        self._image = image
        self._oom_score = max(_OOM_SCORE, lowest_oom_score)

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
            owner=self._owner,
            image=self._image,
            config=self._config,
            dns=self._dns,
            podman=self._daemon.is_podman,
            oom_score=self._oom_score,
        )
        name = sandbox_name(pod, number)
        made = await self._daemon.request("POST", "containers/create", params={"name": name}, body=spec)
        self._watch.runs(made["Id"])
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
        """End and remove it."""
        self._watch.forget(sandbox_id)
        await self._removals.remove(sandbox_id)

    async def list(self) -> Sequence[PodSandbox]:
        found = []
        for one in await self._listed():
            inspected = await self._inspect(one["Id"])
            if inspected is not None and inspected["State"].get("Running"):
                found.append(self._sandbox(inspected))
            elif inspected is not None and inspected["Id"] not in self._removals.left:
                await self.remove(inspected["Id"])
        return found

    async def _listed(self, uid: str = "") -> Sequence[Mapping[str, Any]]:
        listed = await self._daemon.get("containers/json", all=True, filters=self._owner.filters_of_sandboxes(uid))
        return [one for one in listed if is_sandbox(one.get("Labels") or {})]

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

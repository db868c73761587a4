"""The API servers that the contract tests meet: the embedded dev cluster, or a real control plane."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import aiohttp

from tests.contract.identities import kubeconfig, sign
from virtual_kubelet.devcluster import DevCluster


class ApiServer(Protocol):
    """What a contract test may know of the server it meets."""

    #: ``dev`` or ``debian``; for the few tests that need a fault injected, and to say which server failed.
    kind: str
    ca_certificate: bytes

    def admin_kubeconfig(self) -> str: ...

    def node_kubeconfig(self, node_name: str) -> str:
        """Credentials of ``system:node:NAME`` in ``system:nodes``: what a kubelet has, and no more."""
        ...

    def expired_kubeconfig(self) -> str:
        """Credentials whose client certificate has expired."""
        ...

    def serving_certificate(self, ip: str) -> tuple[bytes, bytes]:
        """A certificate for a node's HTTPS port that the API server trusts."""
        ...

    async def forget_history(self) -> None:
        """Older resourceVersions and continue tokens have expired from now on: etcd's compaction."""
        ...

    def client_certificate(
        self, name: str, organizations: Sequence[str] = (), *, days: float = 1
    ) -> tuple[bytes, bytes]:
        """A client certificate of the cluster's CA and its key, both PEM; with ``days`` below 0 it has expired."""
        ...


class DevApiServer:
    """The embedded dev cluster, in this test's loop."""

    kind = "dev"

    def __init__(self, cluster: DevCluster) -> None:
        self.cluster = cluster
        self.ca_certificate = cluster.ca_pem

    def admin_kubeconfig(self) -> str:
        return self.cluster.kubeconfig()

    def node_kubeconfig(self, node_name: str) -> str:
        return self.cluster.node_kubeconfig(node_name)

    def expired_kubeconfig(self) -> str:
        certificate, key = self.client_certificate("admin", ["system:masters"], days=-1)
        return kubeconfig(self.cluster.url, self.ca_certificate, certificate, key)

    def serving_certificate(self, ip: str) -> tuple[bytes, bytes]:
        return self.cluster.serving_certificate([], [ip])

    async def forget_history(self) -> None:
        self.cluster.faults.compact()

    def client_certificate(
        self, name: str, organizations: Sequence[str] = (), *, days: float = 1
    ) -> tuple[bytes, bytes]:
        return sign(self.ca_certificate, self.cluster.ca_key_pem, name, organizations=organizations, days=days)


class DebianApiServer:
    """What ``tools/kubernetes/up DIR`` started."""

    kind = "debian"

    def __init__(self, directory: Path) -> None:
        self._admin = (directory / "admin.kubeconfig").read_text()
        self._url: str = json.loads(self._admin)["clusters"][0]["cluster"]["server"]
        self._etcd_url = directory / "etcd.url"
        self.ca_certificate = (directory / "pki" / "ca.crt").read_bytes()
        self._ca_key = (directory / "pki" / "ca.key").read_bytes()

    def admin_kubeconfig(self) -> str:
        return self._admin

    def node_kubeconfig(self, node_name: str) -> str:
        certificate, key = self.client_certificate(f"system:node:{node_name}", ["system:nodes"])
        return kubeconfig(self._url, self.ca_certificate, certificate, key)

    def expired_kubeconfig(self) -> str:
        certificate, key = self.client_certificate("admin", ["system:masters"], days=-1)
        return kubeconfig(self._url, self.ca_certificate, certificate, key)

    def serving_certificate(self, ip: str) -> tuple[bytes, bytes]:
        return sign(self.ca_certificate, self._ca_key, "system:node", ips=[ip])

    async def forget_history(self) -> None:
        async with aiohttp.ClientSession(self._etcd_url.read_text().strip(), raise_for_status=True) as etcd:
            async with etcd.post("/v3/maintenance/status", json={}) as answer:
                revision = (await answer.json())["header"]["revision"]
            async with etcd.post("/v3/kv/compaction", json={"revision": revision, "physical": True}):
                return

    def client_certificate(
        self, name: str, organizations: Sequence[str] = (), *, days: float = 1
    ) -> tuple[bytes, bytes]:
        return sign(self.ca_certificate, self._ca_key, name, organizations=organizations, days=days)

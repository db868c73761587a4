"""The API servers that the contract tests meet: the embedded dev cluster, or a real control plane."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Protocol

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
        ca_key = self.cluster.ca_key_pem
        certificate, key = sign(self.ca_certificate, ca_key, "admin", organizations=["system:masters"], days=-1)
        return kubeconfig(self.cluster.url, self.ca_certificate, certificate, key)

    def serving_certificate(self, ip: str) -> tuple[bytes, bytes]:
        return self.cluster.serving_certificate([], [ip])


class DebianApiServer:
    """What ``tools/kubernetes/up DIR`` started."""

    kind = "debian"

    def __init__(self, directory: Path) -> None:
        self._admin = (directory / "admin.kubeconfig").read_text()
        self._url: str = json.loads(self._admin)["clusters"][0]["cluster"]["server"]
        self.ca_certificate = (directory / "pki" / "ca.crt").read_bytes()
        self._ca_key = (directory / "pki" / "ca.key").read_bytes()

    def admin_kubeconfig(self) -> str:
        return self._admin

    def node_kubeconfig(self, node_name: str) -> str:
        certificate, key = sign(
            self.ca_certificate, self._ca_key, f"system:node:{node_name}", organizations=["system:nodes"]
        )
        return kubeconfig(self._url, self.ca_certificate, certificate, key)

    def expired_kubeconfig(self) -> str:
        certificate, key = sign(self.ca_certificate, self._ca_key, "admin", organizations=["system:masters"], days=-1)
        return kubeconfig(self._url, self.ca_certificate, certificate, key)

    def serving_certificate(self, ip: str) -> tuple[bytes, bytes]:
        return sign(self.ca_certificate, self._ca_key, "system:node", ips=[ip])

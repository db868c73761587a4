"""Who a cluster is: its CA and the key of its tokens, and the credentials that it gives. They outlive it in a folder."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping, Sequence
from datetime import timedelta

from virtual_kubelet.devcluster.certificates import CertificateAuthority, key_to_pem, load_key, new_key
from virtual_kubelet.devcluster.users import MASTERS
from virtual_kubelet.server.certificates import load_certificate

__all__ = ["ClusterIdentity"]

_NAME = "virtual-kubelet-dev"


class ClusterIdentity:
    """
    Attributes:
        authority: the cluster's CA.
        token_key: signs the tokens of service accounts.
    """

    def __init__(self) -> None:
        self.authority = CertificateAuthority()
        self.token_key = new_key()

    def resume(self, values: Mapping[str, bytes]) -> None:
        """Be who an earlier run was. Raises ``KeyError``, ``ValueError`` and ``TypeError`` for what no run has kept."""
        self.authority = CertificateAuthority.load(values["ca.crt"], values["ca.key"])
        self.token_key = load_key(values["token.key"])

    def values(self) -> dict[str, bytes]:
        """What ``resume`` takes."""
        authority = self.authority
        return {
            "ca.crt": authority.certificate_pem,
            "ca.key": authority.key_pem,
            "token.key": key_to_pem(self.token_key),
        }

    def kubeconfig(self, url: str, user: str, groups: Sequence[str], lifetime: timedelta) -> str:
        """A kubeconfig (JSON, which is YAML) with a client certificate of its own for ``user``."""
        certificate, key = self.authority.client(user, groups, lifetime)
        authority = _b64(self.authority.certificate_pem)
        credentials = {"client-certificate-data": _b64(certificate), "client-key-data": _b64(key)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": _NAME,
            "clusters": [{"name": _NAME, "cluster": {"server": url, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": user}}],
        }
        return json.dumps(content, indent=2) + "\n"

    def node_client_context(self) -> ssl.SSLContext:
        """TLS towards nodes, whose certificates are not verified. It writes a file: not for a loop."""
        certificate, key = self.authority.client("kube-apiserver-kubelet-client", (MASTERS,))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        load_certificate(context, certificate, key)
        return context


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()

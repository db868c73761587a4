"""The certificates a node has from its cluster: that of its HTTPS API, and its own to the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from virtual_kubelet.clock import Clock
from virtual_kubelet.kube.certificate_requests import (
    CertificateKeyPair,
    CertificateTemplate,
    client_template,
    serving_template,
)
from virtual_kubelet.kube.certificate_rotation import CertificateRotation
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.client_certificate import ClientCertificate
from virtual_kubelet.objects.core_v1 import NodeAddress
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["ServingCertificate", "client_rotation"]

log = get_logger(__name__)

#: Below the node's state directory; the kubelet's name for it.
_SERVING_FILE: Final = "pki/kubelet-server-current.pem"


class ServingCertificate:
    """That of the HTTPS API, from signer ``kubernetes.io/kubelet-serving``. ``run`` until cancelled.

    Args:
        show: is given each certificate and its key, in PEM: handshakes from then on show it, open connections go on.
            Until the first there is a self-signed one.
        addresses: of the Node, as it is just now; the certificate is good for them, and asked for anew when they change.
        fallback: serve with the self-signed certificate when there is no other after so many seconds; None: never.
    """

    def __init__(
        self,
        client: ApiClient,
        node_name: str,
        show: Callable[[bytes, bytes], None],
        state_directory: Path,
        *,
        addresses: Callable[[], Sequence[NodeAddress]],
        fallback: float | None,
        clock: Clock,
    ) -> None:
        self._node_name = node_name
        self._show = show
        self._addresses = addresses
        self._fallback = fallback
        self._tell: Callable[[str], None] = log.debug
        self._rotation = CertificateRotation(
            client,
            self._template,
            state_directory / _SERVING_FILE,
            on_change=self._change,
            on_waiting=lambda what: self._tell(what),
            clock=clock,
        )

    async def run(self) -> None:
        await self._rotation.run()

    async def wait_usable(self, tell: Callable[[str], None]) -> None:
        """Until the HTTPS API can be served; ``tell`` is told what is waited for, for people."""
        self._tell = tell
        try:
            async with asyncio.timeout(self._fallback):
                await self._rotation.wait_current()
        except TimeoutError:
            log.warning("serving the HTTPS API with a self-signed certificate: %s", self._rotation.waiting_for)
        finally:
            self._tell = log.debug

    def _change(self, pair: CertificateKeyPair) -> None:
        self._show(pair.certificate, pair.key)

    def _template(self) -> CertificateTemplate:
        names: dict[str, None] = {}
        ips: dict[str, None] = {}
        for address in self._addresses():
            (ips if address.type.endswith("IP") else names)[address.address] = None
        return serving_template(self._node_name, tuple(names), tuple(ips))


def client_rotation(
    client: ApiClient, node_name: str, shown: ClientCertificate, path: Path, *, clock: Clock
) -> CertificateRotation:
    """Renews the node's own client certificate, which ``client_bootstrap`` got and its kubeconfig names: ``path``.

    What is written there is read, in a thread, before the next request.
    """
    return CertificateRotation(
        client, lambda: client_template(node_name), path, on_change=lambda pair: shown.reread(), clock=clock
    )

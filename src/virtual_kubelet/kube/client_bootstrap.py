"""How a node gets credentials of its own: a bootstrap token asks for a client certificate, a kubeconfig is made of it.

As the kubelet's ``--bootstrap-kubeconfig`` (pkg/kubelet/certificate/bootstrap): with what comes out of it the node is
``system:node:NAME`` in ``system:nodes`` and has no other right.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from pathlib import Path
from typing import Any

from virtual_kubelet.errors import ApiConnectionError, KubeconfigError, ServerError, TooManyRequestsError
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.certificate_requests import client_template
from virtual_kubelet.kube.certificate_rotation import obtain_certificate
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.config import ClientConfig
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.private_file import write_privately
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["join_cluster", "kubeconfig_of"]

log = get_logger(__name__)


async def join_cluster(
    kubeconfig: Path,
    bootstrap_kubeconfig: Path,
    node_name: str,
    certificate: Path,
    *,
    startup_timeout: float | None = None,
    approval_timeout: float = 900.0,
) -> ClientConfig:
    """The node's own configuration: that of ``kubeconfig`` if it is there and good, else one asked for and written there.

    Args:
        certificate: where the client certificate and its key are kept, in one file.
        startup_timeout: an API server that cannot be reached is tried again for so long (seconds); None: once.

    Raises ``KubeconfigError``, ``CertificateRefusedError``, ``ApiError``, ``ApiConnectionError``, and ``TimeoutError``
    when nobody approves the request.
    """
    try:
        return await asyncio.to_thread(load_kubeconfig, kubeconfig)
    except KubeconfigError as error:
        log.info("joining with %s: %s", bootstrap_kubeconfig, error)
    config = await asyncio.to_thread(load_kubeconfig, bootstrap_kubeconfig)
    loop = asyncio.get_running_loop()
    deadline = None if startup_timeout is None else loop.time() + startup_timeout
    backoff = Backoff(initial=0.5, cap=10.0)
    async with ApiClient(config) as client:
        while True:
            try:
                pair = await obtain_certificate(client, client_template(node_name), approval_timeout=approval_timeout)
                break
            except (ApiConnectionError, ServerError, TooManyRequestsError) as error:
                delay = backoff.next()
                if deadline is None or loop.time() + delay > deadline:
                    raise
                log.warning("%s; trying again in %.1f s", error, delay)
                await asyncio.sleep(delay)
    await asyncio.to_thread(write_privately, certificate, pair.pem)
    await asyncio.to_thread(write_privately, kubeconfig, kubeconfig_of(config, certificate).encode())
    return await asyncio.to_thread(load_kubeconfig, kubeconfig)


def kubeconfig_of(config: ClientConfig, certificate: Path) -> str:
    """A kubeconfig of the same cluster whose user is the client certificate in this file."""
    cluster: dict[str, Any] = {"server": config.server}
    if config.certificate_authority is not None:
        cluster["certificate-authority-data"] = base64.b64encode(config.certificate_authority).decode()
    elif config.ssl_context is not None and config.ssl_context.verify_mode == ssl.CERT_NONE:
        cluster["insecure-skip-tls-verify"] = True
    if config.tls_server_name:
        cluster["tls-server-name"] = config.tls_server_name
    if config.proxy:
        cluster["proxy-url"] = config.proxy
    path = str(certificate.absolute())
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "default",
        "clusters": [{"name": "default", "cluster": cluster}],
        "users": [{"name": "default", "user": {"client-certificate": path, "client-key": path}}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
    }
    return json.dumps(document, indent=1) + "\n"

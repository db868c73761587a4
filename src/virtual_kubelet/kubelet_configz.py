"""What ``/configz`` shows: a node's configuration in the words of the kubelet's ``KubeletConfiguration`` (v1beta1). Pure."""

from __future__ import annotations

import os
from typing import Any

from virtual_kubelet.kubelet_config import KubeletConfig
from virtual_kubelet.objects.durations import format_duration
from virtual_kubelet.server.certificates import Pem

__all__ = ["configz"]


def configz(config: KubeletConfig, port: int) -> dict[str, Any]:
    """The settings that a kubelet has too; files by their names, nothing that is in them."""
    files = {
        "tlsCertFile": _path(config.tls_certificate),
        "tlsPrivateKeyFile": _path(config.tls_private_key),
    }
    authority = _path(config.client_ca)
    return {
        "enableServer": config.kubelet_server,
        "address": config.listen_host or "::",
        "port": port,
        **{name: path for name, path in files.items() if path is not None},
        "authentication": {
            "x509": {} if authority is None else {"clientCAFile": authority},
            "webhook": {"enabled": config.token_reviews, "cacheTTL": format_duration(config.token_review_cache)},
            "anonymous": {"enabled": False},
        },
        "authorization": {
            "mode": config.authorization_mode.value,
            "webhook": {
                "cacheAuthorizedTTL": format_duration(config.access_allowed_cache),
                "cacheUnauthorizedTTL": format_duration(config.access_denied_cache),
            },
        },
        "enableDebuggingHandlers": config.debugging_handlers,
        "streamingConnectionIdleTimeout": format_duration(config.stream_limits.idle_timeout),
        "clusterDomain": config.cluster_domain,
        "clusterDNS": list(config.cluster_dns),
        "nodeStatusUpdateFrequency": format_duration(config.status_update_interval),
        "nodeLeaseDurationSeconds": round(config.lease_duration),
        "kubeAPIQPS": config.kube_api_qps,
        "kubeAPIBurst": config.kube_api_burst,
        "registerNode": True,
    }


def _path(pem: Pem | None) -> str | None:
    return None if pem is None or isinstance(pem, bytes) else os.fspath(pem)

"""What ``/configz`` shows of a node's configuration."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any

from virtual_kubelet.kube.config import ClientConfig
from virtual_kubelet.kube.credentials import Anonymous
from virtual_kubelet.kubelet_config import KubeletConfig
from virtual_kubelet.kubelet_configz import configz


def config(**options: Any) -> KubeletConfig:
    return KubeletConfig(
        provider=lambda context: None,
        client_config=ClientConfig(
            server="https://127.0.0.1:1", ssl_context=ssl.create_default_context(), credentials=Anonymous()
        ),
        **options,
    )


def test_the_defaults_in_the_kubelets_words() -> None:
    assert configz(config(), 10250) == {
        "enableServer": True,
        "address": "::",
        "port": 10250,
        "authentication": {
            "x509": {},
            "webhook": {"enabled": True, "cacheTTL": "2m0s"},
            "anonymous": {"enabled": False},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"},
        },
        "enableDebuggingHandlers": True,
        "streamingConnectionIdleTimeout": "4h0m0s",
        "clusterDomain": "cluster.local",
        "clusterDNS": [],
        "nodeStatusUpdateFrequency": "1m0s",
        "nodeLeaseDurationSeconds": 40,
        "kubeAPIQPS": 0.0,
        "kubeAPIBurst": 0,
        "registerNode": True,
    }


def test_files_are_named_and_what_is_in_them_is_not_shown() -> None:
    shown = configz(
        config(tls_certificate="/etc/tls.crt", tls_private_key=Path("/etc/tls.key"), client_ca="/etc/ca.crt"), 1
    )
    assert (shown["tlsCertFile"], shown["tlsPrivateKeyFile"]) == ("/etc/tls.crt", "/etc/tls.key")
    assert shown["authentication"]["x509"] == {"clientCAFile": "/etc/ca.crt"}
    secret = b"planted-key"
    assert "planted" not in json.dumps(
        configz(config(tls_certificate=b"c", tls_private_key=secret, client_ca=secret), 1)
    )

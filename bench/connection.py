"""A bare HTTPS session to whatever a kubeconfig names: the yardstick must not stand on the code it measures."""

from __future__ import annotations

import base64
import ssl
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import yaml


def connect(kubeconfig: Path, connections: int) -> tuple[aiohttp.ClientSession, str]:
    """A session with the current context's client certificate or token, and the server's URL."""
    config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
    user = next(u["user"] for u in config["users"] if u["name"] == context["user"])

    def content(entry: dict[str, Any], key: str) -> bytes | None:
        if f"{key}-data" in entry:
            return base64.b64decode(entry[f"{key}-data"])
        return Path(entry[key]).read_bytes() if key in entry else None

    ca = content(cluster, "certificate-authority")
    tls = ssl.create_default_context(cadata=ca.decode() if ca else None)
    tls.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    certificate, key = content(user, "client-certificate"), content(user, "client-key")
    if certificate and key:
        with tempfile.NamedTemporaryFile() as file:
            file.write(certificate + b"\n" + key)
            file.flush()
            tls.load_cert_chain(file.name)
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    connector = aiohttp.TCPConnector(limit=connections, ssl=tls)
    return aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar()), cluster[
        "server"
    ]

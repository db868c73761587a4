"""Which proxy leads to a server: the kubeconfig's, else the environment's by those of golang.org/x/net/http/httpproxy."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from virtual_kubelet.errors import KubeconfigError

__all__ = ["proxy_for"]


def proxy_for(named: object, scheme: str, host: str) -> str | None:
    """The proxy's URL or None. Raises ``KubeconfigError``; the URL is in no error, since it may hold a password."""
    url = str(named) if named else None
    whose = "the proxy-url of the kubeconfig"
    if url is None and not _bypassed(host):
        whose = f"{scheme.upper()}_PROXY"
        url = _environment(whose)
        if url is not None and "://" not in url:
            url = f"http://{url}"
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise KubeconfigError(f"{whose} is not a URL", hint="such as http://10.0.0.1:3128")
    if parts.scheme not in ("http", "https"):
        raise KubeconfigError(f"{whose} is a {parts.scheme} proxy: only http and https proxies are supported")
    return url


def _environment(name: str) -> str | None:
    return os.environ.get(name) or os.environ.get(name.lower()) or None


def _bypassed(host: str) -> bool:
    """Whether NO_PROXY names the host: ``*``, a name or its domain, an address, a network. Loopback always."""
    host = host.lower().rstrip(".")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in (_environment("NO_PROXY") or "").lower().split(","):
        name = entry.strip()
        if name == "*":
            return True
        if not name:
            continue
        if address is not None:
            try:
                if address in ipaddress.ip_network(name.strip("[]"), strict=False):
                    return True
            except ValueError:
                pass  # a name, or something with a port: Go compares ports too, which a cluster's server seldom needs
            continue
        domain = name.removeprefix("*").lstrip(".")
        if host.endswith("." + domain) or host == name:
            return True
    return False


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None

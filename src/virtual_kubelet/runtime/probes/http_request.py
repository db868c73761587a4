"""The GET request that an ``httpGet`` means, and where a redirect leads (pkg/probe/http/request.go, Go's net/http). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

from virtual_kubelet.objects.core_v1 import HTTPGetAction, HTTPHeader
from virtual_kubelet.runtime.probes.connection import host_port
from virtual_kubelet.runtime.probes.target import ContainerTarget, ProbeError, go_quote, resolve_port

__all__ = ["REDIRECTS", "HttpRequest", "RedirectError", "redirected", "request_of"]

#: Redirects that are followed.
REDIRECTS: Final = 10
_REDIRECT_CODES: Final = frozenset({301, 302, 303, 307, 308})
_USER_AGENT: Final = "1.36"
#: What stands in a URL as it is; all else is escaped.
_PATH: Final = "/%:@!$&'()*+,;=~"
_NO_URL: Final = re.compile(r"[\x00-\x1f\x7f]|^[^?]*%(?![0-9A-Fa-f]{2})")
_QUERY: Final = _PATH + '?[]{}|^`\\"<>'


class RedirectError(Exception):
    """A redirect that cannot be followed; the text is as Go's, ``location`` what it names."""

    def __init__(self, message: str, location: str) -> None:
        super().__init__(message)
        self.location = location


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A GET request.

    Attributes:
        host: name or address that is connected to; without brackets.
        target: path and query as they are sent.
        headers: without ``Host`` and ``Connection``.
        host_header: the Host header that the pod asks for; None for that of the URL.
        followed: redirects that led here.
    """

    scheme: str
    host: str
    port: int
    target: str
    headers: Sequence[tuple[str, str]]
    host_header: str | None = None
    followed: int = 0

    @property
    def url(self) -> str:
        """As errors show it."""
        return f"{self.scheme}://{host_port(self.host, self.port)}{self.target}"

    @property
    def sent_headers(self) -> list[tuple[str, str]]:
        """In order; every request has a connection of its own."""
        return [("Host", self.host_header or host_port(self.host, self.port)), *self.headers, ("Connection", "close")]

    def plain(self) -> HttpRequest:
        """The same without TLS, and so without what only TLS may carry."""
        kept = [(name, value) for name, value in self.headers if name.lower() != "authorization"]
        return replace(self, scheme="http", headers=kept)


def request_of(action: HTTPGetAction, target: ContainerTarget, *, purpose: str = "probe") -> HttpRequest:
    """The request. Raises ``ProbeError`` if there is no such port or address.

    Args:
        purpose: what the User-Agent says: ``probe`` or ``lifecycle``.
    """
    scheme = (action.scheme or "HTTP").lower()
    if scheme not in ("http", "https"):
        raise ProbeError(f"unsupported protocol scheme {go_quote(scheme)}")
    headers = [(h.name, h.value) for h in action.http_headers or ()]
    hosts = [value for name, value in headers if name.lower() == "host"]
    return HttpRequest(
        scheme,
        target.host(action.host),
        resolve_port(action.port, target.container),
        _target(action.path or ""),
        _headers(action.http_headers or (), purpose),
        host_header=hosts[0] if hosts else None,
    )


def _headers(given: Sequence[HTTPHeader], purpose: str) -> list[tuple[str, str]]:
    headers = [(h.name, h.value) for h in given if h.name.lower() not in ("host", "connection")]
    defaults = [("User-Agent", f"kube-{purpose}/{_USER_AGENT}"), ("Accept", "*/*")]
    names = {name.lower() for name, _ in headers}
    headers += [(name, value) for name, value in defaults if name.lower() not in names]
    # An empty one means that there is to be none.
    return [(n, v) for n, v in headers if v or n.lower() not in ("user-agent", "accept")]


def _target(path: str) -> str:
    """What is asked for; a path may bring its query, and whatever it says of scheme and host does not count."""
    try:
        parts = urlsplit(path)
        valid = not _NO_URL.search(path)
    except ValueError:
        valid = False
    if not valid:  # it is a path as it stands, whatever is in it
        return "/" + quote(path.removeprefix("/"), safe=_PATH.replace("%", ""))
    text = "/" + quote(parts.path.removeprefix("/"), safe=_PATH)
    return f"{text}?{quote(parts.query, safe=_QUERY)}" if parts.query else text


def redirected(request: HttpRequest, status: int, location: str | None) -> HttpRequest | None:
    """The request that a response asks for next; None if the response is the last one. Raises ``RedirectError``.

    To another host nothing is followed: a pod could have the node ask anybody.
    """
    if status not in _REDIRECT_CODES or not location:
        return None
    try:
        parts = urlsplit(urljoin(request.url, location))
        host, port = parts.hostname, parts.port
    except ValueError as error:
        shown = go_quote(location)
        raise RedirectError(f"failed to parse Location header {shown}: parse {shown}: {error}", request.url) from error
    if not host or host.lower() != request.host.lower():
        return None
    if request.followed >= REDIRECTS:
        raise RedirectError(f"stopped after {REDIRECTS} redirects", location)
    if parts.scheme not in ("http", "https"):
        raise RedirectError(f"unsupported protocol scheme {go_quote(parts.scheme)}", location)
    return HttpRequest(
        parts.scheme,
        host,
        port or (443 if parts.scheme == "https" else 80),
        _target(parts._replace(scheme="", netloc="").geturl()),
        request.headers,
        host_header=None if urlsplit(location).netloc else request.host_header,
        followed=request.followed + 1,
    )

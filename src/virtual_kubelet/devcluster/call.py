"""One request on its way through the server: what is asked, by whom, and what to say beside the answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from virtual_kubelet.devcluster.rendering import encode
from virtual_kubelet.devcluster.request_info import RequestInfo
from virtual_kubelet.devcluster.users import User
from virtual_kubelet.server.connection import Request, Response

__all__ = ["JSON_HEADERS", "Call", "json_response"]

JSON_HEADERS = (("Cache-Control", "no-cache, private"), ("Content-Type", "application/json"))


@dataclass(slots=True)
class Call:
    """A request for a resource, authenticated and authorized.

    Attributes:
        warnings: become ``Warning`` headers, which kubectl shows.
    """

    request: Request
    info: RequestInfo
    user: User
    warnings: list[str] = field(default_factory=list)

    def respond(self, body: bytes, status: int = 200) -> Response:
        """A JSON answer with this call's warnings."""
        if not self.warnings:
            return Response(status, JSON_HEADERS, body)
        return Response(status, [*JSON_HEADERS, *(("Warning", _warning(text)) for text in self.warnings)], body)


def _warning(text: str) -> str:
    quoted = "".join(c if " " <= c <= "~" else "?" for c in text).replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{quoted}"'


def json_response(value: object, status: int = 200) -> Response:
    """``value`` as JSON."""
    return Response(status, JSON_HEADERS, encode(value))

"""The kubelet's routes: from method and path to what is meant, with the kubelet's two kinds of "not found". Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from virtual_kubelet.server.http_messages import Response, text_response

__all__ = ["Match", "debugging_disabled", "find_route", "method_label", "not_found"]


class Match(NamedTuple):
    """A route and the variable parts of the path.

    Attributes:
        name: of the route; there are few, so it is a metric's label.
        methods: allowed ones, in the kubelet's order.
        parameters: ``namespace``, ``pod``, ``uid``, ``container``, ``check``; never empty.
    """

    name: str
    methods: tuple[str, ...]
    parameters: Mapping[str, str]


_GET: Final = ("GET",)
_STREAM: Final = ("GET", "POST")
_POD: Final = ("{namespace}", "{pod}")

#: (name, methods, path). Some of the kubelet's take the pod's UID in between: ``/exec/NAMESPACE/POD/UID/CONTAINER``.
_ROUTES: Final[tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = (
    ("containerLogs", _GET, ("containerLogs", *_POD, "{container}")),
    ("pods", _GET, ("pods",)),
    ("runningpods", _GET, ("runningpods",)),
    ("healthz", _GET, ("healthz",)),
    ("healthz", _GET, ("healthz", "{check}")),
    ("configz", _GET, ("configz",)),
    ("metrics", _GET, ("metrics",)),
    ("metrics/resource", _GET, ("metrics", "resource")),
    ("metrics/cadvisor", _GET, ("metrics", "cadvisor")),
    ("metrics/probes", _GET, ("metrics", "probes")),
    ("stats", _GET, ("stats", "summary")),
    ("checkpoint", ("POST",), ("checkpoint", *_POD, "{container}")),
    ("exec", _STREAM, ("exec", *_POD, "{container}")),
    ("exec", _STREAM, ("exec", *_POD, "{uid}", "{container}")),
    ("attach", _STREAM, ("attach", *_POD, "{container}")),
    ("attach", _STREAM, ("attach", *_POD, "{uid}", "{container}")),
    ("portForward", _STREAM, ("portForward", *_POD)),
    ("portForward", _STREAM, ("portForward", *_POD, "{uid}")),
    ("run", ("POST",), ("run", *_POD, "{container}")),
    ("run", ("POST",), ("run", *_POD, "{uid}", "{container}")),
)
#: Below these the kubelet's router (go-restful) says what was not found, elsewhere Go's.
_SERVICES: Final = frozenset(
    {"containerLogs", "pods", "runningpods", "stats", "exec", "attach", "portForward", "run", "checkpoint"}
)
#: What a kubelet's ``enableDebuggingHandlers: false`` turns off (InstallDebuggingDisabledHandlers).
_DEBUGGING: Final = frozenset({"run", "exec", "attach", "portForward", "containerLogs", "runningpods", "logs", "debug"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def find_route(path: str) -> Match | None:
    """The route of a path. One slash at the end does not count; empty parts fit nowhere."""
    parts = _parts(path)
    for name, methods, pattern in _ROUTES:
        if len(pattern) == len(parts) and pattern[0] == parts[0]:
            parameters: dict[str, str] = {}
            for wanted, part in zip(pattern, parts, strict=True):
                if wanted.startswith("{") and part:
                    parameters[wanted[1:-1]] = part
                elif wanted != part:
                    break
            else:
                return Match(name, methods, parameters)
    return None


def _parts(path: str) -> list[str]:
    # Only the one slash: authorization looks at the path as it is, and must not see another route than this.
    parts = path[1:].split("/")
    if len(parts) > 1 and not parts[-1]:
        parts.pop()
    return parts


def debugging_disabled(path: str) -> Response | None:
    """What is answered on a path of a debugging handler when those are off; None if it is not one of theirs."""
    first = _parts(path)[0]
    if first in _DEBUGGING:
        text = "Debug endpoints are disabled.\n"
        return text_response(405, text, ("X-Content-Type-Options", "nosniff"))
    return not_found(path) if first == "configz" else None


def not_found(path: str) -> Response:
    """404 in the words of the router that would have answered."""
    if _parts(path)[0] in _SERVICES:
        return text_response(404, "404: Page Not Found")
    return text_response(404, "404 page not found\n", ("X-Content-Type-Options", "nosniff"))


def method_label(method: str) -> str:
    """The method as a metric's label: clients may make up methods, not labels."""
    return method if method in _METHODS else "other"

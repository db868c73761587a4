"""Requests handed on to a node's HTTPS port, with a client certificate of the cluster: logs, and GETs of node/proxy.

Who listens there is not verified, as by an API server without ``--kubelet-certificate-authority``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from virtual_kubelet.devcluster.call import Call
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.request_options import is_true
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    StatusError,
    bad_request,
    field_forbidden,
    field_invalid,
    invalid,
)
from virtual_kubelet.devcluster.stream_options import chosen_container
from virtual_kubelet.objects.times import parse_time
from virtual_kubelet.server.connection import Response

if TYPE_CHECKING:
    from virtual_kubelet.devcluster.node_client import NodeAnswer, NodeClient

__all__ = ["NodeProxy"]

_DEFAULT_PORT: Final = 10250
_ADDRESSES: Final = ("InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS")
_CLIENT: Final = "virtual_kubelet.devcluster.node_client"
#: Read of a node's error answer.
_MOST_ERROR_BYTES: Final = 2048
#: Asked of the node, in the order Go's url.Values puts them.
_LOG_PARAMETERS: Final = (
    "follow",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "stream",
    "tailLines",
    "timestamps",
)


class NodeProxy:
    """The API server's client of the nodes; ``aclose`` it."""

    def __init__(self, state: ClusterState, client_context: Callable[[], ssl.SSLContext], *, timeout: float) -> None:
        """``client_context``: made when first needed; ``timeout``: seconds for a node to accept and to begin to answer."""
        self._state = state
        self._client_context = client_context
        self._timeout = timeout
        self._client: NodeClient | None = None

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def logs(self, call: Call) -> Response:
        """``pods/log``. Raises 400, 404, 422 and what the node answers."""
        stored = self._state.pods.get(call.info.namespace, call.info.name)
        parameters = _log_parameters(call)
        pod = stored.decode()
        container = chosen_container(pod, call.request.query.get("container"))
        node = pod["spec"].get("nodeName")
        if not node:
            # Nothing has run yet; the API server answers with nothing, too.
            return Response(200, _TEXT, b"")
        path = "/".join(quote(part, safe="") for part in (call.info.namespace, call.info.name, container))
        return await self._stream(call, node, f"/containerLogs/{path}", urlencode(parameters), "pods/log")

    async def node(self, call: Call) -> Response:
        """GET of ``nodes/NAME/proxy/…``. Raises 404 and 502-like errors of the node as it gives them."""
        if call.request.method not in ("GET", "HEAD"):
            raise StatusError(501, "", "the dev cluster proxies GET requests to nodes only")
        self._state.nodes.get("", call.info.name)
        path = "/" + quote(call.info.rest)
        return await self._stream(call, call.info.name, path, call.request.raw_query, "")

    async def read(self, node: str, path: str, *, most_bytes: int) -> str:
        """A short answer of a node, as the cluster's own parts ask. Raises ``StatusError`` and ``ResponseBroken``."""
        return await (await self._open()).read(f"https://{self.address(node)}{path}", most_bytes=most_bytes)

    async def _stream(self, call: Call, node: str, path: str, query: str, checked: str) -> Response:
        """``checked``: the resource whose errors are turned into a Status; empty: the answer is handed on as it is."""
        url = f"https://{self.address(node)}{path}{'?' + query if query else ''}"
        answer = await (await self._open()).get(url)
        if checked and answer.status >= 300:
            raise await self._refused(answer, checked, call.info.name)
        kind = answer.content_type if not checked else "text/plain"
        headers = [("Cache-Control", "no-cache, private"), ("Content-Type", kind)]
        return Response(answer.status, headers, answer)

    async def _open(self) -> NodeClient:
        if self._client is None:
            await asyncio.to_thread(import_module, _CLIENT)
            context = await asyncio.to_thread(self._client_context)
            if self._client is None:  # nobody else has been as quick
                from virtual_kubelet.devcluster.node_client import NodeClient

                self._client = NodeClient(context, timeout=self._timeout)
        return self._client

    def address(self, node: str) -> str:
        """Where its HTTPS API is: ``HOST:PORT``. Raises 404, 500."""
        stored = self._state.nodes.objects.get("", node)
        if stored is None:
            raise self._state.nodes.missing(node)
        status = stored.decode()["status"]
        addresses = status.get("addresses") or []
        for kind in _ADDRESSES:
            for address in addresses:
                if address.get("type") == kind and address.get("address"):
                    host = address["address"]
                    port = status["daemonEndpoints"]["kubeletEndpoint"].get("Port") or _DEFAULT_PORT
                    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise StatusError(500, "", f"no preferred addresses found; known addresses: {addresses}")

    @staticmethod
    async def _refused(answer: NodeAnswer, resource: str, name: str) -> StatusError:
        """The node's refusal as the API server words it."""
        try:
            text = (await answer.beginning(_MOST_ERROR_BYTES)).decode(errors="replace")
        finally:
            await answer.aclose()
        status = answer.status
        if status == 500:
            causes = {"causes": [{"message": text}]}
            return StatusError(500, "InternalError", f"Internal error occurred: {text}", causes)
        if status == 400:
            return bad_request(text)
        reason, message = _GENERIC.get(
            status, ("", f"the server responded with the status code {status} but did not return more information")
        )
        return StatusError(status, reason, f"{message} ( {resource} {name})", {"name": name, "kind": resource})


_TEXT: Final = (("Cache-Control", "no-cache, private"), ("Content-Type", "text/plain"))
_GENERIC: Final = {
    401: ("Unauthorized", "the server has asked for the client to provide credentials"),
    403: ("Forbidden", "access is not permitted"),
    404: ("NotFound", "the server could not find the requested resource"),
    405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
}


def _log_parameters(call: Call) -> list[tuple[str, str]]:
    """What is asked of the node. Raises 400 and 422."""
    query = call.request.query
    found: list[tuple[str, str]] = []
    errors: list[FieldError] = []
    for name in _LOG_PARAMETERS:
        text = query.get(name)
        if not text:
            continue
        if name in ("follow", "previous", "timestamps"):
            if is_true(text):
                found.append((name, "true"))
        elif name in ("sinceTime", "stream"):
            found.append((name, text))
        else:
            try:
                number = int(text)
            except ValueError:
                raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None
            least = 0 if name == "tailLines" else 1
            if number < least:
                detail = "must be greater than or equal to 0" if least == 0 else "must be greater than 0"
                errors.append(field_invalid(name, number, detail))
            found.append((name, str(number)))
    given = dict(found)
    if "sinceTime" in given:
        try:
            parse_time(given["sinceTime"])
        except ValueError:
            raise bad_request(f"sinceTime: {given['sinceTime']} is no RFC 3339 time") from None
        if "sinceSeconds" in given:
            errors.append(field_forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    if errors:
        raise invalid("PodLogOptions", call.info.name, errors)
    return found

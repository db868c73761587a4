"""Requests handed on to a node's HTTPS port, with a client certificate of the cluster: logs, and GETs of node/proxy.

Who listens there is not verified, as by an API server without ``--kubelet-certificate-authority``.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp

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
from virtual_kubelet.server.connection import Response, ResponseBroken

__all__ = ["NodeProxy"]

_DEFAULT_PORT: Final = 10250
_ADDRESSES: Final = ("InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS")
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
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

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
        url = f"https://{self.address(node)}{path}"
        try:
            async with asyncio.timeout(self._timeout):
                async with self._open().get(_url(url), allow_redirects=False) as answer:
                    body = await answer.content.read(most_bytes + 1)
                    while not answer.content.at_eof() and len(body) <= most_bytes:
                        body += await answer.content.read(most_bytes + 1 - len(body))
        except TimeoutError:
            raise StatusError(500, "", f'Get "{url}": net/http: timeout awaiting response headers') from None
        except (aiohttp.ClientError, OSError) as error:
            raise StatusError(500, "", f'Get "{url}": {_reason(error)}') from None
        if answer.status != 200:
            raise StatusError(answer.status, "", body[:_MOST_ERROR_BYTES].decode(errors="replace"))
        if len(body) > most_bytes:
            raise StatusError(500, "", f'Get "{url}": more than {most_bytes} bytes')
        return body.decode(errors="replace")

    async def _stream(self, call: Call, node: str, path: str, query: str, checked: str) -> Response:
        """``checked``: the resource whose errors are turned into a Status; empty: the answer is handed on as it is."""
        url = f"https://{self.address(node)}{path}{'?' + query if query else ''}"
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._open().get(_url(url), allow_redirects=False)
        except TimeoutError:
            raise StatusError(500, "", f'Get "{url}": net/http: timeout awaiting response headers') from None
        except (aiohttp.ClientError, OSError) as error:
            raise StatusError(500, "", f'Get "{url}": {_reason(error)}') from None
        if checked and answer.status >= 300:
            raise await self._refused(answer, checked, call.info.name)
        kind = answer.headers.get("Content-Type", "text/plain")
        headers = [("Cache-Control", "no-cache, private"), ("Content-Type", kind if not checked else "text/plain")]
        return Response(answer.status, headers, _Body(answer))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._client_context(), limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=True,
            )
        return self._session

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
    async def _refused(answer: aiohttp.ClientResponse, resource: str, name: str) -> StatusError:
        """The node's refusal as the API server words it."""
        async with answer:
            text = (await answer.content.read(_MOST_ERROR_BYTES)).decode(errors="replace")
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


class _Body:
    """The node's answer, chunk by chunk; closed with our own response."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._answer.content.readany()
        except (aiohttp.ClientError, OSError):
            # The node broke off: so do we, or the client would take half of it for the whole.
            raise ResponseBroken from None
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        self._answer.close()


def _url(url: str) -> Any:
    from yarl import URL

    return URL(url, encoded=True)


def _reason(error: Exception) -> str:
    system = getattr(error, "os_error", error)
    if isinstance(system, ConnectionRefusedError):
        host = f"{error.host}:{error.port}" if isinstance(error, aiohttp.ClientConnectorError) else ""
        return f"dial tcp {host}: connect: connection refused"
    return str(error) or type(error).__name__


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

"""Probes and hooks that ask by HTTP (pkg/probe/http): a status from 200 to 399 is a success.

One request a connection, no proxy, nothing compressed. What a server may send is bounded: of the body the first 10 KiB are
read (then the connection is closed), of the headers 64 KiB.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

import h11

from virtual_kubelet.objects.core_v1 import HTTPGetAction
from virtual_kubelet.runtime.probes.connection import Connection, ConnectionFailure, dial
from virtual_kubelet.runtime.probes.http_request import HttpRequest, RedirectError, redirected, request_of
from virtual_kubelet.runtime.probes.target import OUTPUT_LIMIT, ContainerTarget, Outcome, ProbeAnswer, go_quote

__all__ = ["HttpFailure", "HttpResponse", "http_get", "probe_by_http"]

_HEADER_LIMIT: Final = 64 * 1024
_BROKEN: Final = "net/http: HTTP/1.x transport connection broken"
_TIMEOUT: Final = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
_TIMEOUT_IN_BODY: Final = "context deadline exceeded (Client.Timeout or context cancellation while reading body)"


class HttpFailure(Exception):
    """There was no response; the text is as Go's ``http.Client`` says it."""


class HttpResponse(NamedTuple):
    """``body`` is its beginning, ``broken`` why there is no more of it though there should be."""

    status: int
    location: str | None
    body: str
    broken: str | None = None


async def probe_by_http(target: ContainerTarget, action: HTTPGetAction, timeout: float) -> ProbeAnswer:
    """An httpGet probe. Raises ``ProbeError`` if there is no such port or address."""
    try:
        response = await http_get(request_of(action, target), timeout)
    except HttpFailure as failure:
        return ProbeAnswer(Outcome.FAILURE, str(failure))
    if not 200 <= response.status < 400:
        return ProbeAnswer(Outcome.FAILURE, f"HTTP probe failed with statuscode: {response.status}")
    if response.broken is not None:
        # A kubelet takes this as a probe that could not be made, and so never ends a container that hangs here.
        return ProbeAnswer(Outcome.FAILURE, response.broken)
    if response.status >= 300:
        return ProbeAnswer(Outcome.WARNING, f"Probe terminated redirects, Response body: {response.body}")
    return ProbeAnswer(Outcome.SUCCESS, response.body)


async def http_get(request: HttpRequest, timeout: float | None) -> HttpResponse:
    """Send it, and what redirects on the same host ask for. Raises ``HttpFailure``.

    Args:
        timeout: seconds for all of it; None: no end.
    """
    shown = request.url
    received: list[HttpResponse] = []
    try:
        async with asyncio.timeout(timeout):
            while True:
                received.clear()
                async with dial(request.host, request.port, tls=request.scheme == "https") as connection:
                    response = await _ask(connection, request, received)
                following = redirected(request, response.status, response.location)
                if following is None:
                    return response
                request, shown = following, following.url
    except TimeoutError:
        if received:
            return received[-1]._replace(broken=_TIMEOUT_IN_BODY)
        raise HttpFailure(f"Get {go_quote(shown)}: {_TIMEOUT}") from None
    except RedirectError as error:
        raise HttpFailure(f"Get {go_quote(error.location)}: {error}") from error
    except ConnectionFailure as error:
        raise HttpFailure(f"Get {go_quote(shown)}: {error}") from error


async def _ask(connection: Connection, request: HttpRequest, received: list[HttpResponse]) -> HttpResponse:
    """One request and its response, which is in ``received`` as soon as its headers are."""
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEADER_LIMIT)
    try:
        get = h11.Request(method="GET", target=request.target, headers=request.sent_headers)
        await connection.write((http.send(get) or b"") + (http.send(h11.EndOfMessage()) or b""))
    except (h11.LocalProtocolError, UnicodeError) as error:
        raise ConnectionFailure(f"net/http: invalid header: {error}") from error
    body, beginning = bytearray(), b""
    while True:
        try:
            event = http.next_event()
        except h11.RemoteProtocolError as error:
            return _broken(error, beginning, received, body)
        if event is h11.NEED_DATA:
            try:
                data = await connection.read()
            except ConnectionFailure as failure:
                if not received:
                    raise
                return received[-1]._replace(broken=str(failure))
            if not data and not beginning:
                raise ConnectionFailure("EOF")
            beginning = beginning or data
            http.receive_data(data)
        elif isinstance(event, h11.Response):
            location = next((v.decode("latin-1") for n, v in event.headers if n == b"location"), None)
            received.append(HttpResponse(event.status_code, location, ""))
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) >= OUTPUT_LIMIT:
                return _with_body(received, body)
        elif isinstance(event, h11.EndOfMessage):
            return _with_body(received, body)
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionFailure("EOF")


def _with_body(received: list[HttpResponse], body: bytearray) -> HttpResponse:
    return received[-1]._replace(body=bytes(body[:OUTPUT_LIMIT]).decode(errors="replace"))


def _broken(
    error: h11.RemoteProtocolError, beginning: bytes, received: list[HttpResponse], body: bytearray
) -> HttpResponse:
    if received:
        return _with_body(received, body)._replace(broken="unexpected EOF")
    if "buffer" in str(error).lower():  # h11: "Receive buffer too long"
        raise ConnectionFailure(f"{_BROKEN}: net/http: server response headers exceeded {_HEADER_LIMIT} bytes; aborted")
    line = beginning.split(b"\n", 1)[0].rstrip(b"\r")[:100].decode("latin-1")
    if line.startswith("HTTP/"):
        raise ConnectionFailure(f"{_BROKEN}: {error}")
    raise ConnectionFailure(f"{_BROKEN}: malformed HTTP response {go_quote(line)}")

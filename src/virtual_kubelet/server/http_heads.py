"""Heads of HTTP messages: which requests are taken, and what stands before an answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import h11

from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.server.http_messages import Headers, PeerIdentity, Request, Response, parse_target, reason
from virtual_kubelet.server.limits import ServerLimits
from virtual_kubelet.server.request_reader import PlainRequest, ServerConnection

__all__ = ["NO_BODY", "SLICE", "misread", "plain_request", "refusal", "request_of", "response_head", "whole_answer"]

#: Where h11's errors begin to quote.
_QUOTED: Final = re.compile(r""":? (?:bytearray\(|b['"])""")
NO_BODY: Final = frozenset({204, 304})
#: Large bodies go out in slices of this size, so that a slow client does not cost a second copy.
SLICE: Final = 256 * 1024


def request_of(
    event: h11.Request,
    limits: ServerLimits,
    *,
    peer: PeerIdentity | None,
    remote: str,
    read_body: Callable[[int | None], Awaitable[bytes]],
) -> Request:
    """The request that h11 has read. Raises ``ProtocolError`` for one that is not to be served."""
    if event.http_version not in (b"1.0", b"1.1"):
        raise ProtocolError("only HTTP/1.0 and HTTP/1.1 are spoken here", status=505)
    # h11 limits only what is incomplete.
    size = len(event.target) + sum(len(k) + len(v) + 4 for k, v in event.headers)
    _check_size(size, len(event.headers), limits)
    names = {name for name, _ in event.headers}
    # Whoever stands before us may read the length the other way, and then see other requests than we do (RFC 9112, 6.1).
    if b"transfer-encoding" in names and (b"content-length" in names or event.http_version == b"1.0"):
        raise ProtocolError("the request's body has its length in two ways", status=400)
    return Request(
        event.method.decode("ascii"),
        parse_target(event.target),
        Headers(event.headers),
        peer_certificate=peer,
        remote=remote,
        read_body=read_body,
    )


def plain_request(
    plain: PlainRequest,
    limits: ServerLimits,
    *,
    peer: PeerIdentity | None,
    remote: str,
    read_body: Callable[[int | None], Awaitable[bytes]],
) -> Request:
    """The same of a request that came whole."""
    fields, body = plain.fields, plain.body
    _check_size(len(plain.target) + fields.size, len(fields.items), limits)
    return Request(
        plain.method.decode("ascii"),
        parse_target(plain.target),
        fields.headers,
        peer_certificate=peer,
        remote=remote,
        read_body=read_body,
        content=body if len(body) <= limits.max_body_bytes else None,
    )


def _check_size(size: int, fields: int, limits: ServerLimits) -> None:
    if size > limits.max_header_bytes or fields > limits.max_header_fields:
        raise ProtocolError("the request's headers are too large", status=431)


def whole_answer(http: ServerConnection, response: Response, date: str) -> bytes | None:
    """A small answer with well-known fields (a tuple) in one piece; None: ``response_head`` is to make its head.

    The connection goes on after it. Raises ``h11.LocalProtocolError`` for headers that may not be sent.
    """
    status, headers, body = response.status, response.headers, response.body
    if type(headers) is not tuple or not isinstance(body, bytes) or len(body) > SLICE or response.upgrade is not None:
        return None
    return http.whole_answer(status, reason(status), headers, date, body)


def response_head(response: Response, date: str, *, close: bool) -> h11.Response | h11.InformationalResponse:
    """What stands before an answer; ``close``: the connection ends with it.

    Raises ``h11.LocalProtocolError`` for headers that may not be sent.
    """
    status, body = response.status, response.body
    if response.upgrade is not None:
        return h11.InformationalResponse(status_code=101, headers=list(response.headers), reason=reason(101))
    headers = [*response.headers, ("Date", date)]
    if isinstance(body, bytes) and status not in NO_BODY:
        headers.append(("Content-Length", str(len(body))))
    if close:
        headers.append(("Connection", "close"))
    return h11.Response(status_code=status, headers=headers, reason=reason(status))


def misread(error: h11.RemoteProtocolError) -> ProtocolError:
    """What to say of a message that h11 cannot read: it quotes what it was sent, perhaps half of a token."""
    return ProtocolError(_QUOTED.split(str(error), 1)[0], status=error.error_status_hint)


def refusal(error: ProtocolError, date: str, *, bodiless: bool) -> list[h11.Event]:
    """An answer, as events, to what could not be understood; the connection ends with it."""
    text = f"{error}\n".encode()
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Date", date),
        ("Content-Length", str(len(text))),
        ("Connection", "close"),
    ]
    head = h11.Response(status_code=error.status, headers=headers, reason=reason(error.status))
    return [head, h11.EndOfMessage()] if bodiless else [head, h11.Data(data=text), h11.EndOfMessage()]

"""Answers of the API server to typed errors, and network failures to sentences. Pure."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Mapping
from typing import Final

import aiohttp
import msgspec

from virtual_kubelet.errors import (
    AlreadyExistsError,
    ApiError,
    ApiNotFoundError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidObjectError,
    ServerError,
    TooManyRequestsError,
    UnauthorizedError,
    text_of,
)
from virtual_kubelet.objects.meta_v1 import Status

__all__ = ["error_from", "error_from_status", "explain", "is_distrust", "refused_in_tls"]

_BY_CODE: dict[int, type[ApiError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: ApiNotFoundError,
    409: ConflictError,
    410: GoneError,
    422: InvalidObjectError,
    429: TooManyRequestsError,
}
#: The same, where aiohttp wraps it into an error of its own.
_CLOSED: Final = (errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED)
_decoder = msgspec.json.Decoder(Status)


def error_from(code: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error that an answer of 300 and more is. A body that is no ``Status`` is not quoted."""
    try:
        status = _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        status = None
    if status is None or status.kind != "Status":
        message = "the API server answered with a redirect, which is not followed" if 300 <= code < 400 else ""
        status = Status(code=code, message=message)
    return error_from_status(status, code, headers.get("Retry-After"))


def error_from_status(status: Status, code: int | None = None, retry_after: str | None = None) -> ApiError:
    """The error that a ``Status`` is, from an answer or from a watch's ``ERROR`` event."""
    number = code or status.code or 500
    wait: float | None = None
    if retry_after is not None and retry_after.isdigit():
        wait = float(retry_after)
    elif status.details is not None and status.details.retry_after_seconds:
        wait = float(status.details.retry_after_seconds)
    causes = [
        (cause.field or "", cause.reason or "", cause.message or "")
        for cause in (status.details.causes if status.details is not None else None) or ()
    ]
    kind = _BY_CODE.get(number, ServerError if number >= 500 else ApiError)
    if status.reason == "AlreadyExists":
        kind = AlreadyExistsError
    elif status.reason in ("Expired", "Gone"):
        kind = GoneError
    return kind(number, status.reason or "", status.message or "", retry_after=wait, causes=causes)


def explain(error: BaseException) -> str:
    """What went wrong with the network, in words."""
    proxied = "the proxy: " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answered {error.status}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        error = error.certificate_error
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    return proxied + _reason(error)


def is_distrust(error: BaseException) -> bool:
    """Whether it is us who do not accept the server's certificate."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return True
    return isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ssl.SSLCertVerificationError)


def refused_in_tls(error: BaseException) -> bool:
    """Whether this may be a server that does not accept our certificate: an alert, or a connection that just ends."""
    if is_distrust(error):
        return False
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    if isinstance(error, ConnectionRefusedError):
        return False  # nobody has seen ours
    return isinstance(error, (ssl.SSLError, ConnectionError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "its name cannot be resolved"
    if isinstance(error, (aiohttp.ServerDisconnectedError, ConnectionResetError, BrokenPipeError)):
        return "it closed the connection"
    if isinstance(error, OSError) and error.errno in _CLOSED:
        return "it closed the connection"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "it broke off in the middle of its answer"
    if isinstance(error, aiohttp.ClientResponseError):
        return "it does not speak HTTP"  # the error's own text quotes what it sent
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return text_of(error)

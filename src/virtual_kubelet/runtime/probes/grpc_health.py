"""Probes that ask by gRPC's health protocol (pkg/probe/grpc): one unary call ``grpc.health.v1.Health/Check``, without TLS.

HTTP/2 is spoken by ``h2`` (the extra ``virtual-kubelet[grpc]``): it does no I/O, so that connections, limits and errors are
those of the other probes. ``grpcio`` would bring threads, a C core and its own connections for two small messages.
"""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import H2Error

from virtual_kubelet.objects.core_v1 import GRPCAction
from virtual_kubelet.runtime.probes.connection import Connection, ConnectionFailure, dial, host_port
from virtual_kubelet.runtime.probes.target import (
    OUTPUT_LIMIT,
    ContainerTarget,
    Outcome,
    ProbeAnswer,
    go_duration,
    go_quote,
    resolve_port,
)

__all__ = ["GrpcError", "health_request", "health_status", "probe_by_grpc"]

#: Seconds between tries to connect: a server that is not there yet may come within the time-out (grpc's first back-off).
_AGAIN: Final = 1.0
_STATUSES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
#: https://grpc.github.io/grpc/core/md_doc_statuscodes.html, as Go spells them.
_CODES: Final = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists"),
    *("PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented"),
    *("Internal", "Unavailable", "DataLoss", "Unauthenticated"),
)
_OK, _DEADLINE, _UNIMPLEMENTED = "OK", "DeadlineExceeded", "Unimplemented"
#: What an HTTP status means if the server speaks no gRPC (grpc's http-grpc-status-mapping.md).
_OF_HTTP: Final = {400: "Internal", 401: "Unauthenticated", 403: "PermissionDenied", 404: _UNIMPLEMENTED}
_OF_HTTP_BUSY: Final = (429, 502, 503, 504)


class GrpcError(Exception):
    """The call did not end well; ``code`` as Go spells it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def probe_by_grpc(target: ContainerTarget, action: GRPCAction, timeout: int) -> ProbeAnswer:
    """A grpc probe. Raises ``ProbeError`` if there is no such port or address."""
    host, port = target.host(), resolve_port(action.port, target.container)
    address, within = host_port(host, port), go_duration(timeout)
    connected = False
    try:
        async with asyncio.timeout(timeout):
            while True:
                try:
                    async with dial(host, port) as connection:
                        connected = True
                        status = await _check(connection, address, action.service or "")
                    break
                except ConnectionFailure:
                    if connected:
                        raise
                await asyncio.sleep(_AGAIN)
    except TimeoutError:
        if connected:
            return _failed(f"timeout: health rpc did not complete within {within}")
        deadline = "context deadline exceeded"
        return _failed(f"timeout: failed to connect service {go_quote(address)} within {within}: {deadline}")
    except ConnectionFailure as failure:
        return _failed(f"error: health rpc probe failed: rpc error: code = Unavailable desc = {failure}")
    except GrpcError as error:
        if error.code == _UNIMPLEMENTED:
            protocol = "the grpc health protocol (grpc.health.v1.Health)"
            return _failed(f"error: this server does not implement {protocol}: {error}")
        if error.code == _DEADLINE:
            return _failed(f"timeout: health rpc did not complete within {within}")
        return _failed(f"error: health rpc probe failed: rpc error: code = {error.code} desc = {error}")
    if status != "SERVING":
        return _failed(f"service unhealthy (responded with {go_quote(status)})")
    return ProbeAnswer(Outcome.SUCCESS, "service healthy")


def _failed(message: str) -> ProbeAnswer:
    return ProbeAnswer(Outcome.FAILURE, message)


async def _check(connection: Connection, authority: str, service: str) -> str:
    """The call; the status that the server gives. Raises ``GrpcError`` and ``ConnectionFailure``."""
    http = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    http.initiate_connection()
    stream = http.get_next_available_stream_id()
    http.send_headers(
        stream,
        [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("user-agent", "kube-probe/1.36"),
            ("te", "trailers"),
        ],
    )
    http.send_data(stream, health_request(service), end_stream=True)
    headers: dict[str, str] = {}
    body = bytearray()
    while True:
        await connection.write(http.data_to_send())
        data = await connection.read()
        if not data:
            raise GrpcError("Unavailable", "connection error: EOF")
        try:
            events = http.receive_data(data)
        except (H2Error, UnicodeError) as error:
            raise GrpcError("Unavailable", f"connection error: {error}") from error
        for event in events:
            if isinstance(event, ResponseReceived | TrailersReceived):
                headers.update((str(name), str(value)) for name, value in event.headers or ())
            elif isinstance(event, DataReceived):
                body += event.data or b""
                if len(body) > OUTPUT_LIMIT:
                    raise GrpcError("ResourceExhausted", f"the answer is longer than {OUTPUT_LIMIT} bytes")
                http.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            elif isinstance(event, StreamReset):
                raise GrpcError("Internal", f"stream terminated by RST_STREAM with error code: {event.error_code}")
            elif isinstance(event, ConnectionTerminated):
                raise GrpcError("Unavailable", f"the server closes the connection: {event.error_code}")
            elif isinstance(event, StreamEnded):
                return _answer(headers, bytes(body))


def _answer(headers: dict[str, str], body: bytes) -> str:
    code = headers.get("grpc-status")
    if code is None:
        status = headers.get(":status", "")
        number = int(status) if status.isdecimal() else 0
        name = "Unavailable" if number in _OF_HTTP_BUSY else _OF_HTTP.get(number, "Unknown")
        raise GrpcError(name, f"unexpected HTTP status code received from server: {status}")
    name = _CODES[int(code)] if code.isdecimal() and int(code) < len(_CODES) else f"Code({code})"
    if name != _OK:
        raise GrpcError(name, unquote(headers.get("grpc-message", "")))
    return health_status(body)


def health_request(service: str) -> bytes:
    """A ``HealthCheckRequest`` in its gRPC frame."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\x00" + len(message).to_bytes(4, "big") + message


def health_status(body: bytes) -> str:
    """The status of a ``HealthCheckResponse`` in its gRPC frame. Raises ``GrpcError`` if it is none."""
    if len(body) < 5 or body[0] != 0 or len(body) != 5 + int.from_bytes(body[1:5], "big"):
        raise GrpcError("Internal", "the answer is no gRPC message")
    status, position = 0, 5
    while position < len(body):
        tag, position = _read_varint(body, position)
        match tag & 7:
            case 0:
                value, position = _read_varint(body, position)
                status = value if tag == 8 else status
            case 2:
                length, position = _read_varint(body, position)
                position += length
            case 1:
                position += 8
            case 5:
                position += 4
            case _:
                raise GrpcError("Internal", "the answer is no HealthCheckResponse")
    if position != len(body):
        raise GrpcError("Internal", "the answer is cut off")
    return _STATUSES[status] if status < len(_STATUSES) else str(status)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    number = shift = 0
    while position < len(data) and shift < 64:
        byte = data[position]
        position += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, position
        shift += 7
    raise GrpcError("Internal", "the answer is cut off")

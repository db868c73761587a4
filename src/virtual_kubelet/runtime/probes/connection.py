"""TCP connections, with TLS or without, that fail in the words of Go's ``net`` and ``crypto/tls``: events show them.

No time-outs here: whoever calls sets one for the whole of what it does, and cancelling closes the socket. Certificates are
not verified, as with a kubelet's probes: nothing secret is sent, and a container's certificate is for its name, not its IP.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, Final

__all__ = ["Connection", "ConnectionFailure", "NotTlsError", "dial", "host_port"]

_READ: Final = 16 * 1024


class ConnectionFailure(Exception):
    """A connection could not be made or broke; the text is as Go's."""


class NotTlsError(ConnectionFailure):
    """The server answered TLS with plain HTTP."""


def host_port(host: str, port: int) -> str:
    """As Go's ``net.JoinHostPort``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)


class Connection:
    """An open connection. ``read`` gives no bytes at its end."""

    def __init__(self, sock: socket.socket, address: tuple[Any, ...]) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self._ends = f"tcp {host_port(*sock.getsockname()[:2])}->{host_port(*address[:2])}"

    async def write(self, data: bytes) -> None:
        """Raises ``ConnectionFailure``."""
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise ConnectionFailure(f"write {self._ends}: write: {_reason(error)}") from error

    async def read(self) -> bytes:
        """Raises ``ConnectionFailure``."""
        try:
            return await self._loop.sock_recv(self._socket, _READ)
        except OSError as error:
            raise ConnectionFailure(f"read {self._ends}: read: {_reason(error)}") from error


class _TlsConnection(Connection):
    """TLS on it, without I/O of its own, so that what comes instead of TLS can be looked at."""

    def __init__(self, sock: socket.socket, address: tuple[Any, ...], host: str) -> None:
        super().__init__(sock, address)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _unverified().wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._begun = False

    async def handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._exchange()
                continue
            except ssl.SSLError as error:
                await self._flush()
                raise ConnectionFailure(_tls_reason(error)) from error
            await self._flush()
            return

    async def write(self, data: bytes) -> None:
        while data:
            try:
                data = data[self._tls.write(data) :]
            except ssl.SSLWantReadError:
                await self._exchange()
            except ssl.SSLError as error:
                raise ConnectionFailure(_tls_reason(error)) from error
        await self._flush()

    async def read(self) -> bytes:
        while True:
            try:
                return self._tls.read(_READ)
            except ssl.SSLWantReadError:
                await self._exchange()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise ConnectionFailure(_tls_reason(error)) from error

    async def _flush(self) -> None:
        if waiting := self._outgoing.read():
            await super().write(waiting)

    async def _exchange(self) -> None:
        """Send what waits, then take what comes."""
        await self._flush()
        received = await super().read()
        if not self._begun and received:
            self._begun = True
            if received.startswith(b"HTTP/"):
                raise NotTlsError("http: server gave HTTP response to HTTPS client")
            if received[0] not in (20, 21, 22, 23):
                raise ConnectionFailure("tls: first record does not look like a TLS handshake")
        if not received and not self._tls.version():
            raise ConnectionFailure("EOF")
        if received:
            self._incoming.write(received)
        else:
            self._incoming.write_eof()


def _tls_reason(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).lower().replace("_", " ")
    for prefix in ("tlsv1 alert ", "tlsv13 alert ", "sslv3 alert "):
        if reason.startswith(prefix):
            return f"remote error: tls: {reason.removeprefix(prefix)}"
    return f"tls: {reason}"


@lru_cache(maxsize=1)
def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def dial(host: str, port: int, *, tls: bool = False) -> AsyncIterator[Connection]:
    """A connection for as long as the context lasts. Raises ``ConnectionFailure``."""
    family, address = await _address(host, port)
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError as error:
            raise ConnectionFailure(f"dial tcp {host_port(*address[:2])}: connect: {_reason(error)}") from error
        if not tls:
            yield Connection(sock, address)
            return
        secured = _TlsConnection(sock, address, host)
        await secured.handshake()
        yield secured


async def _address(host: str, port: int) -> tuple[socket.AddressFamily, tuple[Any, ...]]:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        if ip.version == 4:
            return socket.AF_INET, (host, port)
        scope = socket.if_nametoindex(ip.scope_id) if ip.scope_id else 0
        return socket.AF_INET6, (host, port, 0, scope)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConnectionFailure(f"dial tcp: lookup {host}: no such host") from error
    family, _, _, _, address = found[0]
    return family, address

"""The container engine's API, by aiodocker: requests, endless answers and two-way streams, and one kind of error.

aiodocker finds the engine (unix, tcp, TLS, ssh, contexts), speaks its version of the API and takes its errors apart. What
its own methods lack (bytes of logs, answers that are closed, the half-close of stdin) is here, and here alone.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from aiodocker import Docker, DockerError
from aiodocker.stream import Stream
from yarl import URL

from virtual_kubelet import TransientError

__all__ = ["Daemon", "DaemonError", "TwoWay"]

#: Seconds. Engines answer in milliseconds, but a machine under load or a slow disk makes some requests long.
_TIMEOUT: Final = 120.0
_CONNECT: Final = 10.0
_GONE: Final = "no such container"
#: aiodocker's status for "no answer at all".
_UNREACHABLE: Final = 900


class DaemonError(TransientError):
    """The engine refused a request. ``status`` is HTTP's; 0 if it was not reached or broke off."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Daemon:
    """An async context manager.

    Args:
        url: such as ``unix:///run/docker.sock``; None: where Docker's own client would look.
        timeout: seconds for a request that is answered at once.
    """

    def __init__(self, url: str | None = None, *, timeout: float = _TIMEOUT) -> None:
        self._url = url
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=_CONNECT)
        self._endless = aiohttp.ClientTimeout(sock_connect=_CONNECT)
        self._docker: Docker | None = None
        #: What ``/version`` and ``/info`` said last.
        self.version: Mapping[str, Any] = {}
        self.info: Mapping[str, Any] = {}

    async def __aenter__(self) -> Daemon:
        """Raises ``DaemonError`` if there is no engine."""
        try:
            self._docker = Docker(self._url, timeout=self._timeout)
        except (AssertionError, ValueError) as error:  # aiodocker asserts that it has found one
            raise DaemonError(0, "no container engine was found, or its address is none") from error
        try:
            self.version = await self.get("version")
            self.info = await self.get("info")
        except BaseException:
            await self._docker.close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._client.close()

    @property
    def is_podman(self) -> bool:
        return any("podman" in str(part.get("Name", "")).lower() for part in self.version.get("Components") or ())

    @property
    def is_local(self) -> bool:
        """Whether the engine's processes and files may be this machine's own: it is reached by a Unix socket."""
        return self.address.startswith("unix://")

    @property
    def address(self) -> str:
        return self._url or str(self._client._connection_info)  # its docker_host has no path any more

    @property
    def _client(self) -> Docker:
        assert self._docker is not None, "the daemon's context has not been entered"
        return self._docker

    async def ping(self) -> None:
        """Raises ``DaemonError`` unless it answers."""
        async with self.open("GET", "_ping", timeout=self._timeout) as response:
            await response.read()

    async def get(self, path: str, **params: Any) -> Any:
        """GET; the JSON of the answer. Raises ``DaemonError``."""
        return await self.request("GET", path, params=params)

    async def request(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None
    ) -> Any:
        """The object or list of the answer, None if it has none. Raises ``DaemonError``."""
        async with self.open(method, path, params=params, body=body, timeout=self._timeout) as response:
            content = await response.read()
        return json.loads(content) if content.lstrip()[:1] in (b"{", b"[") else None

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer, whose body is still to be read; closed at the end. Raises ``DaemonError``, also within.

        Args:
            body: JSON, or ``bytes`` as they are.
            timeout: None: as long as it takes.
        """
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        query = {name: _text(value) for name, value in (params or {}).items()}
        with _translated(self._where):
            response = await self._client._do_query(
                path, method, params=query, data=data, headers=headers, timeout=timeout or self._endless
            )
            try:
                yield response
            finally:
                response.close() if timeout is None else response.release()

    async def values(self, response: aiohttp.ClientResponse) -> AsyncIterator[Any]:
        """The answer of an open request that goes on: one JSON value a line."""
        async for line in response.content:
            if line.strip():
                yield json.loads(line)

    @asynccontextmanager
    async def two_way(
        self, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None, tty: bool
    ) -> AsyncIterator[TwoWay]:
        """A connection that stdin goes up and stdout and stderr come down. Raises ``DaemonError``, also within."""

        async def setup() -> tuple[URL, bytes | None, bool]:
            url = URL(path).with_query({name: _text(value) for name, value in (params or {}).items()})
            return url, None if body is None else json.dumps(body).encode(), tty

        with _translated(self._where):
            async with Stream(self._client, setup, self._endless) as stream:
                yield TwoWay(stream)

    def _where(self) -> str:
        return f"the container engine at {self.address}"


class TwoWay:
    """A stream of the engine. ``read`` gives (1 for stdout or 2 for stderr, bytes), None at the end."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def read(self) -> tuple[int, bytes] | None:
        message = await self._stream.read_out()
        return None if message is None else (message.stream, message.data)

    async def write(self, data: bytes) -> None:
        """Raises ``BrokenPipeError`` if nobody reads it any more."""
        try:
            await self._stream.write_in(data)
        except (ConnectionError, RuntimeError, AssertionError):
            raise BrokenPipeError from None

    def end_input(self) -> None:
        """Nothing more will be written; what comes down is still read."""
        connection = self._stream._resp.connection if self._stream._resp is not None else None
        if connection is not None and connection.transport is not None and connection.transport.can_write_eof():
            connection.transport.write_eof()


class _translated:
    """Whatever goes wrong on the way to the engine, as a ``DaemonError``."""

    def __init__(self, where: Callable[[], str]) -> None:
        self._where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DockerError):
            if error.status == _UNREACHABLE:
                raise DaemonError(0, f"{self._where()} cannot be reached") from error
            message = error.message.strip()
            # Podman's status of a container that is just being removed is another.
            raise DaemonError(404 if message.endswith(_GONE) else error.status, message) from None
        if isinstance(error, TimeoutError) and not isinstance(error, asyncio.CancelledError):
            raise DaemonError(0, f"{self._where()} does not answer") from error
        if isinstance(error, json.JSONDecodeError):  # an error without a body, or no engine at all
            raise DaemonError(500, f"{self._where()} gave an answer that is not JSON") from error
        if isinstance(error, (aiohttp.ClientError, ConnectionError)):
            raise DaemonError(0, f"{self._where()} has broken off") from error


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return value if isinstance(value, str) else json.dumps(value)

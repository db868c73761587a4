"""GETs of nodes' HTTPS ports over one pool of connections, failures worded as by the API server.

Imported when first needed: its HTTP library takes longer to import than the cluster to start.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from typing import Final

import aiohttp
from yarl import URL

from virtual_kubelet.devcluster.statuses import StatusError
from virtual_kubelet.errors import text_of
from virtual_kubelet.server.connection import ResponseBroken

__all__ = ["NodeAnswer", "NodeClient"]

#: Of a node's error answer.
_MOST_ERROR_BYTES: Final = 2048


class NodeAnswer:
    """What a node says: an iterator over the chunks of its body; ``aclose`` it."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.status = answer.status
        self.content_type = answer.headers.get("Content-Type", "text/plain")

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

    async def beginning(self, most_bytes: int) -> bytes:
        """Of the body, up to so many bytes. Raises ``ResponseBroken``."""
        found = bytearray()
        async for chunk in self:
            found += chunk
            if len(found) >= most_bytes:
                break
        return bytes(found[:most_bytes])

    async def aclose(self) -> None:
        self._answer.close()


class NodeClient:
    """``aclose`` it."""

    def __init__(self, context: ssl.SSLContext, *, timeout: float) -> None:
        """``context``: for TLS; ``timeout``: seconds for a node to accept and to begin to answer, and for a short answer."""
        self._timeout = timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=True,
        )

    async def aclose(self) -> None:
        await self._session.close()

    async def get(self, url: str) -> NodeAnswer:
        """The head of an answer, whatever its status. Raises ``StatusError`` 500 if there is none."""
        try:
            async with asyncio.timeout(self._timeout):
                return NodeAnswer(await self._session.get(URL(url, encoded=True), allow_redirects=False))
        except TimeoutError:
            raise _failed(url, "net/http: timeout awaiting response headers") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _failed(url, _reason(error)) from None

    async def read(self, url: str, *, most_bytes: int) -> str:
        """A whole answer. Raises ``StatusError``: the node's own, or 500; and ``ResponseBroken``."""
        answer = await self.get(url)
        try:
            async with asyncio.timeout(self._timeout):
                body = await answer.beginning(most_bytes + 1)
        except TimeoutError:
            raise _failed(url, "context deadline exceeded while reading body") from None
        finally:
            await answer.aclose()
        if answer.status != 200:
            raise StatusError(answer.status, "", body[:_MOST_ERROR_BYTES].decode(errors="replace"))
        if len(body) > most_bytes:
            raise _failed(url, f"more than {most_bytes} bytes")
        return body.decode(errors="replace")


def _failed(url: str, why: str) -> StatusError:
    return StatusError(500, "", f'Get "{url}": {why}')


def _reason(error: Exception) -> str:
    system = getattr(error, "os_error", error)
    if isinstance(system, ConnectionRefusedError):
        host = f"{error.host}:{error.port}" if isinstance(error, aiohttp.ClientConnectorError) else ""
        return f"dial tcp {host}: connect: connection refused"
    return text_of(error)

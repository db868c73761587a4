"""A plain HTTP client of the dev cluster: what goes over the wire is what a test says, no more."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import ssl
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import aiohttp
from yarl import URL

from virtual_kubelet.devcluster import DevCluster

__all__ = ["MERGE", "STRATEGIC", "Answer", "Api", "Watch", "config_map", "pod", "ssl_context"]

JSON_PATCH = "application/json-patch+json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
#: No answer within so many seconds is a failure, however loaded the machine is.
PATIENCE = 30.0


def ssl_context(cluster: DevCluster, kubeconfig: str | None = None) -> ssl.SSLContext:
    """TLS with the client certificate of ``kubeconfig`` (the administrator's). It writes a file: not for a loop."""
    user = json.loads(kubeconfig or cluster.kubeconfig())["users"][0]["user"]
    context = ssl.create_default_context(cadata=cluster.ca_pem.decode())
    with tempfile.TemporaryDirectory() as directory:
        pem = Path(directory, "pem")
        pem.write_bytes(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
        context.load_cert_chain(pem)
    return context


class Answer(NamedTuple):
    """One answer; ``body`` is decoded if it is JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def reason(self) -> str:
        return str(self.body.get("reason", ""))

    @property
    def message(self) -> str:
        return str(self.body["message"])

    @property
    def causes(self) -> list[tuple[str, str]]:
        """Field and reason of each cause."""
        return [(c["field"], c["reason"]) for c in self.body["details"]["causes"]]

    @property
    def warnings(self) -> list[str]:
        return [value for name, value in self.headers.items() if name == "Warning"]

    @property
    def names(self) -> list[str]:
        """Of a list's items."""
        return [item["metadata"]["name"] for item in self.body["items"]]


class Watch:
    """An open watch; iterate over its events, or ``take`` some of them."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def take(self, count: int) -> list[dict[str, Any]]:
        """The next ``count`` events. Raises ``TimeoutError`` if they do not come, ``EOFError`` if the watch ends."""
        events: list[dict[str, Any]] = []
        async with asyncio.timeout(PATIENCE):
            while len(events) < count:
                line = await self._response.content.readline()
                if not line:
                    raise EOFError(f"the watch has ended after {events}")
                events.append(json.loads(line))
        return events

    async def rest(self) -> list[dict[str, Any]]:
        """All events until the watch ends."""
        async with asyncio.timeout(PATIENCE):
            return [json.loads(line) for line in (await self._response.content.read()).splitlines()]


class Api:
    """Requests of one user to one cluster."""

    def __init__(self, url: str, context: ssl.SSLContext) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, limit=0), timeout=aiohttp.ClientTimeout(total=PATIENCE)
        )

    @classmethod
    async def of(cls, cluster: DevCluster, kubeconfig: str | None = None) -> Api:
        """A client of a cluster that has started."""
        return cls(cluster.url, await asyncio.to_thread(ssl_context, cluster, kubeconfig))

    async def __aenter__(self) -> Api:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """``body``: bytes go as they are, anything else as JSON; None: no body."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = dict(headers or {})
        if data is not None:
            sent.setdefault("Content-Type", content_type)
        url = URL(self._url + path, encoded=True)
        # Of what is in memory aiohttp would rather have a file if it is large.
        content_of = None if data is None else io.BytesIO(data)
        async with self._session.request(method, url, data=content_of, headers=sent) as got:
            text = await got.text()
            try:
                content = json.loads(text)
            except ValueError:
                content = text
            return Answer(got.status, got.headers, content)

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.send("GET", path, **options)

    async def post(self, path: str, body: Any, **options: Any) -> Answer:
        return await self.send("POST", path, body, **options)

    async def put(self, path: str, body: Any, **options: Any) -> Answer:
        return await self.send("PUT", path, body, **options)

    async def patch(self, path: str, body: Any, content_type: str = MERGE) -> Answer:
        return await self.send("PATCH", path, body, content_type=content_type)

    async def delete(self, path: str, body: Any = None) -> Answer:
        return await self.send("DELETE", path, body)

    async def create(self, path: str, body: Any) -> dict[str, Any]:
        """The object as it was stored; anything but 201 is a failure."""
        answer = await self.post(path, body)
        assert answer.status == 201, answer
        created: dict[str, Any] = answer.body
        return created

    @asynccontextmanager
    async def watch(self, path: str) -> AsyncIterator[Watch]:
        """An open watch of ``path``, which says ``watch=1`` itself; anything but 200 is a failure."""
        url = URL(self._url + path, encoded=True)
        async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=None)) as response:
            assert response.status == 200, await response.text()
            yield Watch(response)

    async def until_gone(self, path: str) -> None:
        """Until ``path`` answers 404."""
        async with asyncio.timeout(PATIENCE):
            while (await self.get(path)).status != 404:
                await asyncio.sleep(0.02)


def pod(name: str = "p", **spec: Any) -> dict[str, Any]:
    """A pod that is valid; ``metadata`` and fields of its spec may be given."""
    metadata = {"name": name, **spec.pop("metadata", {})}
    if not name:
        del metadata["name"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [{"name": "main", "image": "busybox:1.36"}], **spec},
    }


def config_map(name: str = "c", data: Mapping[str, str] | None = None, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **metadata},
        "data": dict(data or {"a": "b"}),
    }

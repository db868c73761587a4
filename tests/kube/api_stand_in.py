"""A scripted API server over real TLS: each test gives it the answers, faults included, and reads what reached it."""

from __future__ import annotations

import asyncio
import json
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import trustme
from aiohttp import web

from virtual_kubelet.kube.config import ClientConfig
from virtual_kubelet.kube.credentials import Anonymous, Credentials

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

SECRET = "planted-secret"


@dataclass
class Seen:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


@dataclass
class ApiStandIn:
    """Answers with ``script`` in turn, and with its last entry from then on."""

    authority: trustme.CA
    script: list[Answer] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    #: Kept, so that none is taken for an earlier one.
    connections: set[asyncio.BaseTransport | None] = field(default_factory=set)
    names: tuple[str, ...] = ("127.0.0.1",)
    client_authority: trustme.CA | None = None
    port: int = 0

    async def start(self, port: int = 0) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*self.names).configure_cert(context)
        if self.client_authority is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            self.client_authority.configure_trust(context)
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=context, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.connections.add(request.transport)
        body = await request.read()
        self.seen.append(Seen(request.method, request.path, dict(request.query), dict(request.headers), body))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        return await answer(request)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def config(self, credentials: Credentials | None = None, **changed: Any) -> ClientConfig:
        given: dict[str, Any] = {"server": self.url, "ssl_context": self.trust()}
        return ClientConfig(credentials=credentials or Anonymous(), **{**given, **changed})


def answers(status: int, content: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """One answer: bytes as they are, the rest as JSON."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, body=body, headers={"Content-Type": "application/json", **(headers or {})})

    return answer


def refuses(code: int, reason: str, message: str = "", headers: dict[str, str] | None = None, **more: Any) -> Answer:
    """An answer with a ``Status``."""
    return answers(code, status(code, reason, message, **more), headers)


def status(code: int, reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    return {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
        **more,
    }  # fmt: skip


def drops() -> Answer:
    """The connection goes without an answer."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(3600)
        raise AssertionError

    return answer


def hangs() -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600)
        raise AssertionError

    return answer


def streams(*chunks: bytes | float | Awaitable[Any] | None, end: str = "clean") -> Answer:
    """A stream: bytes are sent, a number is a pause, an awaitable is waited for. Ends ``clean``, ``abort`` or ``hang``."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            if isinstance(chunk, bytes):
                await response.write(chunk)
            elif isinstance(chunk, float):
                await asyncio.sleep(chunk)
            elif chunk is not None:
                await chunk
        if end == "hang":
            await asyncio.sleep(3600)
        if end == "abort":
            assert request.transport is not None
            request.transport.abort()
            await asyncio.sleep(3600)
        await response.write_eof()
        return response

    return answer


def event(kind: str, obj: Any) -> bytes:
    """One line of a watch."""
    return json.dumps({"type": kind, "object": obj}, ensure_ascii=False).encode() + b"\n"


def config_map(name: str, version: str = "1", uid: str = "", data: dict[str, str] | None = None) -> dict[str, Any]:
    meta = {"name": name, "namespace": "ns", "resourceVersion": version, "uid": uid or f"uid-{name}"}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": meta, "data": data or {}}


def listed(*objects: Any, version: str = "10", continue_: str = "") -> dict[str, Any]:
    """One page of a list."""
    return {
        "kind": "ConfigMapList", "apiVersion": "v1", "items": list(objects),
        "metadata": {"resourceVersion": version, **({"continue": continue_} if continue_ else {})},
    }  # fmt: skip


def key_pair(leaf: trustme.LeafCert) -> tuple[bytes, bytes]:
    return leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()


def with_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> ssl.SSLContext:
    with tempfile.NamedTemporaryFile() as file:
        file.write(certificate + key)
        file.flush()
        context.load_cert_chain(file.name)
    return context

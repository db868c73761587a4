"""Certificates, and servers that must leave nothing behind."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trustme

from virtual_kubelet.server.certificates import server_context
from virtual_kubelet.server.connection import Handler, HttpServer, PromptHandler, ServerLimits

Serve = Callable[..., Awaitable[tuple[HttpServer, tuple[str, int]]]]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Signs the server's certificate."""
    return trustme.CA()


@pytest.fixture(scope="session")
def client_authority() -> trustme.CA:
    """Signs clients' certificates."""
    return trustme.CA(organization_name="clients")


@pytest.fixture(scope="session")
def serving_context(authority: trustme.CA, client_authority: trustme.CA) -> ssl.SSLContext:
    leaf = authority.issue_cert("node.example", "127.0.0.1")
    return server_context(
        b"".join(blob.bytes() for blob in leaf.cert_chain_pems),
        leaf.private_key_pem.bytes(),
        client_ca=client_authority.cert_pem.bytes(),
    )


@pytest.fixture(scope="session")
def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """Of a client without a certificate."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="session")
def certified_context(authority: trustme.CA, client_authority: trustme.CA) -> ssl.SSLContext:
    """Of a client whose certificate says O=engineers, CN=ada."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    leaf = client_authority.issue_cert("ada.example", organization_name="engineers", common_name="ada")
    leaf.configure_cert(context)
    return context


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """No task and no file descriptor may outlive the test."""
    before = len(os.listdir("/proc/self/fd"))
    yield
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    if len(os.listdir("/proc/self/fd")) > before:
        gc.collect()  # takes longer than most tests: only when something is left in a cycle
        assert len(os.listdir("/proc/self/fd")) <= before


@pytest.fixture
async def serve(nothing_left: None) -> AsyncIterator[Serve]:
    """Starts servers on a free port and stops them."""
    servers: list[HttpServer] = []

    async def start(
        handler: Handler,
        *,
        limits: ServerLimits | None = None,
        context: ssl.SSLContext | None = None,
        at_once: PromptHandler | None = None,
    ) -> tuple[HttpServer, tuple[str, int]]:
        server = HttpServer(handler, ssl_context=context, limits=limits, at_once=at_once)
        addresses = await server.start("127.0.0.1", 0)
        servers.append(server)
        return server, addresses[0]

    yield start
    for server in servers:
        await server.aclose(grace=0)
        assert server.connections == 0

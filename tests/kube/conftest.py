"""Fixtures of the kube tests: a certificate authority, a scripted API server behind TLS, and clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trustme

from tests.kube.api_stand_in import ApiStandIn
from virtual_kubelet.kube.client import ApiClient

NewClient = Callable[..., ApiClient]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
async def server(authority: trustme.CA) -> AsyncIterator[ApiStandIn]:
    stand_in = ApiStandIn(authority)
    await stand_in.start()
    yield stand_in
    await stand_in.stop()


@pytest.fixture
async def new_client(server: ApiStandIn) -> AsyncIterator[NewClient]:
    """Makes clients of ``server``; ``config=`` for another configuration than the plain one."""
    async with AsyncExitStack() as stack:

        def make(**options: Any) -> ApiClient:
            client = ApiClient(options.pop("config", None) or server.config(), **options)
            stack.push_async_callback(client.aclose)
            return client

        yield make


@pytest.fixture
def client(new_client: NewClient) -> ApiClient:
    return new_client(request_timeout=5.0)

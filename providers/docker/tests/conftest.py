"""Every test that starts an engine is marked as such."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from providers.docker.tests.machine import Machine, machine_at
from tests.container_engines import ContainerEngine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and {"podman", "dockerd", "container_engine"} & set(
            getattr(item, "fixturenames", ())
        ):
            item.add_marker(pytest.mark.engine)


@pytest.fixture
async def machine(container_engine: ContainerEngine) -> AsyncIterator[Machine]:
    """A runtime for a node of the test's own; all its containers are removed at the end."""
    async with machine_at(container_engine) as made:
        yield made


@pytest.fixture
def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port

"""A dev cluster of a test's own, without a scheduler, and its administrator's client; controllers in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.devcluster.clients import Api
from tests.devcluster.control_plane import ControlPlane
from virtual_kubelet.devcluster import DevCluster


@pytest.fixture
async def cluster() -> AsyncIterator[DevCluster]:
    """Pods that name no node stay without one."""
    async with DevCluster(scheduler=False) as started:
        yield started


@pytest.fixture
async def api(cluster: DevCluster) -> AsyncIterator[Api]:
    async with await Api.of(cluster) as client:
        yield client


@pytest.fixture
def plane() -> ControlPlane:
    """State and controllers in virtual time; they run inside ``async with plane.running()``."""
    return ControlPlane()

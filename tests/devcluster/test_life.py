"""The dev cluster's start and its end."""

from __future__ import annotations

import asyncio

import pytest

from virtual_kubelet.devcluster import DevCluster


async def test_a_start_that_is_cancelled_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    cluster = DevCluster()
    starting = asyncio.create_task(cluster.start())

    def running() -> set[str]:
        return {task.get_name() for task in asyncio.all_tasks()}

    async with asyncio.timeout(60):
        while "dev cluster" not in running():
            await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert asyncio.all_tasks() == before

"""An engine's events fail, or its answers, or they take long. A real Podman and dockerd behind the faults."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest

from providers.docker.tests.machine import PATIENCE, Machine, pod, shell
from virtual_kubelet import ContainerExit
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet_docker.daemon import Daemon, DaemonError
from virtual_kubelet_docker.exit_watch import ExitWatch
from virtual_kubelet_docker.labels import Owner
from virtual_kubelet_docker.statistics import container_statistics

pytestmark = pytest.mark.may_block


class Faulty(Daemon):
    """It has no events, and fails so many lists of containers."""

    failures = 2

    @asynccontextmanager
    async def open(self, method: str, path: str, **more: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        if path == "events":
            raise DaemonError(500, "no events today")
        if path == "containers/json" and self.failures:
            self.failures -= 1
            raise DaemonError(500, "the list is closed")
        async with super().open(method, path, **more) as response:
            yield response


async def test_looks_find_ends_without_events_and_one_that_fails_is_said_once_and_repeated(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    started = await machine.start(pod(), shell("exit 3"))
    told: asyncio.Queue[tuple[str, ContainerExit]] = asyncio.Queue()
    async with Faulty(machine.engine.url) as daemon:
        watch = ExitWatch(daemon, Owner(machine.node_name, "tests"), get_logger("tests.watch"))
        watch.notify_exits(lambda some_id, ended: told.put_nowait((some_id, ended)))
        watch.runs(started.id)
        with caplog.at_level(logging.INFO, "tests.watch"):
            watching = asyncio.create_task(watch.run())
            try:
                async with asyncio.timeout(PATIENCE):
                    some_id, ended = await told.get()
            finally:
                watching.cancel()
                await asyncio.wait([watching])
    assert (some_id, ended.exit_code) == (started.id, 3)
    said = [record.getMessage() for record in caplog.records if record.name == "tests.watch"]
    assert said.count("which containers run cannot be seen just now: the list is closed") == 1
    assert said.count("the container engine's events have broken off: no events today") == 1


class Slow(Daemon):
    """It gives no statistics of this container."""

    of = ""

    async def get(self, path: str, **params: Any) -> Any:
        if self.of in path and path.endswith("/stats"):
            await asyncio.Event().wait()
        return await super().get(path, **params)


async def test_statistics_that_do_not_come_in_time_hold_up_no_others(machine: Machine) -> None:
    one = pod()
    first = await machine.start(one, shell("sleep 1000", name="a"))
    second = await machine.start(one, shell("sleep 1000", name="b"))
    daemon = Slow(machine.engine.url)
    daemon.of = second.id
    async with daemon:
        found = await container_statistics(daemon, [first.id, second.id], {}, datetime.now(UTC), longest=10)
        assert found.keys() == {first.id}
        with pytest.raises(DaemonError, match="no statistics within"):
            await container_statistics(daemon, [second.id], {}, datetime.now(UTC), longest=0.1)

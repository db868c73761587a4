"""An engine that is restarted, or killed, under a running node: each test has an engine of its own."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from providers.docker.tests.machine import PATIENCE, machine_at, pod, shell
from tests.container_engines import KINDS, ContainerEngine
from tests.locations import REPOSITORY
from virtual_kubelet import TransientError

pytestmark = [pytest.mark.may_block, pytest.mark.engine]


@pytest.fixture(params=KINDS)
def own_engine(request: pytest.FixtureRequest) -> Iterator[ContainerEngine]:
    request.getfixturevalue(request.param)  # it installs what is missing, one worker at a time
    directory = Path(tempfile.mkdtemp(prefix="vk-"))  # a short path: there are sockets below it
    up(request.param, directory)
    found = next(directory.glob("*.sock"))
    yield ContainerEngine(request.param, f"unix://{found}", directory)
    up(request.param, directory, "--stop")
    assert not any(str(directory) in line for line in Path("/proc/self/mountinfo").read_text().splitlines())
    shutil.rmtree(directory)


def up(kind: str, directory: Path, *arguments: str) -> None:
    subprocess.run(
        [REPOSITORY / "tools" / kind / "up", directory, *arguments], check=True, capture_output=True, timeout=300
    )


def kill(engine: ContainerEngine) -> None:
    name = "service.pid" if engine.kind == "podman" else "dockerd.pid"
    pid = int((engine.directory / name).read_text())
    handle = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        os.set_blocking(handle, False)

        assert select.select([handle], [], [], PATIENCE)[0]
    finally:
        os.close(handle)


async def test_an_engine_that_is_killed_and_comes_back_has_lost_nothing_and_tells_what_ended_meanwhile(
    own_engine: ContainerEngine,
) -> None:
    async with machine_at(own_engine) as machine:
        one = pod()
        lives = await machine.start(one, shell("sleep 1000", name="lives"))
        ends = await machine.start(one, shell("until [ -e /data/go ]; do sleep 0.1; done; exit 7", name="ends"))
        dies = await machine.start(one, shell("sleep 1000", name="dies"))
        pid = (await machine.runtime.daemon.get(f"containers/{dies.id}/json"))["State"]["Pid"]
        kill(own_engine)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(TransientError, match="the container engine at"):
            await machine.runtime.list_containers()
        with pytest.raises(TransientError):
            await machine.runtime.daemon.ping()
        await asyncio.to_thread(up, own_engine.kind, own_engine.directory)
        assert (await machine.exit_of(dies.id)).exit_code == 137
        await machine.runtime.daemon.ping()
        assert {c.id for c in await machine.runtime.list_containers() if c.exit is None} == {lives.id, ends.id}
        own_engine.cli("exec", ends.id, "sh", "-c", "mkdir /data; touch /data/go")
        assert (await machine.exit_of(ends.id)).exit_code == 7
        assert lives.id not in machine.exits

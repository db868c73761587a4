"""The kit is stopped in the middle: nothing of it is left behind."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Iterator

import pytest

from tests.contract.commands import processes_with
from tests.contract.scenarios import eventually
from virtual_kubelet.testing.conformance import Check, ConformanceConfig, run_conformance
from virtual_kubelet.testing.conformance.stage import Stage

pytestmark = pytest.mark.may_block


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the kit keeps its things; a short path, since there are sockets below it."""
    made = tempfile.mkdtemp(prefix="vk-")
    monkeypatch.setattr(tempfile, "tempdir", made)
    yield made
    shutil.rmtree(made)


async def test_stopped_while_the_node_is_killed_it_leaves_no_process_of_a_pod(folder: str) -> None:
    killed = asyncio.Event()

    async def waits_without_a_node(stage: Stage) -> None:
        await stage.start(stage.shell(f"trap '' TERM; : {folder}; while :; do sleep 1; done"))

        async def for_ever() -> None:
            killed.set()
            await asyncio.Event().wait()

        await stage.node_is_killed(for_ever)

    check = Check("adoption", "waits-without-a-node", "It waits.", waits_without_a_node, ("shell",))
    config = ConformanceConfig(provider="process", allow_host_processes=True, checks=[check])
    run = asyncio.create_task(run_conformance(config))
    try:
        async with asyncio.timeout(120):
            done, _ = await asyncio.wait({run, asyncio.create_task(killed.wait())}, return_when=asyncio.FIRST_COMPLETED)
        assert run not in done, "it has ended before"
        assert processes_with(folder), "the container outlives its node"
    finally:
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run

    await eventually(lambda: not processes_with(folder))  # container, supervisor, node

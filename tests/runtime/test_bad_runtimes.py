"""Runtimes that hang, lie, lose containers or have some that nobody wanted, and disks that are full: what is said of it,
and how it goes on. In virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock, Runtime
from tests.runtime.test_engine_resize import Events
from tests.runtime.test_pod_engine import Engine, pod, settle
from virtual_kubelet.contracts.runtime import ContainerConfig, ContainerExit, ContainerInstance
from virtual_kubelet.objects.core_v1 import Container, Lifecycle, LifecycleHandler, SleepAction
from virtual_kubelet.runtime.checkpoint import PodCheckpoints
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.pod_engine import PodEngine

pytestmark = [pytest.mark.looptime, pytest.mark.may_block]

AUDIT = 60.0


class BadRuntime(Runtime):
    """``hangs``: calls that never answer; ``twice``: every list names everything twice."""

    def __init__(self) -> None:
        super().__init__(LoopClock())
        self.hangs: list[str] = []
        self.twice = False

    async def _maybe_hang(self, call: str) -> None:
        if call in self.hangs:
            self.hangs.remove(call)
            await asyncio.Event().wait()

    async def start_container(self, config: ContainerConfig) -> ContainerInstance:
        await self._maybe_hang("start")
        return await super().start_container(config)

    async def signal_container(self, container_id: str, signal: int) -> None:
        await self._maybe_hang("signal")
        await super().signal_container(container_id, signal)

    async def remove_container(self, container_id: str) -> None:
        await self._maybe_hang("remove")
        await super().remove_container(container_id)

    async def list_containers(self) -> Sequence[ContainerInstance]:
        await self._maybe_hang("list")
        found = await super().list_containers()
        return [*found, *found] if self.twice else found

    def add(self, name: str, **labels: str) -> None:
        """Somebody else starts one."""
        self.instances[name] = ContainerInstance(name, labels, self.clock.now())


@asynccontextmanager
async def engine_on(folder: Path, runtime: Runtime) -> AsyncIterator[tuple[Engine, Events]]:
    events = Events()
    around = replace(context(folder, clock=runtime.clock), record_event=events.take)
    async with PodEngine(runtime, around, EngineOptions(directory=folder, audit_period=AUDIT)) as engine:
        yield Engine(engine, runtime), events


def reasons(events: Events) -> list[str]:
    return [reason for reason, _ in events]


async def test_a_start_that_hangs_has_failed_after_its_time_and_is_tried_again(tmp_path: Path) -> None:
    runtime = BadRuntime()
    runtime.hangs = ["start"]
    async with engine_on(tmp_path, runtime) as (e, events):
        await e.engine.create_pod(pod())
        await asyncio.sleep(121)
        message = "start_container: the runtime has not answered within 120 s"
        assert ("Failed", f"Error: {message}") in events
        await asyncio.sleep(10)
        assert (e.status.phase, e.main.restart_count) == ("Running", 0)


@pytest.mark.parametrize("call", ["signal", "remove", "list"])
async def test_a_call_that_hangs_holds_a_deletion_up_no_longer_than_its_time(tmp_path: Path, call: str) -> None:
    runtime = BadRuntime()
    async with engine_on(tmp_path, runtime) as (e, _):
        await e.engine.create_pod(pod())
        await settle()
        runtime.hangs = [call]
        await e.engine.delete_pod(pod())
        await asyncio.sleep(200)
        assert runtime.hangs == []
        assert (runtime.instances, await e.engine.get_pods()) == ({}, [])


async def test_a_list_that_hangs_ends_no_audit(tmp_path: Path) -> None:
    runtime = BadRuntime()
    async with engine_on(tmp_path, runtime) as (e, _):
        await e.engine.create_pod(pod())
        await settle()
        runtime.hangs = ["list"]
        await asyncio.sleep(3 * AUDIT)
        assert runtime.hangs == []
        runtime.instances.clear()
        await asyncio.sleep(3 * AUDIT)
        assert (e.status.phase, e.main.restart_count) == ("Running", 1)


async def test_a_container_that_the_runtime_loses_is_told_and_runs_again(tmp_path: Path) -> None:
    runtime = BadRuntime()
    async with engine_on(tmp_path, runtime) as (e, events):
        await e.engine.create_pod(pod())
        await settle()
        runtime.instances.clear()
        await asyncio.sleep(3 * AUDIT)
        assert ("ContainerLost", "Container main is not known to the runtime any more") in events
        assert (e.status.phase, e.main.restart_count) == ("Running", 1)
        last = e.main.last_state
        assert last is not None
        assert last.terminated is not None
        assert (last.terminated.exit_code, last.terminated.reason) == (137, "ContainerStatusUnknown")


async def test_an_end_that_the_runtime_keeps_to_itself_is_found(tmp_path: Path) -> None:
    runtime = BadRuntime()
    async with engine_on(tmp_path, runtime) as (e, events):
        await e.engine.create_pod(pod("Never"))
        await settle()
        silent = runtime.running("main")
        runtime.instances[silent.id] = replace(silent, exit=ContainerExit(7, runtime.clock.now()))
        await asyncio.sleep(3 * AUDIT)
        assert (e.status.phase, "ContainerLost" in reasons(events)) == ("Failed", False)


async def test_a_runtime_that_lies_about_an_end_from_the_future_or_of_no_container_does_no_harm(tmp_path: Path) -> None:
    runtime = BadRuntime()
    async with engine_on(tmp_path, runtime) as (e, _):
        await e.engine.create_pod(pod())
        await settle()
        runtime.exited("nobody", ContainerExit(1, runtime.clock.now()))
        await settle()
        assert (e.status.phase, e.main.restart_count) == ("Running", 0)
        held = runtime.running("main")
        runtime.exited(held.id, ContainerExit(1, runtime.clock.now() + timedelta(days=1)))
        await asyncio.sleep(5)
        assert e.main.restart_count == 1


async def test_a_container_that_is_listed_twice_is_one(tmp_path: Path) -> None:
    runtime = BadRuntime()
    runtime.twice = True
    async with engine_on(tmp_path, runtime) as (e, _):
        await e.engine.create_pod(pod())
        await asyncio.sleep(3 * AUDIT)
        before = e.status
    async with engine_on(tmp_path, runtime) as (e, events):
        await asyncio.sleep(3 * AUDIT)
        assert e.statuses == [before]
        assert (runtime.started, reasons(events)) == (["main"], [])


async def test_a_second_container_of_the_same_run_is_removed_and_told(tmp_path: Path) -> None:
    runtime = BadRuntime()
    async with engine_on(tmp_path, runtime) as (e, events):
        await e.engine.create_pod(pod())
        await settle()
        first = runtime.running("main")
        runtime.add("double", **first.labels)
        await asyncio.sleep(3 * AUDIT)
        assert set(runtime.instances) == {first.id}
        assert ("UnknownContainer", "Container double is none of this pod's runs and is removed") in events
        assert (e.status.phase, e.main.restart_count) == ("Running", 0)


async def test_a_container_of_no_pod_is_removed_by_the_audit(tmp_path: Path) -> None:
    runtime = BadRuntime()
    async with engine_on(tmp_path, runtime) as (e, _):
        await e.engine.create_pod(pod())
        await settle()
        runtime.add("stray", uid="nobody", container="main", attempt="0")
        await asyncio.sleep(3 * AUDIT)
        assert set(runtime.instances) == {runtime.running("main").id}


async def test_a_start_whose_answer_is_lost_is_no_stray(tmp_path: Path) -> None:
    runtime = BadRuntime()
    runtime.lost.add("main")
    runtime.hangs = []
    async with engine_on(tmp_path, runtime) as (e, events):
        await e.engine.create_pod(pod())
        await asyncio.sleep(3 * AUDIT)
        assert (runtime.started, e.status.phase) == (["main"], "Running")
        assert "UnknownContainer" not in reasons(events)


async def test_a_checkpoint_that_cannot_be_written_is_told_and_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: PodCheckpoints, uid: str, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    runtime = BadRuntime()
    async with engine_on(tmp_path, runtime) as (e, events):
        await e.engine.create_pod(pod())
        await settle()
        with monkeypatch.context() as patched:
            patched.setattr(PodCheckpoints, "save", full)
            runtime.end("main", 1)
            await asyncio.sleep(5)
            assert ("FailedCheckpoint", "Failed to write the pod's checkpoint: No space left on device") in events
            assert (e.status.phase, e.main.restart_count) == ("Running", 1)
        await asyncio.sleep(70)
        before = e.status
    async with engine_on(tmp_path, runtime) as (e, _):
        await settle()
        assert e.statuses == [before]


async def test_a_pod_that_is_adopted_amid_its_post_start_hook_runs_it_no_second_time(tmp_path: Path) -> None:
    runtime = BadRuntime()
    one = pod()
    one.spec.containers[0].lifecycle = Lifecycle(post_start=LifecycleHandler(sleep=SleepAction(seconds=600)))
    async with engine_on(tmp_path, runtime) as (e, _):
        await e.engine.create_pod(one)
        await asyncio.sleep(30)
        assert e.status.phase == "Pending"
    async with engine_on(tmp_path, runtime) as (e, _):
        await settle()
        assert (e.status.phase, e.main.ready) == ("Running", True)
    assert runtime.started == ["main"]


async def test_a_pod_that_is_adopted_amid_its_pre_stop_hook_gets_what_is_left_of_its_grace(tmp_path: Path) -> None:
    runtime = BadRuntime()
    one = pod(grace=60)
    one.spec.containers[0].lifecycle = Lifecycle(pre_stop=LifecycleHandler(sleep=SleepAction(seconds=600)))
    async with engine_on(tmp_path, runtime) as (e, _):
        await e.engine.create_pod(one)
        await settle()
        await e.engine.delete_pod(one)
        await asyncio.sleep(40)
        assert runtime.signals == []
    async with engine_on(tmp_path, runtime) as (e, _):
        await asyncio.sleep(15)
        assert runtime.signals == []
        await asyncio.sleep(20)
        assert [number for _, number in runtime.signals][:1] == [15]
        assert await e.engine.get_pods() == []


async def test_termination_messages_of_all_containers_of_a_pod_have_12_kib_together(tmp_path: Path) -> None:
    runtime = BadRuntime()
    names = [f"c{number}" for number in range(6)]
    one = pod("Never")
    one.spec.containers = [Container(name=name, image="i") for name in names]
    async with engine_on(tmp_path, runtime) as (e, _):
        await e.engine.create_pod(one)
        await settle()
        for name in names:
            held = runtime.running(name)
            ended = ContainerExit(1, runtime.clock.now(), message="é" * 4096)
            runtime.instances[held.id] = replace(held, exit=ended)
            runtime.exited(held.id, ended)
        await settle()
        messages = [
            status.state.terminated.message or ""
            for status in e.status.container_statuses or ()
            if status.state is not None and status.state.terminated is not None
        ]
    assert [len(message.encode()) for message in messages] == [2048] * 6
    assert all(set(message) == {"é"} for message in messages)

"""The engine with a runtime that has sandboxes: what pods' networks bring, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock
from tests.runtime.replay_runtime import ReplayRuntime
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import Container, Pod, PodDNSConfig, PodSpec, PodStatus
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.pod_engine import PodEngine

pytestmark = [pytest.mark.looptime, pytest.mark.may_block]


#: A container that ends when it is asked to.
OBEDIENT = 'trap "exit 0" TERM; while :; do sleep 0.1; done'


def pod(script: str = "sleep 600", **spec: Any) -> Pod:
    container = Container(name="main", image="busybox:1.29", command=["sh", "-c", script])
    meta = ObjectMeta(name="p", namespace="default", uid="u")
    return Pod(metadata=meta, spec=PodSpec(containers=[container], **spec))


@pytest.mark.parametrize(("nameservers", "told"), [(1, []), (4, ["DNSConfigForming"])])
async def test_more_nameservers_than_a_resolver_takes_are_told_on_the_pod(
    tmp_path: Path, nameservers: int, told: list[str]
) -> None:
    reasons: list[str] = []

    def record(key: PodKey, event_type: str, reason: str, message: str, *, field_path: str | None = None) -> None:
        reasons.append(reason)

    runtime = ReplayRuntime(LoopClock(), {})
    given = replace(context(tmp_path, clock=runtime.clock), record_event=record)
    dns = PodDNSConfig(nameservers=[f"10.0.0.{number}" for number in range(nameservers)])
    async with PodEngine(runtime, given, EngineOptions(directory=tmp_path / "pods")) as engine:
        await engine.create_pod(pod(dns_config=dns))
        async with asyncio.timeout(60):
            while "Started" not in reasons:
                await asyncio.sleep(0.1)
    assert [reason for reason in reasons if "DNS" in reason] == told


class SlowRuntime(ReplayRuntime):
    """Its first removal of a sandbox fails, the second takes five seconds."""

    refusing = 1

    async def remove_sandbox(self, sandbox_id: str) -> None:
        if self.refusing:
            self.refusing -= 1
            raise ConnectionError("the runtime has no time for it")
        await asyncio.sleep(5)
        await super().remove_sandbox(sandbox_id)

    @property
    def clear(self) -> bool:
        return self.sandbox is None and not self.instances


async def until_running(engine: PodEngine, runtime: ReplayRuntime, one: Pod) -> None:
    await engine.create_pod(one)
    async with asyncio.timeout(60):
        while not runtime.instances:
            await asyncio.sleep(0.1)


async def test_the_end_of_a_deleted_pod_is_told_when_the_runtime_is_clear_of_it(tmp_path: Path) -> None:
    """With it the object goes, and a node that stops then leaves nothing behind: as a kubelet, whose sandbox goes first."""
    runtime = SlowRuntime(LoopClock(), {})
    ends: list[bool] = []

    def told(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        states = [one.state for one in status.container_statuses or ()]
        if any(state is not None and state.terminated is not None for state in states):
            ends.append(runtime.clear)

    given = context(tmp_path, clock=runtime.clock)
    async with PodEngine(runtime, given, EngineOptions(directory=tmp_path / "pods")) as engine:
        engine.notify_pods(told)
        one = pod(OBEDIENT, termination_grace_period_seconds=30)
        await until_running(engine, runtime, one)
        await engine.delete_pod(one)
        async with asyncio.timeout(60):
            while await engine.get_pod(PodKey.of(one)) is not None:
                await asyncio.sleep(0.1)
    assert ends == [True]


async def test_the_end_of_a_deleted_pod_is_told_within_its_time_whatever_the_runtime_does(tmp_path: Path) -> None:
    runtime = SlowRuntime(LoopClock(), {})
    runtime.refusing = 1000
    phases: list[tuple[float, str | None]] = []

    def told(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        phases.append((runtime.clock.monotonic(), status.phase))

    given = context(tmp_path, clock=runtime.clock)
    async with PodEngine(runtime, given, EngineOptions(directory=tmp_path / "pods")) as engine:
        engine.notify_pods(told)
        one = pod(termination_grace_period_seconds=2)
        await until_running(engine, runtime, one)
        begun = runtime.clock.monotonic()
        await engine.delete_pod(one)
        await asyncio.sleep(60)
        at, phase = phases[-1]
        assert phase == "Failed"
        assert at - begun < 4
        runtime.refusing = 0


async def test_an_engine_that_is_left_ends_what_is_deleted_and_has_no_time_left(tmp_path: Path) -> None:
    """The object of a pod that is deleted by force is gone at once."""
    runtime = SlowRuntime(LoopClock(), {})
    given = context(tmp_path, clock=runtime.clock)
    async with PodEngine(runtime, given, EngineOptions(directory=tmp_path / "pods")) as engine:
        one = pod()
        await until_running(engine, runtime, one)
        one.metadata.deletion_grace_period_seconds = 0
        await engine.delete_pod(one)
    assert runtime.clear


async def test_an_engine_that_is_left_leaves_what_has_time(tmp_path: Path) -> None:
    runtime = SlowRuntime(LoopClock(), {})
    given = context(tmp_path, clock=runtime.clock)
    async with PodEngine(runtime, given, EngineOptions(directory=tmp_path / "pods")) as engine:
        one = pod(termination_grace_period_seconds=600)
        await until_running(engine, runtime, one)
        await engine.delete_pod(one)
    assert not runtime.clear

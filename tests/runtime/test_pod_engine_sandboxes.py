"""The engine with a runtime that has sandboxes: what pods' networks bring, in virtual time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock
from tests.runtime.replay_runtime import ReplayRuntime
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import Container, Pod, PodDNSConfig, PodSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.pod_engine import PodEngine

pytestmark = [pytest.mark.looptime, pytest.mark.may_block]


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
    container = Container(name="main", image="busybox:1.29", command=["sh", "-c", "sleep 600"])
    pod = Pod(
        metadata=ObjectMeta(name="p", namespace="default", uid="u"),
        spec=PodSpec(containers=[container], dns_config=dns),
    )
    async with PodEngine(runtime, given, EngineOptions(directory=tmp_path / "pods")) as engine:
        await engine.create_pod(pod)
        async with asyncio.timeout(60):
            while "Started" not in reasons:
                await asyncio.sleep(0.1)
    assert [reason for reason in reasons if "DNS" in reason] == told

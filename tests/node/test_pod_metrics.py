"""What the pod controller's metrics say: how many pods wait, for how long, and how long the work took."""

from __future__ import annotations

import asyncio

import pytest

from tests.node.pod_api import NotifyingProvider, PodApi, pod
from tests.node.test_pod_controller import controlled, settle, until
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.telemetry.metrics import Metrics

pytestmark = pytest.mark.looptime


class Slow(NotifyingProvider):
    def __init__(self) -> None:
        super().__init__()
        self.hold = asyncio.Event()

    async def create_pod(self, pod: Pod) -> None:
        await self.hold.wait()
        await super().create_pod(pod)


async def test_the_queue_is_counted_and_timed_and_is_empty_again_in_the_end() -> None:
    api, provider, metrics = PodApi(), Slow(), Metrics()
    async with controlled(api, provider, workers=1, metrics=metrics):
        for number in range(3):
            api.put_pod(pod(f"p{number}"))
        await settle()
        shown = metrics.exposition().decode()
        assert "virtual_kubelet_pod_queue_depth 2.0" in shown
        assert "virtual_kubelet_pods_syncing 1.0" in shown
        assert "virtual_kubelet_pods 3.0" in shown
        provider.hold.set()
        await until(lambda: "virtual_kubelet_pod_queue_depth 0.0" in metrics.exposition().decode())
        await settle()
    shown = metrics.exposition().decode()
    assert 'virtual_kubelet_pod_sync_duration_seconds_count{result="ok"}' in shown
    assert 'virtual_kubelet_provider_call_duration_seconds_count{call="create_pod",result="ok"} 3.0' in shown
    assert metrics.registry.get_sample_value("virtual_kubelet_pod_queue_duration_seconds_count") >= 3  # type: ignore[operator]

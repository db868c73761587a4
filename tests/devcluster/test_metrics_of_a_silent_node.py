"""What ``kubectl top`` says of a node that answers no longer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import prometheus_client.parser  # noqa: F401 (is read from disk when it is first needed: not while the loop is watched)
import pytest

from tests.devcluster.clients import Api
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.devcluster.node_proxy import NodeProxy
from virtual_kubelet.devcluster.statuses import StatusError

NODE = "/apis/metrics.k8s.io/v1beta1/nodes/quiet"


class LaterClock:
    """The machine's clocks, and some seconds more."""

    def __init__(self) -> None:
        self.later = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.later


async def test_the_last_samples_of_a_silent_node_are_shown_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, asked = True, 0

    async def read(self: NodeProxy, node: str, path: str, *, most_bytes: int) -> str:
        nonlocal asked
        asked += 1
        if not answers:
            raise StatusError(503, "ServiceUnavailable", "no answer")
        lines = (
            f"node_cpu_usage_seconds_total {asked} {asked}000",
            f"node_memory_working_set_bytes 1048576 {asked}000",
        )
        return "\n".join(lines) + "\n"

    monkeypatch.setattr(NodeProxy, "read", read)
    clock = LaterClock()
    async with DevCluster(scheduler=False, clock=clock) as cluster, await Api.of(cluster) as api:
        assert (await api.send("POST", "/api/v1/nodes", {"metadata": {"name": "quiet"}})).status == 201
        fresh = await api.send("GET", NODE)
        assert (fresh.status, fresh.body["usage"]) == (200, {"cpu": "1000000000n", "memory": "1024Ki"})
        answers = False
        clock.later = 30
        kept = await api.send("GET", NODE)
        assert (kept.status, kept.body, asked) == (200, fresh.body, 3)
        clock.later = 3600
        gone = await api.send("GET", NODE)
        assert (gone.status, asked) == (404, 4)

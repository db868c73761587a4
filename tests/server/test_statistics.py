"""Statistics of the node and its pods, beyond what was recorded: failures, what is left out, what metrics-server reads."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.server.recorded_node import SilentProvider
from tests.server.test_kubelet_api import RUNNING, Make, ask, make, pod, some_context, text
from virtual_kubelet.errors import ProviderError, UnsupportedError
from virtual_kubelet.objects.stats_v1alpha1 import (
    ContainerStats,
    CPUStats,
    FsStats,
    InterfaceStats,
    MemoryStats,
    NetworkStats,
    NodeStats,
    PodReference,
    PodStats,
    ProcessStats,
    RlimitStats,
    RuntimeStats,
    Summary,
)

__all__ = ["make", "some_context"]  # fixtures

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
CPU = CPUStats(time=NOW, usage_nano_cores=250_000_000, usage_core_nano_seconds=1_500_000_000)
MEMORY = MemoryStats(time=NOW, usage_bytes=3_000_000, working_set_bytes=2_000_000, rss_bytes=1_000_000)
NETWORK = NetworkStats(
    time=NOW, name="eth0", rx_bytes=1, tx_bytes=2, interfaces=[InterfaceStats(name="eth0", rx_bytes=1, tx_bytes=2)]
)
FS = FsStats(time=NOW, used_bytes=9)


def summary() -> Summary:
    container = ContainerStats(name="main", start_time=NOW, cpu=CPU, memory=MEMORY, rootfs=FS, logs=FS)
    unknown = ContainerStats(name="new", start_time=datetime(1970, 1, 1, tzinfo=UTC))
    return Summary(
        node=NodeStats(
            node_name="node-1",
            start_time=NOW,
            system_containers=[container],
            cpu=CPU,
            memory=MEMORY,
            network=NETWORK,
            fs=FS,
            runtime=RuntimeStats(image_fs=FS),
            rlimit=RlimitStats(time=NOW, maxpid=1, curproc=1),
        ),
        pods=[
            PodStats(
                pod_ref=PodReference(name="web", namespace="ns", uid="uid-web"),
                start_time=NOW,
                containers=[container, unknown],
                cpu=CPU,
                memory=MEMORY,
                network=NETWORK,
                ephemeral_storage=FS,
                process_stats=ProcessStats(process_count=3),
            )
        ],
    )


class Counting(SilentProvider):
    """Its statistics are ``answer``; if that is an error, it is raised."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer
        self.asked: list[bool] = []

    async def get_stats_summary(self, *, only_cpu_and_memory: bool) -> Summary:
        self.asked.append(only_cpu_and_memory)
        if isinstance(self.answer, Exception):
            raise self.answer
        if self.answer is None:
            await asyncio.Event().wait()
        return self.answer  # type: ignore[no-any-return]


@pytest.mark.parametrize("target", ["/stats/summary", "/metrics/resource", "/metrics/cadvisor"])
@pytest.mark.parametrize(
    ("provider", "words"),
    [
        (SilentProvider(), "the provider of this node does not offer statistics"),
        (Counting(UnsupportedError("no statistics from this backend")), "no statistics from this backend"),
        (Counting(UnsupportedError()), "the provider of this node does not offer this"),
    ],
)
async def test_a_provider_without_statistics_is_501(make: Make, provider: Any, words: str, target: str) -> None:
    response = await ask(make(provider), target)
    assert (response.status, await text(response)) == (501, words)


async def test_the_whole_summary_has_all_parts_with_times_in_seconds(make: Make) -> None:
    provider = Counting(summary())
    response = await ask(make(provider), "/stats/summary")
    shown = json.loads(await text(response))
    assert provider.asked == [False]
    assert shown["node"]["nodeName"] == "node-1"
    assert set(shown["node"]) == {
        "nodeName", "systemContainers", "startTime", "cpu", "memory", "network", "fs", "runtime", "rlimit"
    }  # fmt: skip
    assert shown["node"]["cpu"] == {
        "time": "2026-01-02T03:04:05Z",
        "usageNanoCores": 250_000_000,
        "usageCoreNanoSeconds": 1_500_000_000,
    }
    (web,) = shown["pods"]
    assert web["podRef"] == {"name": "web", "namespace": "ns", "uid": "uid-web"}
    assert web["startTime"] == "2026-01-02T03:04:05Z"
    assert web["ephemeral-storage"] == {"time": "2026-01-02T03:04:05Z", "usedBytes": 9}
    assert web["process_stats"] == {"process_count": 3}
    assert set(web["containers"][0]) == {"name", "startTime", "cpu", "memory", "rootfs", "logs"}
    assert web["containers"][1] == {"name": "new", "startTime": "1970-01-01T00:00:00Z"}


@pytest.mark.parametrize("value", ["true", "1", "yes", "T"])
async def test_with_only_cpu_and_memory_the_rest_is_left_out(make: Make, value: str) -> None:
    provider = Counting(summary())
    shown = json.loads(await text(await ask(make(provider), f"/stats/summary?only_cpu_and_memory={value}")))
    assert provider.asked == [True]
    assert set(shown["node"]) == {"nodeName", "systemContainers", "startTime", "cpu", "memory"}
    assert set(shown["pods"][0]) == {"podRef", "startTime", "containers", "cpu", "memory"}
    for container in (shown["pods"][0]["containers"][0], shown["node"]["systemContainers"][0]):
        assert set(container) == {"name", "startTime", "cpu", "memory"}


@pytest.mark.parametrize("value", ["", "false", "0", "False"])
async def test_only_cpu_and_memory_may_be_declined(make: Make, value: str) -> None:
    provider = Counting(summary())
    await text(await ask(make(provider), f"/stats/summary?only_cpu_and_memory={value}"))
    assert provider.asked == [False]


async def test_a_name_that_looks_like_a_time_stays_as_it_is(make: Make) -> None:
    told = summary()
    told.node.node_name = '"time":"2026-01-02T03:04:05.678Z"'
    shown = json.loads(await text(await ask(make(Counting(told)), "/stats/summary")))
    assert shown["node"]["nodeName"] == told.node.node_name


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ProviderError("the backend is away"), "Internal Error: the backend is away"),
        (None, "Internal Error: the provider did not answer in time"),
    ],
)
async def test_a_provider_that_fails_is_500_but_a_scrape_says_so_itself(make: Make, answer: Any, words: str) -> None:
    server = make(Counting(answer))
    for target in ("/stats/summary", "/metrics/cadvisor"):
        response = await ask(server, target)
        assert (response.status, await text(response)) == (500, words)
    response = await ask(server, "/metrics/resource")
    assert response.status == 200
    assert (await text(response)).endswith("\nresource_scrape_error 1\n")
    assert "container_" not in await text(await ask(server, "/metrics/resource"))


async def test_a_provider_that_gives_nonsense_is_500(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    response = await ask(make(Counting({"node": 1})), "/stats/summary")
    assert response.status == 500
    assert "get_stats_summary returned a dict, not a Summary" in caplog.text


async def test_resource_metrics_have_what_is_known_with_its_time(make: Make) -> None:
    provider = Counting(summary())
    shown = await text(await ask(make(provider), "/metrics/resource"))
    assert provider.asked == [True]
    assert 'container_cpu_usage_seconds_total{container="main",namespace="ns",pod="web"} 1.5 1767323045678\n' in shown
    assert 'pod_memory_working_set_bytes{namespace="ns",pod="web"} 2e+06 1767323045678\n' in shown
    assert "node_cpu_usage_seconds_total 1.5 1767323045678\n" in shown
    assert "swap" not in shown  # unknown is not 0
    assert 'container="new"' not in shown
    names = [family.name for family in text_string_to_metric_families(shown)]
    assert names == sorted(names)


async def test_cadvisor_metrics_carry_images_and_networks_but_nothing_made_up(make: Make) -> None:
    web = pod("web", main=RUNNING)
    web.spec.containers[0].image = "busybox:1.29"
    shown = await text(await ask(make(Counting(summary()), [web]), "/metrics/cadvisor"))
    labels = 'image="busybox:1.29",namespace="ns",pod="web"'
    assert f'container_cpu_usage_seconds_total{{container="main",cpu="total",{labels}}} 1.5 1767323045678\n' in shown
    assert f'container_memory_rss{{container="main",{labels}}} 1e+06 1767323045678\n' in shown
    network = 'container_network_receive_bytes_total{interface="eth0",namespace="ns",pod="web"} 1 1767323045678\n'
    assert network in shown
    assert "_errors_total" not in shown
    assert ' name="' not in shown
    assert 'id="' not in shown
    assert len(list(text_string_to_metric_families(shown))) == 7


async def test_statistics_of_many_pods_leave_others_their_turn(make: Make) -> None:
    told = summary()
    told.pods = [
        msgspec.structs.replace(told.pods[0], pod_ref=PodReference(name=f"p{number}", namespace="ns", uid="u"))
        for number in range(2000)
    ]
    server = make(Counting(told))
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    try:
        shown = await text(await ask(server, "/metrics/resource"))
    finally:
        task.cancel()
    assert shown.count('pod="p1999"') == 5
    assert turns > 10

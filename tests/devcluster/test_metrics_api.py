"""``kubectl top`` on the dev cluster: real kubectl, a real node, a provider whose pods use what they say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.contract.commands import Kubectl
from tests.contract.scenarios import eventually, pod_on
from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.kubelet import Kubelet, KubeletConfig
from virtual_kubelet.objects.core_v1 import Node, Pod, PodStatus
from virtual_kubelet.objects.stats_v1alpha1 import (
    ContainerStats,
    CPUStats,
    MemoryStats,
    NodeStats,
    PodReference,
    PodStats,
    Summary,
)

STARTED = (datetime.now(UTC) - timedelta(minutes=1)).replace(microsecond=0)


def cpu(cores: float) -> CPUStats:
    """A constant load: the counter is what its own time says."""
    now = datetime.now(UTC)
    now = now.replace(microsecond=now.microsecond // 1000 * 1000)  # all that the metrics text can say
    return CPUStats(time=now, usage_core_nano_seconds=round((now - STARTED).total_seconds() * cores * 1e9))


def memory(mebibytes: int) -> MemoryStats:
    return MemoryStats(time=datetime.now(UTC), working_set_bytes=mebibytes * 2**20)


class Steady:
    """A node of 2 CPUs that uses half of one; each container a quarter of one and 64 MiB."""

    def __init__(self, context: ProviderContext) -> None:
        self.node_name = context.node_name
        self.pods: dict[PodKey, Pod] = {}

    def configure_node(self, node: Node) -> None:
        node.status.capacity = node.status.allocatable = {"cpu": "2", "memory": "1Gi", "pods": "10"}

    async def create_pod(self, pod: Pod) -> None:
        self.pods[PodKey.of(pod)] = pod

    async def update_pod(self, pod: Pod) -> None:
        self.pods[PodKey.of(pod)] = pod

    async def delete_pod(self, pod: Pod) -> None:
        self.pods.pop(PodKey.of(pod), None)

    async def get_pod(self, key: PodKey) -> Pod | None:
        return self.pods.get(key)

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        return PodStatus(phase="Running") if key in self.pods else None

    async def get_pods(self) -> Sequence[Pod]:
        return list(self.pods.values())

    async def get_stats_summary(self, *, only_cpu_and_memory: bool) -> Summary:
        def container(name: str) -> ContainerStats:
            return ContainerStats(name=name, start_time=STARTED, cpu=cpu(0.25), memory=memory(64))

        return Summary(
            node=NodeStats(node_name=self.node_name, start_time=STARTED, cpu=cpu(0.5), memory=memory(512)),
            pods=[
                PodStats(
                    pod_ref=PodReference(name=key.name, namespace=key.namespace, uid=key.uid),
                    start_time=STARTED,
                    containers=[container(c.name) for c in pod.spec.containers],
                )
                for key, pod in self.pods.items()
            ],
        )


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    """Of a dev cluster with the node ``steady`` and the pod ``p`` on it."""
    async with DevCluster() as cluster:
        files = {"admin": cluster.kubeconfig(), "node": cluster.node_kubeconfig("steady")}
        for name, text in files.items():
            await asyncio.to_thread((tmp_path / name).write_text, text)
        config = KubeletConfig(
            provider=Steady,
            node_name="steady",
            client_config=load_kubeconfig(tmp_path / "node"),
            listen_host="127.0.0.1",
            listen_port=0,
            state_directory=tmp_path / "state",
        )
        kubelet = Kubelet(config)
        node = asyncio.create_task(kubelet.run())
        try:
            await kubelet.wait_ready(60)
            async with ApiClient(load_kubeconfig(tmp_path / "admin")) as admin:
                await admin.create(PODS, pod_on("steady", "p"), "default")

                async def running() -> bool:
                    return (await admin.get(PODS, "p", "default")).status.phase == "Running"

                await eventually(running)
            yield Kubectl(tmp_path / "admin")
        finally:
            node.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await node


async def test_kubectl_top_shows_what_nodes_pods_and_containers_use(kubectl: Kubectl) -> None:
    top = (await kubectl("top", "node")).out.replace("501m", "500m").splitlines()  # kubectl rounds a nanosecond up
    assert [line.split() for line in top[1:]] == [["steady", "500m", "25%", "512Mi", "50%"]]
    top = (await kubectl("top", "pod")).out.replace("251m", "250m").splitlines()
    assert [line.split() for line in top[1:]] == [["p", "250m", "64Mi"]]
    top = (await kubectl("top", "pod", "--containers", "-A")).out.replace("251m", "250m").splitlines()
    assert [line.split() for line in top[1:]] == [["default", "p", "main", "250m", "64Mi"]]
    assert (await kubectl("top", "pod", "-l", "app=other")).out == ""


async def test_what_is_not_there_or_not_measured_is_404(kubectl: Kubectl) -> None:
    refused = await kubectl("top", "pod", "other", code=1)
    assert refused.err == 'Error from server (NotFound): podmetrics.metrics.k8s.io "default/other" not found\n'
    refused = await kubectl("top", "node", "other", code=1)
    assert "not found" in refused.err


async def test_it_is_discovered_and_read_only(kubectl: Kubectl) -> None:
    listed = (await kubectl("api-resources", "--api-group=metrics.k8s.io", "--no-headers")).out.splitlines()
    assert [line.split() for line in listed] == [
        ["nodes", "metrics.k8s.io/v1beta1", "false", "NodeMetrics"],
        ["pods", "metrics.k8s.io/v1beta1", "true", "PodMetrics"],
    ]
    refused = await kubectl("delete", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes/steady", code=1)
    assert "MethodNotAllowed" in refused.err

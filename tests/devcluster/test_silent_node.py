"""A real node that the cluster hears no more of, and that comes back: its taints go, its pods stay."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.contract.scenarios import eventually
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.devcluster.faults import Fault
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import NODES, PODS
from virtual_kubelet.kubelet import Kubelet, KubeletConfig
from virtual_kubelet.objects.core_v1 import Container, Pod, PodSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta


@pytest.mark.timeout(240)  # it waits for a grace period and back-offs
async def test_a_node_that_is_cut_off_is_unknown_and_ready_again_when_it_is_heard(tmp_path: Path) -> None:
    async with DevCluster(node_monitor_grace_period=8.0) as cluster:
        for name, text in (("admin", cluster.kubeconfig()), ("node", cluster.node_kubeconfig("n1"))):
            (tmp_path / name).write_text(text)
        config = KubeletConfig(
            node_name="n1",
            provider="mock",
            client_config=load_kubeconfig(tmp_path / "node"),
            state_directory=tmp_path / "state",
            listen_host="127.0.0.1",
            listen_port=0,
            lease_duration=8,
            ping_interval=2.0,
            status_update_interval=1.0,
        )
        async with ApiClient(load_kubeconfig(tmp_path / "admin")) as admin:
            await _outage(cluster, admin, Kubelet(config))


async def _outage(cluster: DevCluster, admin: ApiClient, kubelet: Kubelet) -> None:
    async def ready() -> str:
        node = await admin.get(NODES, "n1")
        return next(c.status for c in node.status.conditions or () if c.type == "Ready") or ""

    async def taints() -> list[str]:
        return [taint.key or "" for taint in (await admin.get(NODES, "n1")).spec.taints or ()]

    running = asyncio.create_task(kubelet.run())
    try:
        await kubelet.wait_ready()
        pod = Pod(
            metadata=ObjectMeta(name="p", namespace="default"),
            spec=PodSpec(containers=[Container(name="c", image="x")]),
        )
        created = await admin.create(PODS, pod, "default")

        async def is_running() -> bool:
            return (await admin.get(PODS, "p", "default")).status.phase == "Running"

        await eventually(is_running)
        with cluster.faults.during(Fault.status(503), user="system:node:n1"):
            await eventually(lambda: _is(ready, "Unknown"))
            assert "node.kubernetes.io/unreachable" in await taints()
        await eventually(lambda: _is(ready, "True"))
        await eventually(lambda: _none(taints))
        after = await admin.get(PODS, "p", "default")
        assert after.metadata.uid == created.metadata.uid
        assert after.metadata.deletion_timestamp is None
    finally:
        running.cancel()
        await asyncio.wait({running})


async def _is(ask: Callable[[], Awaitable[str]], wanted: str) -> bool:
    return await ask() == wanted


async def _none(ask: Callable[[], Awaitable[list[str]]]) -> bool:
    return not await ask()

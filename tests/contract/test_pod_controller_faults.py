"""PodController while the API server drops, refuses, stalls and forgets: by faults of the dev cluster, or by a proxy that
cuts every connection, which a real server can be put behind too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.contract.api_servers import ApiServer, DevApiServer
from tests.contract.cutting_proxy import CuttingProxy
from tests.contract.pod_controllers import Cluster, controlled
from tests.contract.scenarios import eventually, pod_on
from tests.node.pod_api import NotifyingProvider, running
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.devcluster import DevCluster, Fault
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import NODES
from virtual_kubelet.objects.core_v1 import Node
from virtual_kubelet.objects.meta_v1 import ObjectMeta


@pytest.fixture
def provider() -> NotifyingProvider:
    return NotifyingProvider()


@pytest.fixture
def cluster(admin: ApiClient, namespace: str) -> Cluster:
    return Cluster(admin, namespace)


class TestOnAnyServer:
    @pytest.fixture
    async def proxy(self, api_server: ApiServer) -> AsyncIterator[CuttingProxy]:
        url = json.loads(api_server.admin_kubeconfig())["clusters"][0]["cluster"]["server"]
        async with CuttingProxy(int(url.rpartition(":")[2])) as proxy:
            yield proxy

    @pytest.fixture
    async def cut_client(
        self, api_server: ApiServer, proxy: CuttingProxy, node_name: str, kubeconfig_file: Callable[[str], Path]
    ) -> AsyncIterator[ApiClient]:
        config = json.loads(api_server.node_kubeconfig(node_name))
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{proxy.port}"
        async with ApiClient(load_kubeconfig(kubeconfig_file(json.dumps(config)))) as client:
            yield client

    async def test_an_api_server_that_is_away_costs_no_pod_and_loses_no_change(
        self,
        cluster: Cluster,
        proxy: CuttingProxy,
        cut_client: ApiClient,
        registered_node: Node,
        node_name: str,
        provider: NotifyingProvider,
    ) -> None:
        """Invariant 8: as if it were restarted. Whatever happened meanwhile is done afterwards."""
        async with controlled(cut_client, node_name, provider):
            stays = await cluster.create(pod_on(node_name, "stays"))
            goes = await cluster.create(pod_on(node_name, "goes"))
            ends = await cluster.create(pod_on(node_name, "ends"))
            for name in ("stays", "goes", "ends"):
                await cluster.runs(name)
            proxy.cut()
            await cluster.create(pod_on(node_name, "comes"))
            await cluster.delete("goes", 0)
            again = await cluster.create(pod_on(node_name, "goes"))
            await cluster.delete("ends")
            provider.report(PodKey.of(stays), running(stays, message="meanwhile"))
            await asyncio.sleep(0.5)  # tries that must fail
            proxy.mend()
            await cluster.runs("comes", seconds=40)
            await cluster.becomes(
                "goes", lambda p: p.status.phase == "Running" and p.metadata.uid == again.metadata.uid
            )
            await cluster.is_gone("ends")
            await cluster.becomes("stays", lambda p: p.status.message == "meanwhile", seconds=40)
            assert {(key.name, key.uid) for key in provider.pods} >= {
                ("stays", stays.metadata.uid),
                ("goes", again.metadata.uid),
            }
            assert PodKey.of(goes) not in provider.pods
            assert PodKey.of(ends) not in provider.pods
            assert provider.count("create", "stays") == 1
            assert provider.count("delete", "stays") == 0


class TestOnTheDevCluster:
    @pytest.fixture
    async def api_server(self) -> AsyncIterator[ApiServer]:
        async with DevCluster(bookmark_interval=1.0) as cluster:
            yield DevApiServer(cluster)

    @pytest.fixture
    async def dev(self, api_server: DevApiServer, admin: ApiClient, node_name: str) -> DevCluster:
        await admin.create(NODES, Node(metadata=ObjectMeta(name=node_name)))
        return api_server.cluster

    @pytest.mark.parametrize("how", ["drop", "expire", "malform", "compact", "drop and compact"])
    async def test_a_watch_that_breaks_misses_no_pod_and_touches_none(
        self,
        dev: DevCluster,
        cluster: Cluster,
        node_client: ApiClient,
        node_name: str,
        provider: NotifyingProvider,
        how: str,
    ) -> None:
        """410 in both forms, connections that end, lines that are no JSON."""
        async with controlled(node_client, node_name, provider):
            await cluster.create(pod_on(node_name, "before"))
            await cluster.create(pod_on(node_name, "goes"))
            await cluster.runs("before")
            await cluster.runs("goes")
            if "compact" in how:
                dev.faults.compact("pods")
            if "drop" in how:
                assert dev.faults.drop_watches("pods") == 1
            if how == "expire":
                assert dev.faults.expire_watches("pods") == 1
            if how == "malform":
                assert dev.faults.malform_watches("pods") == 1
            await cluster.delete("goes", 0)
            await cluster.create(pod_on(node_name, "after"))
            await cluster.runs("after")
            await eventually(lambda: {key.name for key in provider.pods} == {"before", "after"})
            assert provider.count("create", "before") == 1
            assert provider.count("delete", "before") == 0

    async def test_a_pod_made_anew_while_nobody_watched_is_another_pod(
        self, dev: DevCluster, cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
    ) -> None:
        """Upstream takes the two for one if their specs are the same."""
        async with controlled(node_client, node_name, provider):
            old = await cluster.create(pod_on(node_name, "p"))
            await cluster.runs("p")
            with dev.faults.during(Fault.status(500), verb="watch", resource="pods"):
                dev.faults.drop_watches("pods")
                dev.faults.compact("pods")
                await cluster.delete("p", 0)
                new = await cluster.create(pod_on(node_name, "p"))
            await cluster.runs("p", seconds=40)
            assert set(provider.pods) == {PodKey.of(new)}
            deleted = [one for one in provider.given if one.metadata.uid == old.metadata.uid]
            assert deleted[-1].metadata.deletion_grace_period_seconds == 0

    @pytest.mark.parametrize(
        "fault",
        [
            Fault.status(429, retry_after=1),
            Fault.status(500),
            Fault.status(503),
            Fault.status(409),
            Fault.drop(),
            Fault.lose_answer(),
            Fault.delay(0.3),
        ],
        ids=["429", "500", "503", "409", "drop", "lost answer", "slow"],
    )
    @pytest.mark.parametrize("write", ["status", "delete", "event"])
    async def test_a_write_that_fails_is_made_good(
        self,
        dev: DevCluster,
        cluster: Cluster,
        node_client: ApiClient,
        node_name: str,
        provider: NotifyingProvider,
        fault: Fault,
        write: str,
    ) -> None:
        user = f"system:node:{node_name}"
        where = {"status": ("patch", "pods/status"), "delete": ("delete", "pods"), "event": ("create", "events")}
        verb, resource = where[write]
        injected = dev.faults.add(fault, verb=verb, resource=resource, user=user, times=2)
        async with controlled(node_client, node_name, provider):
            await cluster.create(pod_on(node_name, "p"))
            await cluster.runs("p")
            await cluster.delete("p")
            await cluster.is_gone("p")
            await eventually(lambda: not provider.pods)
            await eventually(lambda: injected.met >= 1)
            # Whatever was lost, the next pod is not held up by it.
            await cluster.create(pod_on(node_name, "next"))
            await cluster.runs("next")
            assert await cluster.event("ProviderCreateSuccess", "next")

    @pytest.mark.parametrize("verb", ["list", "watch"])
    @pytest.mark.parametrize(
        "fault", [Fault.status(429, retry_after=1), Fault.status(500), Fault.drop()], ids=["429", "500", "drop"]
    )
    async def test_a_start_in_trouble_becomes_ready_and_takes_no_partial_list_for_the_truth(
        self,
        dev: DevCluster,
        cluster: Cluster,
        node_client: ApiClient,
        node_name: str,
        provider: NotifyingProvider,
        verb: str,
        fault: Fault,
    ) -> None:
        one = await cluster.create(pod_on(node_name, "p"))
        provider.pods[PodKey.of(one)], provider.statuses[PodKey.of(one)] = one, running(one)
        dev.faults.add(fault, verb=verb, resource="pods", user=f"system:node:{node_name}", times=2)
        async with controlled(node_client, node_name, provider):
            await cluster.create(pod_on(node_name, "next"))
            await cluster.runs("next")
            assert provider.count("delete", "p") == 0
            assert PodKey.of(one) in provider.pods

    async def test_a_status_that_is_forbidden_does_not_keep_a_pod_from_being_deleted(
        self, dev: DevCluster, cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
    ) -> None:
        user = f"system:node:{node_name}"
        async with controlled(node_client, node_name, provider):
            await cluster.create(pod_on(node_name, "p"))
            await cluster.runs("p")
            with dev.faults.during(Fault.status(403), verb="patch", resource="pods/status", user=user):
                await cluster.delete("p")
                await cluster.is_gone("p")
                await eventually(lambda: not provider.pods)

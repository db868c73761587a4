"""Pods bound by hand that do not fit or suit the node: rejected with the node's own rights, on any server."""

from __future__ import annotations

import pytest

from tests.contract.pod_controllers import Cluster, controlled
from tests.contract.scenarios import pod_on
from tests.node.pod_api import NotifyingProvider
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import NODES
from virtual_kubelet.objects.core_v1 import Container, Node, Pod, ResourceRequirements
from virtual_kubelet.runtime.admission import NodeFacts


@pytest.fixture
def cluster(admin: ApiClient, namespace: str) -> Cluster:
    return Cluster(admin, namespace)


def asking(node: str, name: str, cpu: str) -> Pod:
    resources = ResourceRequirements(requests={"cpu": cpu})
    return pod_on(node, name, containers=[Container(name="main", image="busybox", resources=resources)])


async def test_what_does_not_fit_is_rejected_and_what_others_leave_is_taken(
    cluster: Cluster, node_client: ApiClient, registered_node: Node
) -> None:
    name, provider = registered_node.metadata.name or "", NotifyingProvider()
    facts = NodeFacts(name, {}, (), {"cpu": "2", "pods": "110"})
    async with controlled(node_client, name, provider, node=lambda: facts):
        await cluster.create(asking(name, "small", "1500m"))
        await cluster.runs("small")
        await cluster.create(asking(name, "large", "1"))
        rejected = await cluster.becomes("large", lambda pod: pod.status.phase == "Failed")
        why = "Node didn't have enough resource: cpu, requested: 1000, used: 1500, capacity: 2000"
        assert (rejected.status.reason, rejected.status.message) == ("OutOfcpu", f"Pod was rejected: {why}")
        assert rejected.status.start_time
        assert (await cluster.event("OutOfcpu", "large")).message == why
        await cluster.delete("small", 0)
        await cluster.is_gone("small")
        await cluster.create(asking(name, "next", "2"))
        await cluster.runs("next")
        assert provider.count("create", "large") == 0


async def test_labels_of_the_real_node_count(
    cluster: Cluster, admin: ApiClient, node_client: ApiClient, registered_node: Node
) -> None:
    name, provider = registered_node.metadata.name or "", NotifyingProvider()
    async with controlled(node_client, name, provider, node=lambda: NodeFacts(name, {}, (), {})):
        await cluster.create(pod_on(name, "early", node_selector={"disk": "ssd"}))
        await cluster.becomes("early", lambda pod: pod.status.reason == "NodeAffinity")
        await admin.patch(NODES, name, {"metadata": {"labels": {"disk": "ssd"}}})
        await cluster.create(pod_on(name, "late", node_selector={"disk": "ssd"}))
        await cluster.runs("late")

"""NodeController against an API server, with the node's own identity: node authorizer and NodeRestriction are on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.contract.scenarios import eventually
from virtual_kubelet.contracts.nodes import NaiveNodeProvider
from virtual_kubelet.errors import ForbiddenError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.events import EventRecorder
from virtual_kubelet.kube.resources import EVENTS, LEASES, NODES
from virtual_kubelet.node.node_controller import NodeController
from virtual_kubelet.node.node_template import default_node, system_information
from virtual_kubelet.node.registration import copy_node
from virtual_kubelet.objects.core_v1 import Node, NodeAddress, NodeCondition, Taint
from virtual_kubelet.objects.meta_v1 import OwnerReference
from virtual_kubelet.objects.times import parse_time

TAINT = Taint(key="virtual-kubelet.io/provider", value="mock", effect="NoSchedule")


class Backend(NaiveNodeProvider):
    error: Exception | None = None

    async def ping(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture
def node(node_name: str) -> Node:
    return default_node(
        node_name,
        system=system_information("v1.20.0-vk-test"),
        internal_ips=["10.0.0.1", "fd00::1"],
        daemon_port=10250,
        taints=[TAINT],
        capacity={"cpu": "4000m", "memory": "8Gi", "pods": "110"},
    )


@asynccontextmanager
async def running(
    client: ApiClient, node: Node, backend: Backend | None = None, **options: Any
) -> AsyncIterator[NodeController]:
    """A node that runs as long as the block does."""
    recorder = EventRecorder(client, component="virtual-kubelet", host=node.metadata.name or "")
    controller = NodeController(backend or Backend(), node, client, recorder=recorder, **options)
    async with asyncio.timeout(50):
        tasks = [asyncio.create_task(controller.run()), asyncio.create_task(recorder.run())]
        try:
            await controller.wait_reported_ready()
            yield controller
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results), results


def condition(node: Node, kind: str = "Ready") -> NodeCondition:
    return next(c for c in node.status.conditions or [] if c.type == kind)


def our_taints(node: Node) -> list[Taint]:
    return [t for t in node.spec.taints or [] if not t.key.startswith("node.kubernetes.io/")]


async def settled(admin: ApiClient, name: str) -> None:
    """Until the node life cycle controller has taken its taints off a node that became Ready.

    It replaces the list of taints without looking whether that is still the one it read; what others added meanwhile is
    lost then, on a real control plane too.
    """
    await node_becomes(admin, name, lambda n: our_taints(n) == (n.spec.taints or []))


def has_cpu(cpu: str) -> Callable[[Node], bool]:
    return lambda node: (node.status.capacity or {}).get("cpu") == cpu


async def node_becomes(admin: ApiClient, name: str, holds: Callable[[Node], object]) -> Node:
    async def check() -> Node | None:
        found = await admin.get(NODES, name)
        return found if holds(found) else None

    result = await eventually(check)
    assert isinstance(result, Node)
    return result


async def test_a_node_registers_with_its_own_identity(
    admin: ApiClient, node_client: ApiClient, node: Node, node_name: str
) -> None:
    async with running(node_client, node):
        there = await admin.get(NODES, node_name)
        assert our_taints(there) == [TAINT]
        labels = there.metadata.labels or {}
        assert labels["node.kubernetes.io/exclude-from-external-load-balancers"] == "true"
        assert labels["type"] == "virtual-kubelet"
        assert "kubernetes.io/role" not in labels  # NodeRestriction
        assert condition(there).status == "True"
        assert there.status.addresses == node.status.addresses
        assert there.status.allocatable == {"cpu": "4", "memory": "8Gi", "pods": "110"}
        assert there.status.node_info == node.status.node_info

        async def refusal() -> object:
            events = await admin.list(EVENTS, "default", field_selector=f"involvedObject.name={node_name}")
            return [e.message for e in events.items if e.reason == "NodeUpdateRefused"]

        messages = await eventually(refusal)
        assert isinstance(messages, list)
        assert len(messages) == 1
        assert "kubernetes.io/role" in messages[0]


async def test_the_lease_is_renewed_and_owned_by_the_node(
    admin: ApiClient, node_client: ApiClient, node: Node, node_name: str
) -> None:
    """[TestEnvtest/E2ERunWithLeases] Exactly one owner reference: the node's name and UID."""
    async with running(node_client, node, lease_renew_interval=0.2):
        there = await admin.get(NODES, node_name)
        first = await eventually_lease(admin, node_name, "")
        assert first.metadata.owner_references == [
            OwnerReference(api_version="v1", kind="Node", name=node_name, uid=there.metadata.uid or "")
        ]
        assert (first.spec.holder_identity, first.spec.lease_duration_seconds) == (node_name, 40)
        assert first.spec.renew_time is not None
        later = await eventually_lease(admin, node_name, first.spec.renew_time)
        assert parse_time(later.spec.renew_time or "") > parse_time(first.spec.renew_time)


async def eventually_lease(admin: ApiClient, name: str, renewed_after: str) -> Any:
    async def check() -> object:
        leases = (await admin.list(LEASES, "kube-node-lease", field_selector=f"metadata.name={name}")).items
        return next((found for found in leases if (found.spec.renew_time or "") > renewed_after), None)

    return await eventually(check)


async def test_what_others_wrote_stays_and_what_we_dropped_goes(
    admin: ApiClient, node_client: ApiClient, node: Node, node_name: str
) -> None:
    """[TestManualConditionsPreserved, TestBeforeAnnotationsPreserved] Also over a restart."""
    backend = Backend()
    more = copy_node(node)
    more.metadata.annotations = {"example.com/ours": "1"}
    assert more.metadata.labels is not None
    more.metadata.labels["example.com/ours"] = "1"
    assert more.status.conditions is not None
    more.status.conditions.append(NodeCondition(type="Ours", status="True"))
    more.status.capacity = {"cpu": "4", "example.com/ours": "1"}
    async with running(node_client, more, backend):
        await settled(admin, node_name)
        await admin.patch(
            NODES, node_name,
            {"metadata": {"labels": {"theirs": "1"}, "annotations": {"theirs": "1"}},
             "spec": {"taints": [*({"key": t.key, "value": t.value, "effect": t.effect} for t in [TAINT]),
                                 {"key": "theirs", "effect": "NoExecute"}]}},
        )  # fmt: skip
        await admin.patch(
            NODES, node_name,
            {"status": {"conditions": [{"type": "KernelDeadlock", "status": "False"}],
                        "addresses": [{"type": "ExternalIP", "address": "192.0.2.1"}],
                        "capacity": {"example.com/theirs": "2"}}},
            subresource="status",
        )  # fmt: skip
        changed = copy_node(more)
        changed.status.addresses = [NodeAddress(type="InternalIP", address="10.0.0.2")]
        backend.update_status(changed)
        there = await node_becomes(admin, node_name, lambda n: (n.status.addresses or [])[0].address == "10.0.0.2")
        assert condition(there, "Ours").status == "True"
    async with running(node_client, node):
        there = await admin.get(NODES, node_name)
    labels, annotations = there.metadata.labels or {}, there.metadata.annotations or {}
    assert labels["theirs"] == annotations["theirs"] == "1"
    assert "example.com/ours" not in labels
    assert "example.com/ours" not in annotations
    assert [t.key for t in our_taints(there)] == [TAINT.key, "theirs"]
    types = [c.type for c in there.status.conditions or []]
    assert "KernelDeadlock" in types
    assert "Ours" not in types
    assert [(a.type, a.address) for a in there.status.addresses or []] == [
        ("InternalIP", "10.0.0.1"),
        ("InternalIP", "fd00::1"),
        ("Hostname", node_name),
        ("ExternalIP", "192.0.2.1"),
    ]
    capacity = there.status.capacity or {}
    assert capacity["example.com/theirs"] == "2"
    assert "example.com/ours" not in capacity


async def test_taints_are_changed_where_the_rights_allow_it(admin: ApiClient, node: Node, node_name: str) -> None:
    backend = Backend()
    async with running(admin, node, backend):
        await settled(admin, node_name)
        changed = copy_node(node)
        changed.spec.taints = [Taint(key="example.com/new", effect="NoSchedule")]
        backend.update_status(changed)
        there = await node_becomes(admin, node_name, lambda n: [t.key for t in our_taints(n)] == ["example.com/new"])
        assert (there.metadata.labels or {})["kubernetes.io/role"] == "agent"


async def test_changed_taints_of_a_node_identity_are_refused_once_and_the_rest_goes_on(
    admin: ApiClient, node_client: ApiClient, node: Node, node_name: str
) -> None:
    backend = Backend()
    async with running(node_client, node, backend):
        for cpu in ("5", "6", "7"):
            changed = copy_node(node)
            changed.spec.taints = [Taint(key="example.com/new", effect="NoSchedule")]
            changed.metadata.labels = {**(node.metadata.labels or {}), "example.com/cpu": cpu}
            changed.status.capacity = {"cpu": cpu}
            backend.update_status(changed)
            there = await node_becomes(admin, node_name, has_cpu(cpu))
            assert our_taints(there) == [TAINT]
            assert (there.metadata.labels or {})["example.com/cpu"] == cpu

        async def refusals() -> object:
            events = await admin.list(EVENTS, "default", field_selector=f"involvedObject.name={node_name}")
            return [e for e in events.items if e.reason == "NodeUpdateRefused" and "taints" in (e.message or "")]

        found = await eventually(refusals)
        assert isinstance(found, list)
        assert [(e.type, e.count or 1) for e in found] == [("Warning", 1)]


async def test_a_deleted_node_comes_back_with_its_taint_and_its_lease(
    admin: ApiClient, node_client: ApiClient, node: Node, node_name: str
) -> None:
    async with running(node_client, node, lease_renew_interval=0.5):
        first = await admin.get(NODES, node_name)
        await admin.delete(NODES, node_name)

        async def back() -> Node | None:
            nodes = (await admin.list(NODES, field_selector=f"metadata.name={node_name}")).items
            return next((n for n in nodes if n.metadata.uid != first.metadata.uid), None)

        there = await eventually(back)
        assert isinstance(there, Node)
        assert our_taints(there) == [TAINT]
        await node_becomes(admin, node_name, lambda n: condition(n).status == "True")

        async def owned() -> bool:
            leases = (await admin.list(LEASES, "kube-node-lease", field_selector=f"metadata.name={node_name}")).items
            return [o.uid for le in leases for o in le.metadata.owner_references or []] == [there.metadata.uid]

        await eventually(owned)


async def test_a_failing_ping_is_seen_in_the_cluster_and_so_is_its_end(
    admin: ApiClient, node_client: ApiClient, node: Node, node_name: str
) -> None:
    backend = Backend()
    async with running(node_client, node, backend, ping_interval=0.1):
        backend.error = ConnectionError("the backend is away")
        there = await node_becomes(admin, node_name, lambda n: condition(n).status == "False")
        assert condition(there).reason == "ProviderPingFailed"
        assert condition(there).message == "ConnectionError: the backend is away"
        backend.error = None
        await node_becomes(admin, node_name, lambda n: condition(n).status == "True")


async def test_a_restart_moves_no_transition_time(
    admin: ApiClient, node_client: ApiClient, node: Node, node_name: str
) -> None:
    def transitions(found: Node) -> dict[str, str | None]:
        return {c.type: c.last_transition_time for c in found.status.conditions or []}

    async with running(node_client, node):
        before = await admin.get(NODES, node_name)
    await asyncio.sleep(1.1)  # times in the API have whole seconds
    async with running(node_client, node):
        await node_becomes(
            admin, node_name,
            lambda n: condition(n).last_heartbeat_time != condition(before).last_heartbeat_time,
        )  # fmt: skip
        after = await admin.get(NODES, node_name)
    assert transitions(after) == transitions(before)
    assert after.metadata.uid == before.metadata.uid


async def test_stopping_can_cordon_and_say_so_and_a_start_takes_both_back(
    admin: ApiClient, node_client: ApiClient, node: Node, node_name: str
) -> None:
    async with running(node_client, node) as controller:
        await controller.cordon()
        await controller.mark_not_ready("NodeStopped", "the node was stopped")
        there = await admin.get(NODES, node_name)
        assert there.spec.unschedulable
        assert (condition(there).status, condition(there).reason) == ("False", "NodeStopped")
    async with running(node_client, node):
        there = await admin.get(NODES, node_name)
        assert not there.spec.unschedulable
        assert condition(there).status == "True"


async def test_a_node_may_delete_itself_only_with_the_right_to(
    admin: ApiClient, node_client: ApiClient, node: Node, node_name: str
) -> None:
    async with running(node_client, node) as controller:
        with pytest.raises(ForbiddenError):
            await controller.delete_node()
        assert await admin.get(NODES, node_name)
    async with running(admin, node) as controller:
        await controller.delete_node()
        await asyncio.sleep(0.5)  # nothing comes back
        assert (await admin.list(NODES, field_selector=f"metadata.name={node_name}")).items == []

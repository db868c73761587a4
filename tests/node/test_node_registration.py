"""What the API server does not let a node write is said once, and holds up nothing else."""

from __future__ import annotations

import pytest

from tests.node.node_api import Events, LoopClock, NodeApi, Request
from virtual_kubelet.errors import ApiNotFoundError, ConflictError, ForbiddenError, InvalidObjectError
from virtual_kubelet.node.node_status import complete_status
from virtual_kubelet.node.owned_names import LAST_APPLIED, names_of, parse_owned_names
from virtual_kubelet.node.registration import NodeRegistration, copy_node
from virtual_kubelet.objects.core_v1 import Node, NodeAddress, NodeCondition, Taint
from virtual_kubelet.objects.meta_v1 import ObjectMeta

pytestmark = pytest.mark.looptime

READY = NodeCondition(type="Ready", status="True")


@pytest.fixture
def registration(api: NodeApi, events: Events, node_clock: LoopClock) -> NodeRegistration:
    return NodeRegistration(api.client, "vk", clock=node_clock, recorder=events)


@pytest.fixture
def wanted(vk_node: Node) -> Node:
    complete_status(vk_node, READY)
    return vk_node


def capacity(api: NodeApi) -> dict[str, str]:
    return api.node().status.capacity or {}


def labels(api: NodeApi) -> dict[str, str]:
    return api.node().metadata.labels or {}


class TestNodeRestriction:
    """[C10; talos #6750: the whole update refused] A node's own identity: some labels never, taints only at first."""

    @pytest.fixture
    def api(self) -> NodeApi:
        return NodeApi(restricted=True)

    async def test_it_registers_with_its_taints_and_without_the_labels_that_are_not_allowed(
        self, api: NodeApi, registration: NodeRegistration, wanted: Node, events: Events
    ) -> None:
        assert (await registration.write(wanted, heartbeat=False)).created
        assert "kubernetes.io/role" not in labels(api)
        assert labels(api)["kubernetes.io/hostname"] == "vk"
        assert [t.key for t in api.node().spec.taints or []] == ["virtual-kubelet.io/provider"]
        assert events.reasons() == ["NodeUpdateRefused"]
        assert "kubernetes.io/role" in events.rows[0][2]

    async def test_what_is_refused_is_not_tried_again_and_not_said_again(
        self, api: NodeApi, registration: NodeRegistration, wanted: Node, events: Events
    ) -> None:
        await registration.write(wanted, heartbeat=False)
        del api.requests[:]
        for _ in range(5):
            await registration.write(wanted, heartbeat=False)
        assert {r.verb for r in api.requests} == {"get"}
        assert len(events.rows) == 1

    async def test_changed_taints_are_refused_while_all_else_is_written(
        self, api: NodeApi, registration: NodeRegistration, wanted: Node, events: Events
    ) -> None:
        await registration.write(wanted, heartbeat=False)
        changed = copy_node(wanted)
        assert changed.metadata.labels is not None
        changed.metadata.labels.update({"allowed": "1", "node-role.kubernetes.io/x": "1"})
        changed.metadata.annotations = {"note": "1"}
        changed.spec.taints = [Taint(key="new", effect="NoSchedule")]
        changed.status.capacity = {"cpu": "9"}
        await registration.write(changed, heartbeat=False)
        node = api.node()
        assert [t.key for t in node.spec.taints or []] == ["virtual-kubelet.io/provider"]
        assert labels(api)["allowed"] == "1"
        assert "node-role.kubernetes.io/x" not in labels(api)
        assert (node.metadata.annotations or {})["note"] == "1"
        assert capacity(api) == {"cpu": "9"}
        assert [(kind, reason) for kind, reason, _ in events.rows] == [
            ("Normal", "NodeUpdateRefused"),  # kubernetes.io/role, at first
            ("Warning", "NodeUpdateRefused"),  # taints
            ("Normal", "NodeUpdateRefused"),
        ]
        del api.requests[:]
        await registration.write(changed, heartbeat=False)
        assert {r.verb for r in api.requests} == {"get"}

    async def test_names_that_were_refused_are_not_on_record(
        self, api: NodeApi, registration: NodeRegistration, wanted: Node
    ) -> None:
        """Else an administrator's label of that name would go with the next start."""
        await registration.write(wanted, heartbeat=False)
        record = parse_owned_names((api.node().metadata.annotations or {})[LAST_APPLIED])
        assert record is not None
        assert "kubernetes.io/role" not in record.labels
        assert "type" in record.labels
        assert record.taints == ("virtual-kubelet.io/provider:NoSchedule",)

    async def test_an_adopted_node_is_written_as_far_as_allowed(
        self, api: NodeApi, registration: NodeRegistration, wanted: Node
    ) -> None:
        api.put("nodes", Node(metadata=ObjectMeta(name="vk")))
        await registration.write(wanted, heartbeat=True)
        assert labels(api)["type"] == "virtual-kubelet"
        assert not api.node().spec.taints
        assert api.condition("Ready") is not None
        record = parse_owned_names((api.node().metadata.annotations or {})[LAST_APPLIED])
        assert record is not None
        assert record.taints == ()

    async def test_what_an_administrator_sets_by_hand_is_no_difference(
        self, api: NodeApi, registration: NodeRegistration, wanted: Node
    ) -> None:
        await registration.write(wanted, heartbeat=False)
        api.edit({"metadata": {"labels": {"kubernetes.io/role": "agent"}}})
        del api.requests[:]
        await registration.write(wanted, heartbeat=False)
        without = copy_node(wanted)
        assert without.metadata.labels is not None
        del without.metadata.labels["kubernetes.io/role"]
        await registration.write(without, heartbeat=False)
        assert labels(api)["kubernetes.io/role"] == "agent"

    async def test_the_node_created_again_is_tried_in_full(
        self, api: NodeApi, registration: NodeRegistration, wanted: Node
    ) -> None:
        await registration.write(wanted, heartbeat=False)
        changed = copy_node(wanted)
        changed.spec.taints = [Taint(key="new", effect="NoSchedule")]
        await registration.write(changed, heartbeat=False)
        api.remove("nodes")
        assert (await registration.write(changed, heartbeat=False)).created
        assert [t.key for t in api.node().spec.taints or []] == ["new"]


async def test_a_refusal_that_labels_do_not_explain_is_raised(
    api: NodeApi, registration: NodeRegistration, wanted: Node
) -> None:
    """Never register without the taint: pods would come."""
    api.fault = lambda r: ForbiddenError(403, "Forbidden", "no") if r.verb == "create" else None
    with pytest.raises(ForbiddenError):
        await registration.write(wanted, heartbeat=False)
    assert not api.exists()


async def test_without_the_right_to_patch_nodes_the_status_is_still_written(
    api: NodeApi, registration: NodeRegistration, wanted: Node, events: Events
) -> None:
    """An identity with rights on nodes/status only."""

    def fault(request: Request) -> ForbiddenError | None:
        return (
            ForbiddenError(403, "Forbidden", "no") if (request.verb, request.subresource) == ("patch", None) else None
        )

    api.put("nodes", Node(metadata=ObjectMeta(name="vk")))
    api.fault = fault
    for cpu in ("1", "2", "3"):
        wanted.status.capacity = {"cpu": cpu}
        await registration.write(wanted, heartbeat=False)
        assert capacity(api) == {"cpu": cpu}
    refusals = len(api.seen("patch"))
    await registration.write(wanted, heartbeat=True)
    assert len(api.seen("patch")) == refusals
    assert len(events.rows) == 4  # taints, the two kinds of labels, annotations: each once


async def test_a_label_that_is_invalid_holds_up_neither_the_others_nor_the_status(
    api: NodeApi, registration: NodeRegistration, wanted: Node, events: Events
) -> None:
    """[B05; VK #938]"""
    await registration.write(wanted, heartbeat=False)
    assert wanted.metadata.labels is not None
    wanted.metadata.labels["node-role.kubernetes.io/bad"] = "in valid"
    wanted.metadata.labels["good"] = "1"
    wanted.status.capacity = {"cpu": "2"}
    await registration.write(wanted, heartbeat=False)
    assert labels(api)["good"] == "1"
    assert "node-role.kubernetes.io/bad" not in labels(api)
    assert capacity(api) == {"cpu": "2"}
    assert "cannot write its labels node-role.kubernetes.io/bad" in events.rows[0][2]


async def test_a_quantity_that_is_none_does_not_keep_the_node_from_being_ready(
    api: NodeApi, registration: NodeRegistration, wanted: Node, events: Events
) -> None:
    """[B05] Each field of the status on its own, conditions always."""
    api.put("nodes", Node(metadata=ObjectMeta(name="vk")))
    wanted.status.capacity = {"cpu": "nonsense"}
    wanted.status.phase = "Running"
    await registration.write(wanted, heartbeat=True)
    assert api.condition("Ready") is not None
    assert api.node().status.phase == "Running"
    assert api.node().status.addresses == wanted.status.addresses
    assert "status capacity" in events.rows[0][2]
    del api.requests[:]
    await registration.write(wanted, heartbeat=True)
    assert len(api.seen("patch", subresource="status")) == 1
    wanted.status.capacity = {"cpu": "4"}
    await registration.write(wanted, heartbeat=False)
    assert capacity(api) == {"cpu": "4"}


async def test_conditions_that_are_refused_are_an_error(
    api: NodeApi, registration: NodeRegistration, wanted: Node
) -> None:
    api.put("nodes", Node(metadata=ObjectMeta(name="vk")))
    refusal = InvalidObjectError(422, "Invalid", "bad")
    api.fault = lambda r: refusal if "conditions" in r.body.get("status", {}) else None
    with pytest.raises(InvalidObjectError):
        await registration.write(wanted, heartbeat=True)


async def test_a_dropped_condition_leaves_the_record_only_after_it_is_gone(
    api: NodeApi, registration: NodeRegistration, wanted: Node, events: Events, node_clock: LoopClock
) -> None:
    """[B07] A crash between two writes must not leave something of ours behind for ever."""
    assert wanted.status.conditions is not None
    wanted.status.conditions.append(NodeCondition(type="Extra", status="True"))
    await registration.write(wanted, heartbeat=False)
    wanted.status.conditions.pop()
    assert wanted.metadata.labels is not None
    wanted.metadata.labels["more"] = "1"

    class Crash(BaseException): ...

    def crash(request: Request) -> None:
        if request.verb == "patch" and request.subresource == "status":
            raise Crash

    api.fault = crash
    with pytest.raises(Crash):
        await registration.write(wanted, heartbeat=False)
    assert labels(api)["more"] == "1"
    assert api.condition("Extra") is not None
    api.fault = lambda request: None
    again = NodeRegistration(api.client, "vk", clock=node_clock, recorder=events)
    await again.write(wanted, heartbeat=False)
    assert api.condition("Extra") is None
    record = parse_owned_names((api.node().metadata.annotations or {})[LAST_APPLIED])
    assert record == names_of(wanted)


async def test_an_address_that_the_cloud_adds_meanwhile_stays(
    api: NodeApi, registration: NodeRegistration, wanted: Node
) -> None:
    """[B01]"""
    await registration.write(wanted, heartbeat=False)
    raced = False

    def race(request: Request) -> None:
        nonlocal raced
        if "addresses" in request.body.get("status", {}) and not raced:
            raced = True
            api.edit({"status": {"addresses": [{"type": "ExternalIP", "address": "192.0.2.1"}]}})

    api.fault = race
    wanted.status.addresses = [NodeAddress(type="InternalIP", address="10.0.0.2")]
    await registration.write(wanted, heartbeat=False)
    assert [(a.type, a.address) for a in api.node().status.addresses or []] == [
        ("InternalIP", "10.0.0.2"), ("ExternalIP", "192.0.2.1"),
    ]  # fmt: skip


async def test_a_record_that_somebody_broke_is_written_anew(
    api: NodeApi, registration: NodeRegistration, wanted: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """Upstream writes nothing any more until somebody repairs its annotation."""
    api.put("nodes", Node(metadata=ObjectMeta(name="vk", annotations={LAST_APPLIED: "{nonsense"})))
    await registration.write(wanted, heartbeat=False)
    assert parse_owned_names((api.node().metadata.annotations or {})[LAST_APPLIED]) == names_of(wanted)
    assert any(LAST_APPLIED in r.message for r in caplog.records)


async def test_conflicts_without_end_are_an_error(api: NodeApi, registration: NodeRegistration, wanted: Node) -> None:
    api.put("nodes", Node(metadata=ObjectMeta(name="vk")))

    def disturb(request: Request) -> None:
        if request.verb == "patch":
            api.edit({"metadata": {"labels": {"tick": str(len(api.requests))}}})

    api.fault = disturb
    with pytest.raises(ConflictError):
        await registration.write(wanted, heartbeat=False)
    assert len(api.seen("get")) == 5


async def test_update_node_status(api: NodeApi, registration: NodeRegistration, wanted: Node) -> None:
    """[TestUpdateNodeStatus] NotFound before it is created and after it is deleted; between, written as given."""
    with pytest.raises(ApiNotFoundError):
        await registration.write(wanted, heartbeat=True, create=False)
    await registration.write(wanted, heartbeat=False)
    wanted.status.phase = "Running"
    await registration.write(wanted, heartbeat=False, create=False)
    assert api.node().status.phase == "Running"
    api.remove("nodes")
    with pytest.raises(ApiNotFoundError):
        await registration.write(wanted, heartbeat=True, create=False)

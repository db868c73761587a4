"""What is changed in a Node's status, and what never is."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.node.node_patching import strategic_merge
from virtual_kubelet.node.node_status import complete_status, stamped_conditions, status_patch
from virtual_kubelet.node.owned_names import OwnedNames, names_of
from virtual_kubelet.objects.core_v1 import (
    ContainerImage,
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeCondition,
    NodeDaemonEndpoints,
    NodeStatus,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.objects.serialization import to_builtins
from virtual_kubelet.objects.strategic_merge import apply_strategic_merge_patch

NOW = "2026-01-01T00:01:00Z"
EARLIER = "2026-01-01T00:00:00Z"


def node(**status: Any) -> Node:
    return Node(metadata=ObjectMeta(name="vk", resource_version="7"), status=NodeStatus(**status))


def condition(kind: str, status: str = "True", **rest: Any) -> NodeCondition:
    return NodeCondition(type=kind, status=status, **rest)


def patched(current: Node, patch: dict[str, Any]) -> Node:
    wire = json.loads(json.dumps(patch))
    wire.pop("metadata", None)
    result = strategic_merge(to_builtins(current), wire, "Node")
    assert apply_strategic_merge_patch(to_builtins(current), wire, "Node") == result
    return msgspec.convert(result, Node)


def patch_of(owned: OwnedNames, desired: Node, current: Node, *, heartbeat: bool = False) -> dict[str, Any]:
    return status_patch(owned, desired, current, now=NOW, heartbeat=heartbeat)


def test_nothing_changed_is_no_patch() -> None:
    desired = node(conditions=[condition("Ready")], capacity={"cpu": "1"})
    current = node(conditions=[condition("Ready", last_transition_time=EARLIER)], capacity={"cpu": "1"})
    assert patch_of(names_of(desired), desired, current) == {}


def test_a_quantity_in_its_canonical_form_is_no_change() -> None:
    desired = node(capacity={"cpu": "1000m", "memory": "1024Mi", "x": "nonsense"})
    current = node(capacity={"cpu": "1", "memory": "1Gi", "x": "1"})
    assert patch_of(OwnedNames(), desired, current) == {"status": {"capacity": {"x": "nonsense"}}}


def test_a_heartbeat_writes_our_conditions_and_nothing_else() -> None:
    desired = node(conditions=[condition("Ready")], capacity={"cpu": "1"})
    current = node(
        conditions=[condition("Ready", last_transition_time=EARLIER), condition("KernelDeadlock", "False")],
        capacity={"cpu": "1"},
    )
    assert patch_of(names_of(desired), desired, current, heartbeat=True) == {
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": NOW, "lastTransitionTime": EARLIER}]
        }
    }


def test_the_transition_time_moves_only_with_the_status() -> None:
    there = [
        condition("Ready", "True", last_transition_time=EARLIER, reason="a"),
        condition("DiskPressure", "True", last_transition_time=EARLIER),
    ]
    ready, pressure, new = stamped_conditions(
        [condition("Ready", "True", reason="b"), condition("DiskPressure", "False"), condition("New")], there, NOW
    )
    assert (ready.last_transition_time, ready.reason) == (EARLIER, "b")
    assert pressure.last_transition_time == NOW
    assert new.last_transition_time == NOW
    assert {c.last_heartbeat_time for c in (ready, pressure, new)} == {NOW}


def test_a_provider_may_say_when_a_status_changed() -> None:
    (stamped,) = stamped_conditions([condition("X", last_transition_time="2025-12-31T23:00:00+01:00")], [], NOW)
    assert stamped.last_transition_time == "2025-12-31T22:00:00Z"


def test_a_transition_time_that_is_no_time_does_not_reach_the_server() -> None:
    (stamped,) = stamped_conditions([condition("X", last_transition_time="yesterday")], [], NOW)
    assert stamped.last_transition_time == NOW


def test_a_condition_of_ours_that_another_changed_is_asserted_again() -> None:
    """The node life cycle controller marks Ready Unknown while we were away (VK #899)."""
    desired = node(conditions=[condition("Ready", reason="KubeletReady", message="ok")])
    current = node(conditions=[condition("Ready", "Unknown", reason="NodeStatusUnknown", message="stopped")])
    result = patched(current, patch_of(names_of(desired), desired, current))
    assert result.status.conditions is not None
    (ready,) = result.status.conditions
    assert (ready.status, ready.reason, ready.message) == ("True", "KubeletReady", "ok")


def test_a_reason_that_is_no_longer_given_goes() -> None:
    desired = node(conditions=[condition("Ready")])
    current = node(conditions=[condition("Ready", reason="old", message="old")])
    result = patched(current, patch_of(names_of(desired), desired, current))
    assert result.status.conditions is not None
    assert (result.status.conditions[0].reason, result.status.conditions[0].message) == (None, None)


def test_two_addresses_of_one_type_are_written_as_they_are() -> None:
    ours = [NodeAddress(type="InternalIP", address="10.0.0.1"), NodeAddress(type="InternalIP", address="fd00::1")]
    current = node(
        addresses=[
            NodeAddress(type="InternalIP", address="10.0.0.9"),
            NodeAddress(type="ExternalIP", address="192.0.2.1"),
        ]
    )
    patch = patch_of(OwnedNames(), node(addresses=ours), current)
    assert patch["metadata"] == {"resourceVersion": "7"}
    assert patched(current, patch).status.addresses == [*ours, NodeAddress(type="ExternalIP", address="192.0.2.1")]


def test_addresses_in_an_order_of_others_are_left_alone() -> None:
    ours = [NodeAddress(type="InternalIP", address="10.0.0.1")]
    current = node(addresses=[NodeAddress(type="ExternalIP", address="192.0.2.1"), *ours])
    assert patch_of(OwnedNames(), node(addresses=ours), current) == {}


def test_a_field_that_is_no_longer_given_goes_and_those_of_others_stay() -> None:
    endpoint = NodeDaemonEndpoints(kubelet_endpoint=DaemonEndpoint(port=10250))
    before = node(daemon_endpoints=endpoint)
    current = node(daemon_endpoints=endpoint, phase="Running")
    result = patched(current, patch_of(names_of(before), node(), current))
    assert result.status.daemon_endpoints is None
    assert result.status.phase == "Running"


def test_ready_comes_first_and_replaces_what_the_node_said_of_it() -> None:
    desired = node(conditions=[condition("DiskPressure", "False"), condition("Ready", "False")], capacity={"cpu": "2"})
    complete_status(desired, condition("Ready"))
    assert [(c.type, c.status) for c in desired.status.conditions or []] == [
        ("Ready", "True"), ("DiskPressure", "False"),
    ]  # fmt: skip
    assert desired.status.allocatable == {"cpu": "2"}


def test_allocatable_of_the_provider_stays() -> None:
    desired = node(capacity={"cpu": "2"}, allocatable={"cpu": "1"})
    complete_status(desired, condition("Ready"))
    assert desired.status.allocatable == {"cpu": "1"}


def test_images_beyond_the_limit_are_not_named() -> None:
    """C09: the Node stays far below what etcd takes."""
    desired = node(images=[ContainerImage(names=[f"i{i}"]) for i in range(60)])
    complete_status(desired, condition("Ready"), image_limit=50)
    assert len(desired.status.images or []) == 50


names = st.sampled_from(["a", "b", "c", "d"])
values = st.sampled_from(["1", "2"])
statuses = st.builds(
    NodeStatus,
    conditions=st.dictionaries(names, values).map(lambda d: [condition(k, v, reason=v) for k, v in d.items()] or None),
    addresses=st.lists(st.builds(NodeAddress, type=names, address=values), unique_by=lambda a: (a.type, a.address)).map(
        lambda found: found or None
    ),
    capacity=st.dictionaries(names, values).map(lambda d: d or None),
    allocatable=st.dictionaries(names, values).map(lambda d: d or None),
    phase=st.sampled_from([None, "Running"]),
    daemon_endpoints=st.sampled_from(
        [None, NodeDaemonEndpoints(kubelet_endpoint=DaemonEndpoint(port=1))],
    ),
)


@given(before=statuses, desired=statuses, current=statuses, heartbeat=st.booleans())
def test_ours_is_there_what_we_dropped_is_gone_and_the_rest_is_untouched(
    before: NodeStatus, desired: NodeStatus, current: NodeStatus, heartbeat: bool
) -> None:
    """Three-way, whatever was there before: TestManualConditionsPreserved and TestBeforeAnnotationsPreserved at large."""
    meta = ObjectMeta(name="vk", resource_version="7")
    want, have = Node(metadata=meta, status=desired), Node(metadata=meta, status=current)
    owned = names_of(Node(status=before))
    result = patched(have, patch_of(owned, want, have, heartbeat=heartbeat)).status

    def conditions(status: NodeStatus) -> dict[str, str]:
        return {c.type: c.status for c in status.conditions or []}

    def addresses(status: NodeStatus) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for address in status.addresses or []:
            found.setdefault(address.type, []).append(address.address)
        return found

    def expected(ours: dict[str, Any], there: dict[str, Any], dropped: tuple[str, ...]) -> dict[str, Any]:
        return {**{k: v for k, v in there.items() if k not in dropped}, **ours}

    assert conditions(result) == expected(conditions(desired), conditions(current), owned.conditions)
    assert addresses(result) == expected(addresses(desired), addresses(current), owned.addresses)
    assert (result.capacity or {}) == expected(desired.capacity or {}, current.capacity or {}, owned.capacity)
    assert (result.allocatable or {}) == expected(
        desired.allocatable or {}, current.allocatable or {}, owned.allocatable
    )
    assert result.phase == (desired.phase or (None if "phase" in owned.fields else current.phase))
    there = Node(metadata=meta, status=result)
    assert patch_of(names_of(want), want, there) == {}

"""What is changed in a Node's labels, annotations, taints and spec, and what never is."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.node.node_patching import strategic_merge
from virtual_kubelet.node.node_metadata import metadata_change, taint_change
from virtual_kubelet.node.node_restriction import node_may_set_label
from virtual_kubelet.node.owned_names import LAST_APPLIED, OwnedNames, names_of, parse_owned_names, taint_name
from virtual_kubelet.objects.core_v1 import Node, NodeCondition, NodeSpec, NodeStatus, Taint
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.objects.serialization import to_builtins


def node(
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    taints: list[Taint] | None = None,
    **spec: Any,
) -> Node:
    meta = ObjectMeta(name="vk", labels=labels, annotations=annotations, resource_version="7")
    return Node(metadata=meta, spec=NodeSpec(taints=taints, **spec))


def patched(current: Node, patch: dict[str, Any]) -> Node:
    wire = json.loads(json.dumps(patch))
    return msgspec.convert(strategic_merge(to_builtins(current), wire, "Node"), Node)


def taint(key: str, value: str = "", effect: str = "NoSchedule", **rest: Any) -> Taint:
    return Taint(key=key, value=value or None, effect=effect, **rest)


def test_nothing_changed_is_no_patch() -> None:
    desired = node({"a": "1"}, {"b": "2"}, [taint("t")])
    names = names_of(desired)
    current = node({"a": "1", "x": "y"}, {"b": "2", LAST_APPLIED: names.format()}, [taint("other"), taint("t")])
    assert not metadata_change(names, desired, current, record=names)


def test_taints_are_written_as_a_whole_and_only_over_the_version_they_were_read_from() -> None:
    change = metadata_change(OwnedNames(), node(taints=[taint("t")]), node(), record=OwnedNames())
    patch = change.patch()
    assert patch["metadata"]["resourceVersion"] == "7"
    assert patch["spec"] == {"taints": [{"effect": "NoSchedule", "key": "t"}]}


def test_labels_alone_need_no_version() -> None:
    change = metadata_change(OwnedNames(), node({"a": "1"}), node(), record=OwnedNames())
    assert "resourceVersion" not in change.patch()["metadata"]


def test_a_taint_keeps_its_time_and_place_and_takes_our_value() -> None:
    """kosmos #622: own only the taints we set."""
    there = [
        taint("node.kubernetes.io/not-ready", effect="NoExecute", time_added="2026-01-01T00:00:00Z"),
        taint("same", time_added="2026-01-01T00:00:00Z"),
        taint("value", "old"),
        taint("dropped"),
    ]
    change = taint_change(
        ["same:NoSchedule", "value:NoSchedule", "dropped:NoSchedule"],
        [taint("new"), taint("value", "new"), taint("same")],
        there,
    )
    assert change == (there[0], there[1], taint("value", "new"), taint("new"))


def test_the_provider_id_is_set_once_and_never_changed() -> None:
    desired = node(provider_id="vk://a")
    record = names_of(desired)
    assert metadata_change(OwnedNames(), desired, node(), record=record).spec == {"providerID": "vk://a"}
    assert metadata_change(OwnedNames(), desired, node(provider_id="vk://b"), record=record).spec == {}


@pytest.mark.parametrize(
    ("ours_before", "wanted", "there", "spec"),
    [
        (False, True, False, {"unschedulable": True}),
        (False, True, True, {}),
        (True, False, True, {"unschedulable": None}),
        (False, False, True, {}),  # an operator's cordon is the operator's
        (True, False, False, {}),
    ],
)
def test_a_cordon_of_ours_is_taken_back_and_one_of_others_is_not(
    ours_before: bool, wanted: bool, there: bool, spec: dict[str, object]
) -> None:
    current = node(unschedulable=True if there else None)
    change = metadata_change(
        OwnedNames(unschedulable=ours_before), node(), current, record=OwnedNames(), cordoned=wanted
    )
    assert change.spec == spec


def test_the_record_is_small_and_the_same_names_give_the_same_text() -> None:
    """Upstream's two annotations double the object."""
    desired = node({"b": "1" * 1000, "a": "2"}, {LAST_APPLIED: "x"}, [taint("t", "v", "NoExecute")])
    desired.status = NodeStatus(conditions=[NodeCondition(type="Ready", status="True")], phase="Running")
    text = names_of(desired).format()
    assert json.loads(text) == {
        "labels": ["a", "b"],
        "taints": ["t:NoExecute"],
        "conditions": ["Ready"],
        "fields": ["phase"],
    }
    assert parse_owned_names(text) == names_of(desired)


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"labels": 3}'])
def test_a_record_that_makes_no_sense_is_none(text: str | None) -> None:
    assert parse_owned_names(text) is None


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("type", True),
        ("example.com/x", True),
        ("notkubernetes.io/x", True),
        ("kubernetes.io/hostname", True),
        ("kubernetes.io/os", True),
        ("topology.kubernetes.io/zone", True),
        ("node.kubernetes.io/exclude-from-external-load-balancers", True),
        ("x.kubelet.kubernetes.io/y", True),
        ("kubernetes.io/role", False),
        ("node-role.kubernetes.io/agent", False),
        ("node-restriction.kubernetes.io/x", False),
        ("alpha.service-controller.kubernetes.io/exclude-balancer", False),
        ("k8s.io/x", False),
    ],
)
def test_labels_that_a_node_identity_may_set(key: str, allowed: bool) -> None:
    assert node_may_set_label(key) is allowed


keys = st.sampled_from(["a", "b", "c", "d"])
maps = st.dictionaries(keys, st.sampled_from(["1", "2"]))
taint_lists = st.lists(
    st.builds(taint, keys, st.sampled_from(["1", "2"]), st.sampled_from(["NoSchedule", "NoExecute"])),
    unique_by=taint_name,
)
nodes = st.builds(node, maps, maps, taint_lists)


@given(before=nodes, desired=nodes, current=nodes)
def test_ours_is_there_what_we_dropped_is_gone_and_the_rest_is_untouched(
    before: Node, desired: Node, current: Node
) -> None:
    owned, record = names_of(before), names_of(desired)
    result = patched(current, metadata_change(owned, desired, current, record=record).patch())

    def expected(ours: dict[str, str] | None, there: dict[str, str] | None, dropped: tuple[str, ...]) -> object:
        return {**{k: v for k, v in (there or {}).items() if k not in dropped}, **(ours or {})}

    assert (result.metadata.labels or {}) == expected(desired.metadata.labels, current.metadata.labels, owned.labels)
    annotations = dict(result.metadata.annotations or {})
    assert parse_owned_names(annotations.pop(LAST_APPLIED)) == record
    assert annotations == expected(desired.metadata.annotations, current.metadata.annotations, owned.annotations)
    wanted = {taint_name(t): t.value for t in desired.spec.taints or []}
    kept = {taint_name(t): t.value for t in current.spec.taints or [] if taint_name(t) not in owned.taints}
    assert {taint_name(t): t.value for t in result.spec.taints or []} == {**kept, **wanted}
    result.metadata.resource_version = "8"
    assert not metadata_change(record, desired, result, record=record)

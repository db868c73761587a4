"""Strategic merge patches: directives, differences and the three-way merge, on real types."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtual_kubelet.objects.patches import PatchError
from virtual_kubelet.objects.strategic_merge import (
    apply_strategic_merge_patch,
    strategic_difference,
    three_way_merge_patch,
)

READY = {"type": "Ready", "status": "True"}
DISK = {"type": "DiskPressure", "status": "False"}


def status(**patch: Any) -> dict[str, Any]:
    """The status of a node with conditions Ready and DiskPressure after this patch of it."""
    node = {"status": {"conditions": [READY, DISK], "capacity": {"cpu": "4"}}}
    result: dict[str, Any] = apply_strategic_merge_patch(node, {"status": patch}, "Node")["status"]
    return result


def test_an_item_is_joined_by_its_merge_key() -> None:
    assert status(conditions=[{"type": "Ready", "reason": "KubeletReady"}])["conditions"] == [
        {"type": "Ready", "status": "True", "reason": "KubeletReady"},
        DISK,
    ]


def test_a_new_item_is_put_before_those_the_patch_does_not_name() -> None:
    assert status(conditions=[{"type": "New"}])["conditions"] == [{"type": "New"}, READY, DISK]
    assert status(conditions=[{"type": "New"}, DISK])["conditions"] == [{"type": "New"}, READY, DISK]
    assert status(conditions=[DISK, {"type": "New"}])["conditions"] == [READY, DISK, {"type": "New"}]


def test_an_item_is_deleted_by_directive_and_its_absence_is_no_error() -> None:
    gone = {"$patch": "delete", "type": "DiskPressure"}
    assert status(conditions=[gone])["conditions"] == [READY]
    assert status(conditions=[{"$patch": "delete", "type": "Other"}])["conditions"] == [READY, DISK]


def test_a_list_is_replaced_by_directive() -> None:
    assert status(conditions=[{"type": "New"}, {"$patch": "replace"}])["conditions"] == [{"type": "New"}]


def test_an_item_s_replace_directive_replaces_the_list_too() -> None:
    """As mergeSliceWithSpecialElements: an item with a directive is nothing else."""
    replaced = {"type": "Ready", "reason": "new", "$patch": "replace"}
    assert status(conditions=[replaced, {"type": "New"}])["conditions"] == [{"type": "New"}]


def test_a_map_is_replaced_or_emptied_by_directive_and_null_removes() -> None:
    assert status(capacity={"memory": "1", "$patch": "replace"})["capacity"] == {"memory": "1"}
    assert status(capacity={"$patch": "delete"})["capacity"] == {}
    assert status(capacity={"cpu": None, "pods": "1"})["capacity"] == {"pods": "1"}
    assert "capacity" not in status(capacity=None)


@pytest.mark.parametrize(
    "patch",
    [
        {"capacity": {"$patch": "often"}},
        {"conditions": [{"status": "True"}]},
        {"conditions": ["Ready"]},
        {"conditions": [{"type": "Ready", "$patch": "merge"}]},
    ],
)
def test_what_cannot_be_joined_is_refused(patch: dict[str, Any]) -> None:
    with pytest.raises(PatchError):
        status(**patch)
    with pytest.raises(PatchError):
        apply_strategic_merge_patch({}, ["no object"], "Node")


def test_a_refusal_shows_no_value() -> None:
    pod = {"spec": {"containers": [{"name": "c", "env": []}]}}
    patch = {"spec": {"containers": [{"name": "c", "env": [{"value": "planted-secret"}]}]}}
    with pytest.raises(PatchError, match=r"map of \['value'\] does not contain declared merge key: name") as caught:
        apply_strategic_merge_patch(pod, patch, "Pod")
    assert "planted" not in str(caught.value)


def test_a_list_without_a_merge_key_is_replaced() -> None:
    pod = {"spec": {"tolerations": [{"key": "a"}], "containers": [{"name": "c", "args": ["1", "2"]}]}}
    patch = {"spec": {"tolerations": [{"key": "b"}], "containers": [{"name": "c", "args": ["3"]}]}}
    assert apply_strategic_merge_patch(pod, patch, "Pod") == patch


def test_lists_of_scalars_that_merge_gain_and_lose_items() -> None:
    pod = {"metadata": {"finalizers": ["a/1", "b/2"]}}
    added = apply_strategic_merge_patch(pod, {"metadata": {"finalizers": ["c/3", "a/1"]}}, "Pod")
    assert added["metadata"]["finalizers"] == ["c/3", "a/1", "b/2"]
    fewer = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/1", "z/9"]}}
    assert apply_strategic_merge_patch(pod, fewer, "Pod")["metadata"]["finalizers"] == ["b/2"]


def test_retain_keys_clears_the_other_members_of_a_union() -> None:
    pod = {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}
    volume = {"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}
    result = apply_strategic_merge_patch(pod, {"spec": {"volumes": [volume]}}, "Pod")
    assert result == {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}}


def _containers(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


@pytest.mark.parametrize(
    ("live", "patch", "order", "result"),
    [
        ("abc", "", "cba", "cba"),
        ("ab", "c", "cab", "cab"),
        ("abc", "", "ca", "bca"),  # b, which only the server has, stood before c
        ("axb", "", "ab", "axb"),
        ("xab", "", "ba", "xba"),
        ("abx", "", "ba", "bax"),
        ("ab", "c", "c", "cab"),
        ("ab", "c", "ba", "bac"),
    ],
)
def test_set_element_order_places_named_items_and_leaves_the_server_s_among_them(
    live: str, patch: str, order: str, result: str
) -> None:
    pod = {"spec": {"containers": _containers(*live)}}
    change: dict[str, Any] = {"$setElementOrder/containers": _containers(*order)}
    if patch:
        change["containers"] = _containers(*patch)
    after = apply_strategic_merge_patch(pod, {"spec": change}, "Pod")
    assert "".join(item["name"] for item in after["spec"]["containers"]) == result
    assert list(after["spec"]) == ["containers"]


def test_set_element_order_of_scalars() -> None:
    pod = {"metadata": {"finalizers": ["a", "b"]}}
    change = {"metadata": {"finalizers": ["c"], "$setElementOrder/finalizers": ["c", "b", "a"]}}
    assert apply_strategic_merge_patch(pod, change, "Pod")["metadata"]["finalizers"] == ["c", "b", "a"]


def test_directives_of_a_new_object_do_not_get_into_it() -> None:
    change = {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name"], "emptyDir": {"medium": None}}]}}
    assert apply_strategic_merge_patch({}, change, "Pod") == {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}


def test_a_type_that_is_not_known_merges_as_json() -> None:
    assert apply_strategic_merge_patch({"a": {"b": 1}, "l": [1]}, {"a": {"c": 2}, "l": [2]}, "Unheard") == {
        "a": {"b": 1, "c": 2},
        "l": [2],
    }


# Two items of one key too (ports 53 of TCP and UDP), which the key does not tell apart.
texts = st.sampled_from(["a", "b", "c"])
ports = st.lists(
    st.fixed_dictionaries({"containerPort": st.integers(1, 2)}, optional={"name": texts, "protocol": texts}), max_size=3
)
variables = st.lists(
    st.fixed_dictionaries({"name": texts}, optional={"value": texts}),
    max_size=3,
    unique_by=lambda item: str(item["name"]),
)
containers = st.lists(
    st.fixed_dictionaries(
        {"name": texts},
        optional={
            "image": texts,
            "args": st.lists(texts, max_size=2),
            "ports": ports,
            "env": variables,
            "resources": st.fixed_dictionaries({}, optional={"limits": st.dictionaries(texts, texts, max_size=2)}),
        },
    ),
    max_size=3,
    unique_by=lambda item: str(item["name"]),
)
volumes = st.lists(
    st.fixed_dictionaries(
        {"name": texts}, optional={"emptyDir": st.just({}), "hostPath": st.fixed_dictionaries({"path": texts})}
    ),
    max_size=2,
    unique_by=lambda item: str(item["name"]),
)
pods = st.fixed_dictionaries(
    {},
    optional={
        "metadata": st.fixed_dictionaries(
            {},
            optional={
                "labels": st.dictionaries(texts, texts, max_size=2),
                "finalizers": st.lists(texts, max_size=3, unique=True),
            },
        ),
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": containers,
                "volumes": volumes,
                "nodeSelector": st.dictionaries(texts, texts, max_size=2),
                "tolerations": st.lists(st.fixed_dictionaries({}, optional={"key": texts}), max_size=2),
            },
        ),
        "unheard": st.one_of(texts, st.lists(texts, max_size=2), st.dictionaries(texts, texts, max_size=2)),
    },
)


def unordered(value: Any) -> Any:
    """Without the order of lists."""
    if isinstance(value, dict):
        return {key: unordered(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((unordered(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    return value


@given(pods, pods)
def test_a_difference_applied_is_the_new_object_up_to_the_order_of_lists(old: Any, new: Any) -> None:
    before = copy.deepcopy((old, new))
    patch = strategic_difference(old, new, "Pod")
    assert unordered(apply_strategic_merge_patch(old, patch, "Pod")) == unordered(new)
    assert (old, new) == before


def test_items_that_their_key_does_not_tell_apart_are_written_whole() -> None:
    """Port 53 of TCP and of UDP."""
    tcp, udp = ({"containerPort": 53, "protocol": protocol} for protocol in ("TCP", "UDP"))
    for one, other in ([[tcp], [tcp, udp]], [[tcp, udp], [udp]], [[udp, tcp], [tcp, udp]]):
        patch = strategic_difference({"ports": one}, {"ports": other}, "Container")
        assert apply_strategic_merge_patch({"ports": one}, patch, "Container") == {"ports": other}


@given(pods)
def test_an_object_does_not_differ_from_itself(pod: Any) -> None:
    assert strategic_difference(pod, pod, "Pod") == {}
    assert apply_strategic_merge_patch(pod, {}, "Pod") == pod


@given(pods, pods)
def test_a_patch_is_applied_once_and_changes_nothing_it_is_given(pod: Any, patch: Any) -> None:
    before = copy.deepcopy((pod, patch))
    once = apply_strategic_merge_patch(pod, patch, "Pod")
    assert (pod, patch) == before
    if not _has_twins(pod) and not _has_twins(patch):
        assert apply_strategic_merge_patch(once, patch, "Pod") == once


def _has_twins(pod: Any) -> bool:
    lists = [container.get("ports", []) for container in pod.get("spec", {}).get("containers", [])]
    return any(len({port["containerPort"] for port in items}) < len(items) for items in lists)


@given(pods, pods)
def test_a_three_way_merge_of_what_nobody_else_changed_is_the_modified_object(original: Any, modified: Any) -> None:
    if _has_twins(original) or _has_twins(modified):
        return
    patch = three_way_merge_patch(original, modified, original, "Pod")
    assert unordered(apply_strategic_merge_patch(original, patch, "Pod")) == unordered(modified)


@given(pods, pods, pods)
def test_a_three_way_merge_never_fails_and_comes_to_rest(original: Any, modified: Any, current: Any) -> None:
    before = copy.deepcopy((original, modified, current))
    patch = three_way_merge_patch(original, modified, current, "Pod")
    after = apply_strategic_merge_patch(current, patch, "Pod")
    assert (original, modified, current) == before
    if not any(map(_has_twins, before)):
        assert three_way_merge_patch(modified, modified, after, "Pod") == {}


def test_a_three_way_merge_keeps_what_others_wrote_and_removes_what_we_dropped() -> None:
    """Upstream's TestManualConditionsPreserved and TestBeforeAnnotationsPreserved."""
    original = {
        "metadata": {"annotations": {"ours": "1", "dropped": "1"}},
        "status": {"conditions": [READY, DISK]},
    }
    modified = {
        "metadata": {"annotations": {"ours": "2"}},
        "status": {"conditions": [{"type": "Ready", "status": "False"}]},
    }
    manual = {"type": "Manual", "status": "True"}
    current = {
        "metadata": {"annotations": {"ours": "1", "dropped": "1", "theirs": "1"}, "uid": "u"},
        "status": {"conditions": [READY, DISK, manual], "phase": "theirs"},
    }
    patch = three_way_merge_patch(original, modified, current, "Node")
    assert patch == {
        "metadata": {"annotations": {"ours": "2", "dropped": None}},
        "status": {
            "conditions": [{"type": "Ready", "status": "False"}, {"$patch": "delete", "type": "DiskPressure"}],
        },
    }
    assert apply_strategic_merge_patch(current, patch, "Node") == {
        "metadata": {"annotations": {"ours": "2", "theirs": "1"}, "uid": "u"},
        "status": {"conditions": [{"type": "Ready", "status": "False"}, manual], "phase": "theirs"},
    }


def _without_servers_part(node: dict[str, Any]) -> dict[str, Any]:
    metadata = {
        key: value for key, value in node["metadata"].items() if key not in ("resourceVersion", "managedFields")
    }
    return {**node, "metadata": metadata}


@pytest.mark.recording
def test_the_recorded_api_server_merges_a_node_s_status_alike(shared: Path) -> None:
    lines = (shared / "kubernetes-1.36/tapes/nodes.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    node = next(row for row in rows if row["note"] == "get")["response"]["body"]
    seen = 0
    for row in rows:
        request = row["request"]
        if request["headers"].get("Content-Type") != "application/strategic-merge-patch+json":
            continue
        if row["response"]["status"] != 200:
            continue
        patched = apply_strategic_merge_patch(node, request["body"], "Node")
        node = row["response"]["body"]
        assert patched["status"]["conditions"] == [
            {key: value for key, value in condition.items() if key in expected}
            for condition, expected in zip(node["status"]["conditions"], patched["status"]["conditions"], strict=True)
        ]
        assert {**patched["status"], "conditions": None} == {**node["status"], "conditions": None}
        assert _without_servers_part({**patched, "status": None}) == _without_servers_part({**node, "status": None})
        seen += 1
    assert seen == 3

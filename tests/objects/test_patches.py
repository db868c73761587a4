"""JSON merge patches (RFC 7386) and JSON patches (RFC 6902, its appendix A by name)."""

from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtual_kubelet.objects.patches import PatchError, apply_json_patch, apply_merge_patch

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3))
keys = st.text(alphabet="ab/~01", max_size=3)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_of_rfc_7386(target: Any, patch: Any, result: Any) -> None:
    assert apply_merge_patch(target, patch) == result


@given(documents, documents)
def test_a_merge_patch_changes_nothing_it_is_given_and_a_second_time_nothing_at_all(target: Any, patch: Any) -> None:
    before = copy.deepcopy((target, patch))
    once = apply_merge_patch(target, patch)
    assert apply_merge_patch(once, patch) == once
    assert (target, patch) == before


@pytest.mark.parametrize(
    ("target", "operations", "result"),
    [
        pytest.param(
            {"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}, id="A.1"
        ),
        pytest.param(
            {"foo": ["a", "b"]}, [{"op": "add", "path": "/foo/1", "value": "x"}], {"foo": ["a", "x", "b"]}, id="A.2"
        ),
        pytest.param({"a": 1, "b": 2}, [{"op": "remove", "path": "/b"}], {"a": 1}, id="A.3"),
        pytest.param({"foo": [1, 2, 3]}, [{"op": "remove", "path": "/foo/1"}], {"foo": [1, 3]}, id="A.4"),
        pytest.param({"a": 1, "b": 2}, [{"op": "replace", "path": "/a", "value": 3}], {"a": 3, "b": 2}, id="A.5"),
        pytest.param(
            {"foo": {"w": 1}, "qux": {}},
            [{"op": "move", "from": "/foo/w", "path": "/qux/t"}],
            {"foo": {}, "qux": {"t": 1}},
            id="A.6",
        ),
        pytest.param(
            {"foo": [1, 2, 3]}, [{"op": "move", "from": "/foo/1", "path": "/foo/2"}], {"foo": [1, 3, 2]}, id="A.7"
        ),
        pytest.param(
            {"baz": "qux", "foo": ["a", 2]},
            [{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}],
            {"baz": "qux", "foo": ["a", 2]},
            id="A.8",
        ),
        pytest.param(
            {"a": 1}, [{"op": "add", "path": "/child", "value": {"g": {}}}], {"a": 1, "child": {"g": {}}}, id="A.10"
        ),
        pytest.param({"a": 1}, [{"op": "add", "path": "/b", "value": 2, "xyz": 3}], {"a": 1, "b": 2}, id="A.11"),
        pytest.param({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}, id="A.14"),
        pytest.param(
            {"foo": ["a"]}, [{"op": "add", "path": "/foo/-", "value": ["b"]}], {"foo": ["a", ["b"]]}, id="A.16"
        ),
        pytest.param(
            {"a": {"b": [1]}},
            [{"op": "copy", "from": "/a", "path": "/c"}],
            {"a": {"b": [1]}, "c": {"b": [1]}},
            id="copy",
        ),
        pytest.param({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}, id="replace the whole"),
        pytest.param({"a": 1}, [{"op": "replace", "path": "/b", "value": 2}], {"a": 1, "b": 2}, id="replace nothing"),
        pytest.param({"a": 1}, [{"op": "copy", "from": "/b", "path": "/a"}], {"a": None}, id="copy nothing"),
        pytest.param([1, 2], [{"op": "remove", "path": "/-1"}], [1], id="the last one"),
        pytest.param([1, 2], [{"op": "add", "path": "/-1", "value": 3}], [1, 2, 3], id="behind the last one"),
        pytest.param([1, 2], [{"op": "replace", "path": "/+01", "value": 3}], [1, 3], id="an index as Go reads it"),
        pytest.param({"a": 1}, [{"op": "remove", "path": "x/a"}], {}, id="what stands before the first slash"),
        pytest.param(
            {"a": 1}, [{"op": "test", "path": "/b", "value": None}], {"a": 1}, id="what is absent tests as null"
        ),
        pytest.param({"a": 1}, [{"op": "move", "from": "/a", "path": "/a"}], {"a": 1}, id="move to itself"),
        pytest.param({"": {"": 1}}, [{"op": "replace", "path": "//", "value": 2}], {"": {"": 2}}, id="empty names"),
        pytest.param([1, 2], [{"op": "replace", "path": "/0", "value": 3}], [3, 2], id="replace in a list"),
    ],
)
def test_json_patches(target: Any, operations: Any, result: Any) -> None:
    before = copy.deepcopy((target, operations))
    assert apply_json_patch(target, operations) == result
    assert (target, operations) == before


@pytest.mark.parametrize(
    ("target", "operation"),
    [
        ({"baz": "qux"}, {"op": "test", "path": "/baz", "value": "bar"}),
        ({"/": 9, "~1": 10}, {"op": "test", "path": "/~01", "value": "10"}),
        ({"a": True}, {"op": "test", "path": "/a", "value": 1}),
        ({"a": 1}, {"op": "test", "path": "/a", "value": 1.0}),
        ({"a": 1}, {"op": "test", "path": "/b", "value": 1}),
        ({"a": 1}, {"op": "add", "path": "", "value": {}}),
        ({"a": 1}, {"op": "replace", "path": "", "value": 1}),
        ({"a": 1}, {"op": "copy", "from": "", "path": "/b"}),
        ({"a": [{"b": 0}]}, {"op": "test", "path": "/a", "value": [{"b": False}]}),
        ({"a": {"b": 1}}, {"op": "test", "path": "/a", "value": {"b": 1, "c": 2}}),
        ({"a": [1]}, {"op": "test", "path": "/a", "value": [1, 2]}),
        ({"foo": "bar"}, {"op": "add", "path": "/baz/bat", "value": "qux"}),
        ({"foo": "bar"}, {"op": "add", "path": "/foo/bat", "value": "qux"}),
        ({"foo": [1]}, {"op": "add", "path": "/foo/3", "value": 1}),
        ({"foo": [1]}, {"op": "add", "path": "/foo/x", "value": 1}),
        ({"foo": [1]}, {"op": "add", "path": "/foo/²", "value": 1}),
        ({"foo": [1]}, {"op": "add", "path": "/foo/" + "9" * 5000, "value": 1}),
        ({"foo": [1]}, {"op": "replace", "path": "/foo/-", "value": 1}),
        ({"foo": [1]}, {"op": "remove", "path": "/foo/1"}),
        ({"foo": [1]}, {"op": "remove", "path": "/foo/-2"}),
        ({"foo": 1}, {"op": "remove", "path": "/bar"}),
        ({"foo": 1}, {"op": "remove", "path": "/foo/bar"}),
        ({"foo": 1}, {"op": "remove", "path": ""}),
        ({"foo": 1}, {"op": "add", "path": "/bar"}),
        ({"foo": 1}, {"op": "add", "path": "bar", "value": 1}),
        ({"foo": 1}, {"op": "add", "value": 1}),
        ({"foo": 1}, {"op": "move", "path": "/a"}),
        ({"foo": {"a": 1}}, {"op": "move", "from": "/foo", "path": "/foo/a"}),
        ({"foo": 1}, {"op": "move", "from": "", "path": "/a"}),
        ({"foo": 1}, {"op": "merge", "path": "/a", "value": 1}),
        ({"foo": 1}, {"path": "/a"}),
        ({"foo": 1}, "add"),
    ],
)
def test_an_operation_that_does_not_fit_is_refused(target: Any, operation: Any) -> None:
    before = copy.deepcopy(target)
    with pytest.raises(PatchError):
        apply_json_patch(target, [{"op": "test", "path": "", "value": target}, operation])
    assert target == before


def test_more_operations_than_the_api_server_takes_are_refused() -> None:
    operation = {"op": "test", "path": "", "value": {}}
    assert apply_json_patch({}, [operation] * 10_000) == {}
    with pytest.raises(PatchError, match="the allowed maximum operations in a JSON patch is 10000, got 10001"):
        apply_json_patch({}, [operation] * 10_001)


def test_a_copy_is_one() -> None:
    value = {"list": [1]}
    operations: list[dict[str, Any]] = [
        {"op": "add", "path": "/a", "value": value},
        {"op": "copy", "from": "/a", "path": "/b"},
        {"op": "add", "path": "/a/list/-", "value": 2},
    ]
    assert apply_json_patch({}, operations) == {"a": {"list": [1, 2]}, "b": {"list": [1]}}
    assert value == {"list": [1]}


pointers = st.lists(st.one_of(keys, st.sampled_from(["a", "b", "0", "1", "-"])), max_size=3).map(
    lambda tokens: "".join("/" + token for token in tokens)
)
operations_of = st.lists(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]), "path": pointers},
        optional={"from": pointers, "value": documents},
    ),
    max_size=4,
)


@given(documents, operations_of)
def test_any_patch_applies_or_is_refused_and_changes_nothing_it_is_given(target: Any, operations: Any) -> None:
    before = copy.deepcopy((target, operations))
    with contextlib.suppress(PatchError):
        apply_json_patch(target, operations)
    assert (target, operations) == before


def _token(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


@given(st.dictionaries(keys, documents, max_size=3), keys, documents)
def test_what_is_added_tests_equal_and_is_gone_when_removed(target: dict[str, Any], key: str, value: Any) -> None:
    path = "/" + _token(key)
    added = [{"op": "add", "path": path, "value": value}, {"op": "test", "path": path, "value": value}]
    assert apply_json_patch(target, added) == {**target, key: value}
    removed = apply_json_patch(target, [*added, {"op": "remove", "path": path}])
    assert removed == {name: item for name, item in target.items() if name != key}


def _rows(shared: Path) -> dict[str, Any]:
    lines = (shared / "kubernetes-1.36/tapes/nodes.jsonl").read_text().splitlines()
    return {row["note"]: row for row in map(json.loads, lines)}


@pytest.mark.recording
def test_the_recorded_api_server_merges_labels_and_adds_annotations_alike(shared: Path) -> None:
    rows = _rows(shared)
    merged, patched = rows["merge patch labels"], rows["json patch"]
    before = rows["strategic merge delete directive"]["response"]["body"]
    labels = apply_merge_patch(before, merged["request"]["body"])["metadata"]["labels"]
    assert labels == merged["response"]["body"]["metadata"]["labels"]
    after = apply_json_patch(merged["response"]["body"], patched["request"]["body"])
    assert after["metadata"]["annotations"] == patched["response"]["body"]["metadata"]["annotations"]


@pytest.mark.recording
def test_the_recorded_api_server_refuses_a_failing_test(shared: Path) -> None:
    row = _rows(shared)["json patch failing test"]
    assert row["response"]["status"] == 422
    with pytest.raises(PatchError, match="testing value /metadata/name failed"):
        apply_json_patch(_rows(shared)["json patch"]["response"]["body"], row["request"]["body"])

"""Patches that fit badly are answered as by a real server: where 1.20 and 1.36 share the code, as 1.20.2 answered."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.devcluster.clients import JSON_PATCH, MERGE, STRATEGIC, Api

MAPS: Final = "/api/v1/namespaces/default/configmaps"
MAP: Final = {"metadata": {"name": "m", "labels": {"a": "b"}}, "data": {"k": "v"}}
REJECTED: Final = "the server rejected our request due to an error in our request"


@pytest.fixture
async def one_map(api: Api) -> str:
    await api.create(MAPS, MAP)
    return f"{MAPS}/m"


@pytest.mark.parametrize(
    ("operation", "labels"),
    [
        ({"op": "replace", "path": "/metadata/labels/c", "value": "d"}, {"a": "b", "c": "d"}),
        ({"op": "replace", "path": "/metadata/annotations", "value": None}, {"a": "b"}),
        ({"op": "copy", "from": "/nowhere", "path": "/metadata/labels"}, None),
        ({"op": "test", "path": "/nowhere", "value": None}, {"a": "b"}),
        ({"op": "remove", "path": "/kind"}, {"a": "b"}),
    ],
)
async def test_a_json_patch_of_what_is_not_there_is_no_stricter_than_on_a_real_server(
    api: Api, one_map: str, operation: dict[str, Any], labels: dict[str, str] | None
) -> None:
    answer = await api.patch(one_map, [operation], JSON_PATCH)
    assert (answer.status, answer.body["metadata"].get("labels")) == (200, labels)


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/metadata/labels/c"},
        {"op": "move", "from": "/nowhere", "path": "/metadata/labels"},
        {"op": "replace", "path": "/metadata/annotations/c", "value": "d"},
        {"op": "add", "path": "", "value": {}},
        {"op": "test", "path": "/nowhere", "value": 1},
    ],
)
async def test_a_json_patch_that_does_not_apply_is_rejected(api: Api, one_map: str, operation: dict[str, Any]) -> None:
    answer = await api.patch(one_map, [operation], JSON_PATCH)
    assert (answer.status, answer.message) == (422, REJECTED)


@pytest.mark.parametrize(
    ("patch", "problem"),
    [
        ({"metadata": 1}, "cannot restore struct from: int64"),
        ({"metadata": {"labels": "x"}}, "cannot restore map from string"),
        ({"metadata": {"labels": {"a": 1}}}, "cannot convert int64 to string"),
        ({"metadata": {"finalizers": "x"}}, "cannot restore slice from string"),
        ({"data": {"a": {}}}, "unrecognized type: string"),
        ({"immutable": "yes"}, "unrecognized type: bool"),
        ({"metadata": {"creationTimestamp": 5}}, "json: cannot unmarshal number into Go value of type string"),
        ({"kind": 1}, "cannot convert int64 to string"),
    ],
)
async def test_a_strategic_patch_of_the_wrong_type_is_quoted_with_what_is_wrong(
    api: Api, one_map: str, patch: dict[str, Any], problem: str
) -> None:
    answer = await api.patch(one_map, patch, STRATEGIC)
    shown = json.dumps(patch).replace('"', "").replace("{", "map[").replace("}", "]").replace(": ", ":")
    assert answer.message == f' "" is invalid: patch: Invalid value: "{shown}": {problem}'
    assert (answer.status, answer.causes) == (422, [("patch", "FieldValueInvalid")])


async def test_a_merge_patch_of_the_wrong_type_is_answered_with_all_that_came_of_it(api: Api, one_map: str) -> None:
    answer = await api.patch(one_map, {"data": {"k": 1}}, MERGE)
    assert answer.status == 422
    assert '\\"data\\":{\\"k\\":1},\\"kind\\":\\"ConfigMap\\"' in answer.message
    assert answer.message.endswith(
        ": json: cannot unmarshal number into Go struct field ConfigMap.data.k of type string"
    )


async def test_a_secret_is_never_repeated(api: Api) -> None:
    secrets = "/api/v1/namespaces/default/secrets"
    await api.create(secrets, {"metadata": {"name": "s"}, "stringData": {"password": "hunter2"}})
    for media_type in (MERGE, STRATEGIC):
        answer = await api.patch(f"{secrets}/s", {"stringData": {"password": {"x": "hunter3"}}}, media_type)
        assert (answer.status, "hunter" in answer.message) == (422, False)
        assert "aHVudGVy" not in answer.message


@pytest.mark.parametrize(
    ("patch", "media_type", "status", "message"),
    [
        ({"metadata": {"$patch": "foo"}}, STRATEGIC, 500, "unknown patch type: foo in map: map[$patch:foo]"),
        ({"$retainKeys": "x"}, STRATEGIC, 400, "invalid patch format of retainKeys"),
        (
            {"apiVersion": None},
            MERGE,
            400,
            "the name of the object (m based on URL) was undeterminable: name must be provided",
        ),
        (
            {"metadata": {"namespace": "o"}},
            MERGE,
            400,
            "the namespace of the object (o) does not match the namespace on the request (default)",
        ),
    ],
)
async def test_what_a_patch_may_not_say(
    api: Api, one_map: str, patch: dict[str, Any], media_type: str, status: int, message: str
) -> None:
    answer = await api.patch(one_map, patch, media_type)
    assert (answer.status, answer.message) == (status, message)


@pytest.mark.parametrize("depth", [900, 1500, 9990])
@pytest.mark.parametrize("media_type", [MERGE, STRATEGIC])
async def test_what_no_type_has_may_be_nested_as_deep_as_json_may_be(
    api: Api, one_map: str, media_type: str, depth: int
) -> None:
    body = b'{"metadata":' + b'{"x":' * (depth - 1) + b"1" + b"}" * depth
    answer = await api.patch(one_map, body, media_type)
    assert (answer.status, answer.warnings) == (200, ['299 - "unknown field \\"metadata.x\\""'])


async def test_a_list_without_end_where_no_list_belongs(api: Api) -> None:
    body = b'{"metadata":{"name":"deep"},"x":' + b"[" * 5000 + b"]" * 5000 + b"}"
    created = await api.post(MAPS, body)
    assert (created.status, created.warnings) == (201, ['299 - "unknown field \\"x\\""'])


@pytest.mark.parametrize("name", ["m", "not-there"])
async def test_server_side_apply_says_what_to_use_instead_whether_the_object_is_there_or_not(
    api: Api, one_map: str, name: str
) -> None:
    answer = await api.patch(f"{MAPS}/{name}?fieldManager=x&force=true", MAP, "application/apply-patch+yaml")
    assert (answer.status, answer.reason) == (415, "UnsupportedMediaType")
    assert "use client-side apply (kubectl apply without --server-side)" in answer.message

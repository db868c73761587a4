"""YAML bodies are read as a real API server (1.20.2, which has the same reader as 1.36) reads them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.devcluster.clients import MERGE, Api
from virtual_kubelet.devcluster.go_json import NotJson
from virtual_kubelet.devcluster.go_yaml import decode_go_yaml

MAPS = "/api/v1/namespaces/default/configmaps"
YAML = "application/yaml"
HEAD = b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: x\n"


def read(text: str) -> Any:
    return decode_go_yaml(text.encode(), [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 'b'\nt: 1:30\nd: 2020-01-01", {"a": "b", "t": "1:30", "d": "2020-01-01"}),
        ("[yes, Off, y, N, ~, '', null, 'no']", [True, False, True, False, None, "", None, "no"]),
        ("[1, -2, 0x1F, 012, 0o17, 0b101, 1_000, 1.5, 2.0, 1e3, .5]", [1, -2, 31, 10, 15, 5, 1000, 1.5, 2, 1000, 0.5]),
        ("y: a\n1: b\n1.5: c\n~: d", {"true": "a", "1": "b", "1.5": "c", "null": "d"}),
        ("a: &x {k: v}\nb: *x\nc: [*x]", {"a": {"k": "v"}, "b": {"k": "v"}, "c": [{"k": "v"}]}),
        ("a: {<<: {k: v, l: m}, k: w}", {"a": {"k": "w", "l": "m"}}),
        ("a: {<<: [{k: 1}, {k: 2, l: 3}]}", {"a": {"k": 1, "l": 3}}),
        ("a: !!binary aGVsbG8=\nb: !!str 1\nc: !mine 1", {"a": "hello", "b": "1", "c": "1"}),
        ("a: |\n  one\n  two\nb: >-\n  one\n  two", {"a": "one\ntwo\n", "b": "one two"}),
        ("a: 1\n---\nb: 2", {"a": 1}),
        ("", None),
        ("hello", "hello"),
        ('{"a": "\\u00e4"}', {"a": "ä"}),
    ],
)
def test_values_are_those_of_go(text: str, value: Any) -> None:
    found = read(text)
    assert found == value
    assert repr(found) == repr(value)  # True is no 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a:\n  b: c: d", "yaml: line 2: mapping values are not allowed in this context"),
        ("a:\n\tb: c", "yaml: line 2: found character that cannot start any token"),
        ("x: *y", "yaml: unknown anchor 'y' referenced"),
        ("x: &y\n  a: *y", "yaml: anchor 'y' value contains itself"),
        ("x: .inf", "json: unsupported value: +Inf"),
        ("x: {<<: 1}", "yaml: map merge requires map or sequence of maps as the value"),
        ("x: \x01", "yaml: control characters are not allowed"),
        ("x: " + "[" * 12_000, "yaml: exceeded max depth of 10000"),
    ],
)
def test_what_is_no_yaml_is_refused_in_its_words(text: str, problem: str) -> None:
    with pytest.raises(NotJson) as caught:
        read(text)
    assert str(caught.value) == problem


def test_bytes_that_are_no_utf_8_are_refused() -> None:
    with pytest.raises(NotJson, match=r"^yaml: invalid leading UTF-8 octet$"):
        decode_go_yaml(b"a: \xff", [])


def test_aliases_that_stand_for_a_billion_values_are_refused() -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{b}: &{b} [{','.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    with pytest.raises(NotJson, match=r"^yaml: document contains excessive aliasing$"):
        read("\n".join(lines))


async def test_an_object_in_yaml_is_stored_as_the_same_one_in_json(api: Api) -> None:
    answer = await api.send("POST", MAPS, HEAD + b"data: {a: 'b'}\n", content_type=YAML)
    assert (answer.status, answer.body["data"]) == (201, {"a": "b"})
    answer = await api.send("PUT", f"{MAPS}/x", HEAD + b"data:\n  a: c\n", content_type=YAML)
    assert (answer.status, answer.body["data"]) == (200, {"a": "c"})
    answer = await api.send("DELETE", f"{MAPS}/x", b"gracePeriodSeconds: 0\n", content_type=YAML)
    assert answer.status == 200


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 422, 'ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required'),
        (
            HEAD + b"data:\n  a: b: c\n",
            400,
            "the object provided is unrecognized (must be of type ConfigMap): yaml: line 6: mapping values are not allowed "
            "in this context (61706956657273696f6e3a2076310a6b696e643a20436f6e6669674d6170 ...)",
        ),
        (
            HEAD + b"data: {a: 1}\n",
            400,
            'ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct '
            "field ConfigMap.data.a of type string",
        ),
    ],
)
async def test_what_cannot_be_read_is_answered_as_by_a_real_server(
    api: Api, body: bytes, status: int, message: str
) -> None:
    answer = await api.send("POST", MAPS, body, content_type=YAML)
    assert (answer.status, answer.message) == (status, message)


TWICE = {
    YAML: (HEAD + b"data:\n  a: b\n  a: c\n", 'yaml: unmarshal errors:\n  line 7: key "a" already set in map'),
    "application/json": (
        b'{"metadata":{"name":"x"},"data":{"a":"b","a":"c"},"metadata":{"name":"x"}}',
        'duplicate field "data.a", duplicate field "metadata"',
    ),
}


@pytest.mark.parametrize("media_type", TWICE)
async def test_a_key_that_is_there_twice_is_an_error_a_warning_or_nothing(api: Api, media_type: str) -> None:
    body, problem = TWICE[media_type]
    media = media_type
    refused = await api.send("POST", f"{MAPS}?fieldValidation=Strict", body, content_type=media)
    assert (refused.status, refused.message.endswith(f"strict decoding error: {problem}")) == (400, True)
    warned = await api.send("POST", f"{MAPS}?dryRun=All", body, content_type=media)
    assert (warned.status, warned.body["data"]) == (201, {"a": "c"})
    assert len(warned.warnings) == problem.count(", ") + 1
    silent = await api.send("POST", f"{MAPS}?dryRun=All&fieldValidation=Ignore", body, content_type=media)
    assert (silent.status, bool(silent.warnings)) == (201, False)


async def test_a_key_that_a_patch_has_twice_is_an_error_when_that_is_asked_for(api: Api) -> None:
    await api.post(MAPS, b'{"metadata":{"name":"x"}}')
    body, media = b'{"data":{"a":"b","a":"c"}}', MERGE
    refused = await api.send("PATCH", f"{MAPS}/x?fieldValidation=Strict", body, content_type=media)
    assert (refused.status, 'strict decoding error: duplicate field "data.a"' in refused.message) == (422, True)
    warned = await api.send("PATCH", f"{MAPS}/x", body, content_type=media)
    assert warned.warnings == ['299 - "duplicate field \\"data.a\\""']

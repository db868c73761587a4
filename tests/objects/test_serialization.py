from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from virtual_kubelet.objects.core_v1 import Container, Node, Pod, PodSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta, OwnerReference
from virtual_kubelet.objects.serialization import decode, encode, to_builtins


def test_a_kind_is_written_with_its_api_version_and_kind_first() -> None:
    pod = Pod(metadata=ObjectMeta(name="p"), spec=PodSpec(host_ipc=True, containers=[Container(name="c")]))
    assert encode(pod) == (
        b'{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},'
        b'"spec":{"containers":[{"name":"c"}],"hostIPC":true},"status":{}}'
    )
    assert list(to_builtins(pod)) == ["apiVersion", "kind", "metadata", "spec", "status"]


def test_a_part_of_a_kind_is_written_plain() -> None:
    reference = OwnerReference(api_version="v1", kind="Node", name="n", uid="u")
    assert json.loads(encode(reference)) == {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}


def test_an_empty_object_is_still_valid_json() -> None:
    assert json.loads(encode(Node()))["kind"] == "Node"


def test_unknown_fields_and_managed_fields_are_skipped() -> None:
    pod = decode(b'{"kind":"Pod","metadata":{"name":"p","managedFields":[{"fieldsV1":{}}]},"new":1}', Pod)
    assert pod.metadata == ObjectMeta(name="p")


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


@pytest.mark.recording
def test_every_recorded_pod_and_node_survives_reading_and_writing(shared: Path) -> None:
    kinds: dict[str, type[msgspec.Struct]] = {"Pod": Pod, "Node": Node}
    seen = 0
    for name in ("pods", "nodes"):
        for line in (shared / "kubernetes-1.36" / "tapes" / f"{name}.jsonl").read_text().splitlines():
            body = json.loads(line)["response"].get("body")
            if isinstance(body, dict) and body.get("kind") in kinds:
                seen += 1
                body["metadata"].pop("managedFields", None)
                written = json.loads(encode(decode(json.dumps(body).encode(), kinds[body["kind"]])))
                assert written == without_nulls(body)
    assert seen > 20

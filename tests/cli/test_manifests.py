"""YAML files: what is in them, and errors that say where and what."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from virtual_kubelet.cli.manifests import Manifest, read_manifests
from virtual_kubelet.errors import ConfigurationError

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n"


def read(tmp_path: Path, text: str) -> list[Manifest]:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return read_manifests(str(path))


def test_documents_are_read_in_order_with_their_namespaces(tmp_path: Path) -> None:
    text = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: n}\n---\n" + POD + "---\n---\n"
    text += POD.replace("{name: p}", "{name: q, namespace: n}")
    found = read(tmp_path, text)
    assert [str(manifest) for manifest in found] == ["namespace n", "pod default/p", "pod n/q"]
    assert found[1].body["metadata"] == {"name": "p", "namespace": "default"}


def test_lists_are_taken_apart(tmp_path: Path) -> None:
    items = "".join("- " + POD.replace("name: p", f"name: {n}").replace("\n", "\n  ").rstrip() + "\n" for n in "ab")
    found = read(tmp_path, f"apiVersion: v1\nkind: List\nitems:\n{items}")
    assert [manifest.name for manifest in found] == ["a", "b"]


def test_a_dash_is_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(POD))
    assert [manifest.name for manifest in read_manifests("-")] == ["p"]


def test_dates_stay_strings_as_for_kubectl(tmp_path: Path) -> None:
    text = POD.replace("{name: p}", "{name: p, annotations: {day: 2026-01-01}}")
    assert read(tmp_path, text)[0].body["metadata"]["annotations"] == {"day": "2026-01-01"}


def test_json_is_yaml(tmp_path: Path) -> None:
    assert read(tmp_path, '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"}}')[0].name == "p"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no object"),
        ("a: [", "line 1: not YAML"),
        ("a: b\n  c: d\n", "line 2: not YAML"),
        ("a: 1\na: 2\n", "'a' is there twice"),
        ("hello\n", "not a Kubernetes object but a str"),
        ("kind: Pod\n", "apiVersion is missing"),
        ("apiVersion: v1\n", "kind is missing"),
        ("apiVersion: 1\nkind: Pod\n", "apiVersion is missing"),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n", "does not serve Deployment of apps/v1"),
        ("apiVersion: v1\nkind: Pod\n", "without a metadata.name"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: 3}\n", "without a metadata.name"),
        (POD.replace("{name: p}", "{name: p, namespace: 3}"), "metadata.namespace is not a string"),
        (POD + "---\n- 1\n", "document 2: not a Kubernetes object but a list"),
        ("!!python/object/apply:os.system ['true']\n", "not YAML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, text)
    assert said in str(refused.value)
    assert str(tmp_path / "file.yaml") in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.yaml: No such file"):
        read_manifests(str(tmp_path / "none.yaml"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="binary"):
        read_manifests(str(tmp_path / "binary"))

from __future__ import annotations

from typing import Any

import pytest

from virtual_kubelet.cli import main
from virtual_kubelet.cli.rbac import manifests


def rights(**features: bool) -> set[tuple[str, str, tuple[str, ...]]]:
    """(resource, verb, names) of the ClusterRole."""
    role: dict[str, Any] = next(m for m in manifests("n1", "default", "sa", **features) if m["kind"] == "ClusterRole")
    return {
        (resource, verb, tuple(rule.get("resourceNames", ())))
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_a_feature_that_is_off_asks_for_no_right() -> None:
    everything = rights(rotate_server_certificates=True, delete_node=True)
    assert everything - rights(delete_node=True) == {
        ("certificatesigningrequests", verb, ()) for verb in ("create", "get", "list", "watch")
    }
    assert everything - rights(rotate_server_certificates=True) == {("nodes", "delete", ("n1",))}
    assert rights() - rights(kubelet_server=False) == {
        ("tokenreviews", "create", ()),
        ("subjectaccessreviews", "create", ()),
    }


def test_nothing_of_other_nodes_may_be_changed() -> None:
    for resource, verb, names in rights(delete_node=True):
        assert not resource.startswith("nodes") or verb == "create" or names == ("n1",)


def test_nothing_may_be_read_or_written_that_a_kubelet_may_not() -> None:
    assert {resource for resource, _, _ in rights(rotate_server_certificates=True)} == {
        "nodes", "nodes/status", "pods", "pods/status", "configmaps", "secrets", "services", "events",
        "tokenreviews", "subjectaccessreviews", "certificatesigningrequests",
    }  # fmt: skip


def test_the_names_are_those_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rbac", "--nodename", "n2", "--namespace", "vk", "--service-account", "robot"], {}) == 0
    printed = capsys.readouterr().out
    assert "name: robot\n  namespace: vk" in printed
    assert "name: virtual-kubelet:n2" in printed
    assert printed.count("---") == 4

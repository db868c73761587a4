"""The Node that a virtual node starts from."""

from __future__ import annotations

import pytest

from virtual_kubelet.node.node_template import default_node, go_architecture, system_information
from virtual_kubelet.objects.core_v1 import Taint


def test_the_standard_labels() -> None:
    system = system_information("v1.36.0-vk-0.1.0", operating_system="windows", architecture="arm64")
    node = default_node("vk", system=system, labels={"type": "mine", "x": "y"})
    assert node.metadata.labels == {
        "type": "mine",
        "x": "y",
        "kubernetes.io/role": "agent",
        "kubernetes.io/hostname": "vk",
        "kubernetes.io/os": "windows",
        "kubernetes.io/arch": "arm64",
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
    }


def test_the_status() -> None:
    taint = Taint(key="k", value="v", effect="NoSchedule")
    node = default_node(
        "vk",
        system=system_information("v1.36.0-vk-0.1.0", runtime="mock://0.1.0"),
        internal_ips=["10.0.0.1", "fd00::1"],
        daemon_port=10250,
        taints=[taint],
        capacity={"cpu": "4"},
    )
    assert node.spec.taints == [taint]
    status = node.status
    assert [(a.type, a.address) for a in status.addresses or []] == [
        ("InternalIP", "10.0.0.1"),
        ("InternalIP", "fd00::1"),
        ("Hostname", "vk"),
    ]
    assert status.capacity == {"cpu": "4"}
    assert status.daemon_endpoints is not None
    assert status.daemon_endpoints.kubelet_endpoint is not None
    assert status.daemon_endpoints.kubelet_endpoint.port == 10250
    assert status.node_info is not None
    assert status.node_info.kubelet_version == "v1.36.0-vk-0.1.0"
    assert status.node_info.container_runtime_version == "mock://0.1.0"
    assert status.node_info.kernel_version
    assert {c.type: c.status for c in status.conditions or []} == dict.fromkeys(
        ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable"), "False"
    )


def test_without_a_port_there_is_no_endpoint() -> None:
    assert default_node("vk", system=system_information("v1")).status.daemon_endpoints is None


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [("x86_64", "amd64"), ("AMD64", "amd64"), ("aarch64", "arm64"), ("armv7l", "arm"), ("sparc", "sparc")],
)
def test_architectures_have_kubernetes_names(machine: str, architecture: str) -> None:
    assert go_architecture(machine) == architecture

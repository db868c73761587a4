"""The Node as a virtual node first describes itself: standard labels, conditions, system information. Pure but for the
facts of this machine, which ``system_information`` reads."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence

from virtual_kubelet.objects.core_v1 import (
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeCondition,
    NodeDaemonEndpoints,
    NodeSpec,
    NodeStatus,
    NodeSystemInfo,
    Taint,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta

__all__ = ["default_node", "go_architecture", "system_information"]

#: What ``uname`` calls a machine -> what Kubernetes (Go's GOARCH) calls it.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "i386": "386",
    "i686": "386",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv6l": "arm",
    "armv7l": "arm",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loongarch64": "loong64",
}

#: Conditions every kubelet reports, that a virtual node has no reason to raise: (type, reason, message).
_HEALTHY = (
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ("NetworkUnavailable", "RouteCreated", "the provider routes its pods itself"),
)


def go_architecture(machine: str) -> str:
    """``uname -m`` in Kubernetes' spelling; an unknown machine keeps its name."""
    return _ARCHITECTURES.get(machine.lower(), machine.lower())


def system_information(
    kubelet_version: str, *, operating_system: str = "linux", architecture: str | None = None, runtime: str = ""
) -> NodeSystemInfo:
    """What ``kubectl get nodes -o wide`` shows, of this machine.

    Args:
        kubelet_version: such as ``v1.36.0-vk-0.1.0``. Truthful: the API server must not be older (version-skew policy).
        architecture: GOARCH of the pods' machines; this machine's by default.
        runtime: ``name://version`` of what runs the containers.
    """
    machine = platform.uname()
    return NodeSystemInfo(
        architecture=architecture or go_architecture(machine.machine),
        boot_id="",
        container_runtime_version=runtime,
        kernel_version=machine.release,
        kube_proxy_version="",
        kubelet_version=kubelet_version,
        machine_id="",
        operating_system=operating_system,
        os_image=f"Virtual Kubelet on {machine.system}",
        system_uuid="",
    )


def default_node(
    name: str,
    *,
    system: NodeSystemInfo,
    internal_ips: Sequence[str] = (),
    daemon_port: int = 0,
    taints: Iterable[Taint] = (),
    labels: Mapping[str, str] | None = None,
    capacity: Mapping[str, str] | None = None,
) -> Node:
    """A Node for a NodeController to start from; providers change it.

    It has the labels of the Go framework, those that a kubelet sets, and the one that keeps cloud load balancers from
    sending traffic here. It says nothing about Ready: that is the controller's to say.

    Args:
        name: the node's name, also its hostname label and address.
        system: see ``system_information``.
        internal_ips: where the API server reaches the node's HTTPS port, the preferred one first.
        daemon_port: that port; 0 if it is off.
        taints: taints it registers with.
        labels: more labels; they win over the standard ones.
        capacity: resource -> quantity; allocatable is the same unless a provider says otherwise.
    """
    standard = {
        "type": "virtual-kubelet",
        "kubernetes.io/role": "agent",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": system.operating_system,
        "kubernetes.io/arch": system.architecture,
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
    }
    addresses = [NodeAddress(type="InternalIP", address=ip) for ip in internal_ips]
    addresses.append(NodeAddress(type="Hostname", address=name))
    return Node(
        metadata=ObjectMeta(name=name, labels={**standard, **(labels or {})}),
        spec=NodeSpec(taints=list(taints) or None),
        status=NodeStatus(
            addresses=addresses,
            capacity=dict(capacity) if capacity else None,
            conditions=[NodeCondition(type=t, status="False", reason=r, message=m) for t, r, m in _HEALTHY],
            daemon_endpoints=NodeDaemonEndpoints(kubelet_endpoint=DaemonEndpoint(port=daemon_port))
            if daemon_port
            else None,
            node_info=system,
        ),
    )

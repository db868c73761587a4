"""Whether a node takes a pod that is bound to it: the kubelet's last look, for pods that no scheduler has judged. Pure.

Kubernetes: pkg/kubelet/lifecycle/predicate.go with the scheduler's AdmissionCheck, in that order; reasons and messages as
recorded. What a node does not declare among its resources is not counted.

There is no preemption by critical pods (pkg/kubelet/preemption): that is a machine's way to keep its own static pods and
DaemonSets running when it is full. A node that is no machine has none that it cannot do without; who wants a pod of higher
priority to have another's place leaves that to a scheduler, which asks PodDisruptionBudgets before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from virtual_kubelet.objects.core_v1 import Node
from virtual_kubelet.objects.pod_fitting import (
    HostPort,
    Resources,
    Taint,
    host_ports,
    matches_node,
    node_resources,
    pod_requests,
    ports_conflict,
    tolerated,
    with_status,
)
from virtual_kubelet.runtime.resize import DEFERRED, INFEASIBLE

__all__ = ["NodeFacts", "PodDemand", "Rejection", "node_facts", "pod_demand", "rejection_of", "resize_refusal"]

_OS_LABEL: Final = "kubernetes.io/os"


class NodeFacts(NamedTuple):
    """What of a Node admission looks at.

    Attributes:
        taints: (key, value, effect).
        allocatable: quantities by resource; a resource that is missing is not counted.
        strict_groups: it can do ``supplementalGroupsPolicy: Strict``.
    """

    name: str
    labels: Mapping[str, str]
    taints: Iterable[Taint]
    allocatable: Mapping[str, str]
    operating_system: str = "linux"
    strict_groups: bool = False


class Rejection(NamedTuple):
    """Why a pod is not taken: the event's reason and message, and the reason of the pod's status."""

    reason: str
    message: str

    @property
    def status_message(self) -> str:
        """The message of the pod's status."""
        return f"Pod was rejected: {self.message}"

    @property
    def may_be_stale(self) -> bool:
        """What others write to the Node may have changed since it was last seen: worth another look at it."""
        return self.reason in ("NodeAffinity", "TaintToleration")


class PodDemand(NamedTuple):
    """What a pod asks of its node; ``spec`` is JSON."""

    spec: Mapping[str, Any]
    labels: Mapping[str, str]
    requests: Resources
    ports: Sequence[HostPort]


def pod_demand(
    spec: Mapping[str, Any], labels: Mapping[str, str], status: Mapping[str, Any] | None = None
) -> PodDemand:
    """Of a pod's spec and labels; with its status, what it has counts too. Raises ``ValueError`` for a quantity that is
    none."""
    counted = spec if status is None else with_status(spec, status)
    return PodDemand(spec, labels, pod_requests(counted), host_ports(spec))


def node_facts(node: Node) -> NodeFacts:
    """Of a Node as the API server has it, or as it is described at first."""
    info, features = node.status.node_info, node.status.features
    return NodeFacts(
        node.metadata.name or "",
        node.metadata.labels or {},
        [(taint.key, taint.value or "", taint.effect) for taint in node.spec.taints or ()],
        node.status.allocatable or node.status.capacity or {},
        info.operating_system if info is not None else "linux",
        bool(features is not None and features.supplemental_groups_policy),
    )


def rejection_of(demand: PodDemand, node: NodeFacts, used: Resources, ports: Iterable[HostPort]) -> Rejection | None:
    """Why the node cannot take this pod; None: it can.

    Args:
        used, ports: what the node's other live pods take.
    """
    return (
        _other_system(demand.spec, demand.labels, node)
        or _insufficient(demand.requests, node, used)
        or _unsuitable(demand, node, ports)
    )


def resize_refusal(wanted: Resources, had: Resources, node: NodeFacts, used: Resources) -> Rejection | None:
    """Why a pod that runs cannot have more: ``handlePodResourcesResize`` of pkg/kubelet/allocation.

    Less it always can have. (A kubelet has even that wait on a node that is too full.)

    Args:
        wanted, had: its requests.
        used: what the node's other live pods take.
    """
    if wanted.cpu <= had.cpu and wanted.memory <= had.memory:
        return None
    try:
        there = node_resources(node.allocatable)
    except ValueError as error:
        return Rejection(INFEASIBLE, f"the node's allocatable resources make no sense: {error}")
    for name, amount, capacity in (("memory", wanted.memory, there.memory), ("cpu", wanted.cpu, there.cpu)):
        if name in node.allocatable and amount > capacity:
            message = f"Node didn't have enough capacity: {name}, requested: {amount}, capacity: {capacity}"
            return Rejection(INFEASIBLE, message)
    rejection = _insufficient(wanted, node, used)
    return None if rejection is None else Rejection(DEFERRED, rejection.message)


def _other_system(spec: Mapping[str, Any], labels: Mapping[str, str], node: NodeFacts) -> Rejection | None:
    if labels.get(_OS_LABEL, node.operating_system) != node.operating_system:
        message = f"Failed to admit pod as the `{_OS_LABEL}` label doesn't match node label"
        return Rejection("PodOSSelectorNodeLabelDoesNotMatch", message)
    if (spec.get("os") or {}).get("name", node.operating_system) != node.operating_system:
        return Rejection("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    if (spec.get("securityContext") or {}).get("supplementalGroupsPolicy") == "Strict" and not node.strict_groups:
        message = "SupplementalGroupsPolicy=Strict is not supported in this node"
        return Rejection("SupplementalGroupsPolicyNotSupported", message)
    return None


def _insufficient(requests: Resources, node: NodeFacts, used: Resources) -> Rejection | None:
    try:
        there = node_resources(node.allocatable)
    except ValueError as error:
        # Of a provider: a quantity that is none. The pod cannot be judged, and must not be half-run.
        return Rejection("UnexpectedAdmissionError", f"the node's allocatable resources make no sense: {error}")
    named = (
        ("pods", 1, used.pods, there.pods),
        ("cpu", requests.cpu, used.cpu, there.cpu),
        ("memory", requests.memory, used.memory, there.memory),
        ("ephemeral-storage", requests.storage, used.storage, there.storage),
        *(
            (name, amount, used.others.get(name, 0), there.others.get(name, 0))
            for name, amount in requests.others.items()
        ),
    )
    for name, wanted, taken, capacity in named:
        if name in node.allocatable and wanted and wanted > capacity - taken:
            message = (
                f"Node didn't have enough resource: {name}, requested: {wanted}, used: {taken}, capacity: {capacity}"
            )
            return Rejection(f"OutOf{name}", message)
    return None


def _unsuitable(demand: PodDemand, node: NodeFacts, ports: Iterable[HostPort]) -> Rejection | None:
    spec, wanted = demand.spec, demand.ports

    def failed(predicate: str, why: str) -> Rejection:
        return Rejection(predicate, f"Predicate {predicate} failed: {why}")

    if not matches_node(spec, node.name, node.labels):
        return failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
    if wanted and any(ports_conflict(port, taken) for taken in ports for port in wanted):
        return failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    tolerations = spec.get("tolerations") or ()
    if any(taint[2] == "NoExecute" and not tolerated(taint, tolerations) for taint in node.taints):
        return failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return None

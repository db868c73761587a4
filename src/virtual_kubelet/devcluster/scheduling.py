"""Which node can take a pod, and why the others cannot: the scheduler's filters and their words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from virtual_kubelet.objects.quantity import Quantity

__all__ = ["Candidate", "NodeView", "Resources", "node_view", "pod_requests", "refusals", "unschedulable_message"]

_AFFINITY: Final = "node(s) didn't match Pod's node affinity/selector"
_UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"


class Resources(NamedTuple):
    """Sums of requests, or what a node has: thousandths of CPUs, bytes, pods."""

    cpu: int
    memory: int
    pods: int

    def plus(self, other: Resources) -> Resources:
        return Resources(self.cpu + other.cpu, self.memory + other.memory, self.pods + other.pods)

    def minus(self, other: Resources) -> Resources:
        return Resources(self.cpu - other.cpu, self.memory - other.memory, self.pods - other.pods)


class NodeView(NamedTuple):
    """All of a node that scheduling looks at; equal as long as nothing of it has changed."""

    name: str
    ready: bool
    unschedulable: bool
    labels: tuple[tuple[str, str], ...]
    taints: tuple[tuple[str, str, str], ...]
    allocatable: Resources


class Candidate(NamedTuple):
    """A node and what is taken of it."""

    node: NodeView
    used: Resources


def node_view(node: dict[str, Any], *, ready: bool) -> NodeView:
    status = node["status"]
    allocatable = status.get("allocatable") or status.get("capacity") or {}
    return NodeView(
        node["metadata"]["name"],
        ready,
        bool(node["spec"].get("unschedulable")),
        tuple(sorted((node["metadata"].get("labels") or {}).items())),
        tuple((t.get("key", ""), t.get("value", ""), t.get("effect", "")) for t in node["spec"].get("taints") or ()),
        Resources(_cpu(allocatable), _memory(allocatable), Quantity(allocatable.get("pods", "0")).value()),
    )


def _cpu(quantities: Mapping[str, str]) -> int:
    return Quantity(quantities.get("cpu", "0")).milli_value()


def _memory(quantities: Mapping[str, str]) -> int:
    return Quantity(quantities.get("memory", "0")).value()


def pod_requests(spec: dict[str, Any]) -> Resources:
    """What a pod takes: its containers and sidecars together, or more if an init container needs more."""

    def requests(container: dict[str, Any]) -> Resources:
        wanted = (container.get("resources") or {}).get("requests") or {}
        return Resources(_cpu(wanted), _memory(wanted), 0)

    total = Resources(0, 0, 1)
    for container in spec.get("containers") or ():
        total = total.plus(requests(container))
    sidecars, most = Resources(0, 0, 0), Resources(0, 0, 0)
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            sidecars = sidecars.plus(requests(container))
            needed = sidecars
        else:
            needed = sidecars.plus(requests(container))
        most = Resources(max(most.cpu, needed.cpu), max(most.memory, needed.memory), 0)
    total = total.plus(sidecars)
    overhead = spec.get("overhead") or {}
    total = Resources(max(total.cpu, most.cpu), max(total.memory, most.memory), 1)
    return total.plus(Resources(_cpu(overhead), _memory(overhead), 0))


def refusals(spec: dict[str, Any], requests: Resources, candidate: Candidate) -> list[str]:
    """Why this node cannot take the pod; empty: it can."""
    node, used = candidate
    if node.unschedulable and not _tolerated((_UNSCHEDULABLE, "", "NoSchedule"), spec):
        return ["node(s) were unschedulable"]
    if not matches_node(spec, node):
        return [_AFFINITY]
    for taint in node.taints:
        if taint[2] in ("NoSchedule", "NoExecute") and not _tolerated(taint, spec):
            return [f"node(s) had untolerated taint {{{taint[0]}: {taint[1]}}}"]
    if not node.ready:
        return ["node(s) were not ready"]
    found: list[str] = []
    free = node.allocatable.minus(used)
    if free.pods < 1:
        found.append("Too many pods")
    if requests.cpu and requests.cpu > free.cpu:
        found.append("Insufficient cpu")
    if requests.memory and requests.memory > free.memory:
        found.append("Insufficient memory")
    return found


def _tolerated(taint: tuple[str, str, str], spec: dict[str, Any]) -> bool:
    key, value, effect = taint
    for toleration in spec.get("tolerations") or ():
        if toleration.get("effect") and toleration["effect"] != effect:
            continue
        if toleration.get("key") and toleration["key"] != key:
            continue
        if toleration.get("operator", "Equal") == "Exists" or toleration.get("value", "") == value:
            return True
    return False


def matches_node(spec: dict[str, Any], node: NodeView) -> bool:
    """nodeSelector and required node affinity."""
    labels = dict(node.labels)
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if affinity is None:
        return True
    fields = {"metadata.name": node.name}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(_expression(e, labels) for e in term.get("matchExpressions") or ())
        and all(_expression(e, fields) for e in term.get("matchFields") or ())
        for term in affinity.get("nodeSelectorTerms") or ()
    )


def _expression(expression: dict[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression.get("key", "")), expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                number, bound = int(value or ""), int(values[0])
            except (ValueError, IndexError):
                return False
            return number > bound if operator == "Gt" else number < bound
    return False


def unschedulable_message(reasons: Sequence[Sequence[str]]) -> str:
    """The usual sentence; ``reasons``: of each node."""
    if not reasons:
        return "no nodes available to schedule pods"
    counts = Counter(reason for of_node in reasons for reason in of_node)
    listed = ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))
    total = len(reasons)
    return (
        f"0/{total} nodes are available: {listed}. preemption: 0/{total} nodes are available: {total} Preemption is not "
        "helpful for scheduling."
    )

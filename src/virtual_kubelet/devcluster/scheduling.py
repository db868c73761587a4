"""Which node can take a pod, and why the others cannot: the scheduler's filters and their words. Pure.

The filters and their order are kube-scheduler's of 1.36 (NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts,
NodeResourcesFit): a node gives the reasons of the first one that refuses. There are no pod affinity, topology spread,
volumes or preemption here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from virtual_kubelet.objects.quantity import Quantity

__all__ = [
    "NOTHING",
    "Candidate",
    "HostPort",
    "NodeView",
    "Refusal",
    "Resources",
    "host_ports",
    "node_view",
    "pod_requests",
    "preference",
    "refusal",
    "tolerates",
    "unschedulable_message",
]

_AFFINITY: Final = "node(s) didn't match Pod's node affinity/selector"
_OTHER_NODES: Final = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
_PORTS: Final = "node(s) didn't have free ports for the requested pod ports"
_TAINTED: Final = "node(s) had untolerated taint(s)"
_UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_NOT_HELPFUL: Final = "Preemption is not helpful for scheduling"
_NO_VICTIMS: Final = "No preemption victims found for incoming pod"
_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}\Z")
_ANY_IP: Final = "0.0.0.0"

#: Key, value, effect.
Taint: TypeAlias = tuple[str, str, str]
#: Address, protocol, port.
HostPort: TypeAlias = tuple[str, str, int]


class Resources(NamedTuple):
    """Sums of requests, or what a node has: thousandths of CPUs, bytes of memory and storage, pods, and whatever else."""

    cpu: int = 0
    memory: int = 0
    storage: int = 0
    pods: int = 0
    others: Mapping[str, int] = {}

    def plus(self, other: Resources, sign: int = 1) -> Resources:
        others = self.others
        if other.others:
            names = {**self.others, **other.others}
            others = {name: others.get(name, 0) + sign * other.others.get(name, 0) for name in names}
        return Resources(
            self.cpu + sign * other.cpu,
            self.memory + sign * other.memory,
            self.storage + sign * other.storage,
            self.pods + sign * other.pods,
            others,
        )

    def minus(self, other: Resources) -> Resources:
        return self.plus(other, -1)


NOTHING: Final = Resources()


class NodeView(NamedTuple):
    """All of a node that scheduling looks at; equal as long as nothing of it has changed."""

    name: str
    unschedulable: bool
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    allocatable: Resources


class Candidate(NamedTuple):
    """A node and what is taken of it."""

    node: NodeView
    used: Resources = NOTHING
    ports: Iterable[HostPort] = ()


class Refusal(NamedTuple):
    """Why a node cannot take a pod. ``final``: not even if other pods made room."""

    reasons: Sequence[str]
    final: bool = True


def node_view(node: Mapping[str, Any]) -> NodeView:
    status = node["status"]
    return NodeView(
        node["metadata"]["name"],
        bool(node["spec"].get("unschedulable")),
        node["metadata"].get("labels") or {},
        tuple((t.get("key", ""), t.get("value", ""), t.get("effect", "")) for t in node["spec"].get("taints") or ()),
        _resources(status.get("allocatable") or status.get("capacity") or {}),
    )


@lru_cache(maxsize=4096)
def _amount(name: str, text: str) -> int:
    quantity = Quantity(text)
    return quantity.milli_value() if name == "cpu" else quantity.value()


def _amounts(quantities: Mapping[str, str] | None) -> dict[str, int]:
    return {name: _amount(name, text) for name, text in (quantities or {}).items()}


def _resources(quantities: Mapping[str, str]) -> Resources:
    amounts = _amounts(quantities)
    cpu, memory, storage, pods = (amounts.pop(name, 0) for name in ("cpu", "memory", "ephemeral-storage", "pods"))
    return Resources(cpu, memory, storage, pods, amounts)


def _requests(container: Mapping[str, Any]) -> dict[str, int]:
    return _amounts((container.get("resources") or {}).get("requests"))


def _add(to: dict[str, int], amounts: Mapping[str, int]) -> None:
    for name, amount in amounts.items():
        to[name] = to.get(name, 0) + amount


def pod_requests(spec: Mapping[str, Any]) -> Resources:
    """What a pod takes: its containers and sidecars together, or more if an init container needs more; what the pod asks
    for as a whole counts instead; and its overhead (component-helpers' ``PodRequests``)."""
    total: dict[str, int] = {}
    for container in spec.get("containers") or ():
        _add(total, _requests(container))
    if initial := spec.get("initContainers"):
        sidecars: dict[str, int] = {}
        most: dict[str, int] = {}
        for container in initial:
            requests = _requests(container)
            if container.get("restartPolicy") == "Always":
                _add(sidecars, requests)
                needed = sidecars
            else:
                needed = dict(sidecars)
                _add(needed, requests)
            for name, amount in needed.items():
                most[name] = max(most.get(name, 0), amount)
        _add(total, sidecars)
        for name, amount in most.items():
            total[name] = max(total.get(name, 0), amount)
    if "resources" in spec:
        total.update(_requests(spec))
    if overhead := spec.get("overhead"):
        _add(total, _amounts(overhead))
    cpu, memory, storage = (total.pop(name, 0) for name in ("cpu", "memory", "ephemeral-storage"))
    total.pop("pods", None)
    return Resources(cpu, memory, storage, 1, {name: amount for name, amount in total.items() if amount})


def host_ports(spec: Mapping[str, Any]) -> list[HostPort]:
    """The ports of its node that a pod's containers and sidecars take."""
    containers = [*(spec.get("containers") or ())]
    containers += [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    return [
        (port.get("hostIP") or _ANY_IP, port.get("protocol") or "TCP", port["hostPort"])
        for container in containers
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def _in_the_way(wanted: HostPort, taken: HostPort) -> bool:
    return wanted[1:] == taken[1:] and (wanted[0] == taken[0] or _ANY_IP in (wanted[0], taken[0]))


def refusal(
    spec: Mapping[str, Any], requests: Resources, ports: Sequence[HostPort], candidate: Candidate
) -> Refusal | None:
    """Why this node cannot take the pod; None: it can."""
    node = candidate.node
    tolerations = spec.get("tolerations") or ()
    named = _named_nodes(spec)
    if named is not None and node.name not in named:
        return Refusal([_OTHER_NODES])
    if node.unschedulable and not _tolerated((_UNSCHEDULABLE, "", "NoSchedule"), tolerations):
        return Refusal(["node(s) were unschedulable"])
    for taint in node.taints:
        if taint[2] in ("NoSchedule", "NoExecute") and not _tolerated(taint, tolerations):
            return Refusal([_TAINTED])
    if not _matches_node(spec, node):
        return Refusal([_AFFINITY])
    if ports and any(_in_the_way(wanted, taken) for wanted in ports for taken in candidate.ports):
        return Refusal([_PORTS], final=False)
    return _does_not_fit(requests, node.allocatable, candidate.used)


def _does_not_fit(requests: Resources, allocatable: Resources, used: Resources) -> Refusal | None:
    reasons: list[str] = []
    final = False
    if used.pods + 1 > allocatable.pods:
        reasons.append("Too many pods")
    named = (
        ("cpu", requests.cpu, used.cpu, allocatable.cpu),
        ("memory", requests.memory, used.memory, allocatable.memory),
        ("ephemeral-storage", requests.storage, used.storage, allocatable.storage),
        *((n, a, used.others.get(n, 0), allocatable.others.get(n, 0)) for n, a in requests.others.items()),
    )
    for name, wanted, taken, there in named:
        if wanted and wanted > there - taken:
            reasons.append(f"Insufficient {name}")
            final = final or wanted > there
    return Refusal(reasons, final) if reasons else None


def tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    """Whether one toleration matches (``v1.Toleration.ToleratesTaint``)."""
    key, value, effect = taint
    if toleration.get("effect") and toleration["effect"] != effect:
        return False
    if toleration.get("key") and toleration["key"] != key:
        return False
    operator = toleration.get("operator") or "Equal"
    return operator == "Exists" or (operator == "Equal" and toleration.get("value", "") == value)


def _tolerated(taint: Taint, tolerations: Iterable[Mapping[str, Any]]) -> bool:
    return any(tolerates(toleration, taint) for toleration in tolerations)


def _required(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required: Mapping[str, Any] | None = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required


def _named_nodes(spec: Mapping[str, Any]) -> set[str] | None:
    """The only nodes that a pod's affinity names by ``metadata.name``, as a DaemonSet's does; None: it names none."""
    required = _required(spec)
    if required is None:
        return None
    names: set[str] = set()
    for term in required.get("nodeSelectorTerms") or ():
        of_term: set[str] | None = None
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("operator") == "In":
                values = set(field.get("values") or ())
                of_term = values if of_term is None else of_term & values
        if of_term is None:
            return None
        names |= of_term
    return names


def _matches_node(spec: Mapping[str, Any], node: NodeView) -> bool:
    """nodeSelector and required node affinity."""
    labels = node.labels
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = _required(spec)
    if required is None:
        return True
    return any(_matches_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def _matches_term(term: Mapping[str, Any], node: NodeView) -> bool:
    """An empty term matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    named = {"metadata.name": node.name}
    return all(_expression(e, node.labels) for e in expressions) and all(_expression(e, named) for e in fields)


def _expression(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
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
            if value is None or len(values) != 1 or not _INTEGER.match(value) or not _INTEGER.match(values[0]):
                return False
            return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    return False


def preference(spec: Mapping[str, Any], candidate: Candidate) -> tuple[int, int, int, str]:
    """The smallest wins: fewer PreferNoSchedule taints, more preferred affinity, fewer pods."""
    node = candidate.node
    tolerations = spec.get("tolerations") or ()
    untolerated = sum(t[2] == "PreferNoSchedule" and not _tolerated(t, tolerations) for t in node.taints)
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    weight = sum(
        preferred.get("weight", 0)
        for preferred in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        if _matches_term(preferred.get("preference") or {}, node)
    )
    return (untolerated, -weight, candidate.used.pods, node.name)


def unschedulable_message(refusals: Sequence[Refusal], *, may_preempt: bool = True) -> str:
    """The usual sentence; ``refusals``: of each node; ``may_preempt``: by the pod's preemptionPolicy."""
    if not refusals:
        return "no nodes available to schedule pods"
    total = len(refusals)
    why = _counted(reason for refused in refusals for reason in refused.reasons)
    if may_preempt:
        victims = _counted(_NOT_HELPFUL if refused.final else _NO_VICTIMS for refused in refusals)
        preemption = f"0/{total} nodes are available: {victims}."
    else:
        preemption = "not eligible due to preemptionPolicy=Never."
    # The plugin for device claims has its say after each failure, too.
    return f"0/{total} nodes are available: {why}. no new claims to deallocate, preemption: {preemption}"


def _counted(reasons: Iterator[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in Counter(reasons).items()))

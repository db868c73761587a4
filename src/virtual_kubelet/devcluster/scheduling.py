"""Which node can take a pod, and why the others cannot: the scheduler's filters and their words. Pure.

The filters and their order are kube-scheduler's of 1.36 (NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts,
NodeResourcesFit): a node gives the reasons of the first one that refuses. There are no pod affinity, topology spread,
volumes or preemption here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from virtual_kubelet.objects.pod_fitting import (
    NOTHING,
    HostPort,
    Resources,
    Taint,
    matches_node,
    matches_term,
    node_resources,
    ports_conflict,
    required_node_affinity,
    tolerated,
)

__all__ = [
    "Candidate",
    "NodeView",
    "Refusal",
    "node_view",
    "preference",
    "refusal",
    "unschedulable_message",
]

_AFFINITY: Final = "node(s) didn't match Pod's node affinity/selector"
_OTHER_NODES: Final = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
_PORTS: Final = "node(s) didn't have free ports for the requested pod ports"
_TAINTED: Final = "node(s) had untolerated taint(s)"
_UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_NOT_HELPFUL: Final = "Preemption is not helpful for scheduling"
_NO_VICTIMS: Final = "No preemption victims found for incoming pod"


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
        node_resources(status.get("allocatable") or status.get("capacity") or {}),
    )


def refusal(
    spec: Mapping[str, Any], requests: Resources, ports: Sequence[HostPort], candidate: Candidate
) -> Refusal | None:
    """Why this node cannot take the pod; None: it can."""
    node = candidate.node
    tolerations = spec.get("tolerations") or ()
    named = _named_nodes(spec)
    if named is not None and node.name not in named:
        return Refusal([_OTHER_NODES])
    if node.unschedulable and not tolerated((_UNSCHEDULABLE, "", "NoSchedule"), tolerations):
        return Refusal(["node(s) were unschedulable"])
    for taint in node.taints:
        if taint[2] in ("NoSchedule", "NoExecute") and not tolerated(taint, tolerations):
            return Refusal([_TAINTED])
    if not matches_node(spec, node.name, node.labels):
        return Refusal([_AFFINITY])
    if ports and any(ports_conflict(wanted, taken) for wanted in ports for taken in candidate.ports):
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


def _named_nodes(spec: Mapping[str, Any]) -> set[str] | None:
    """The only nodes that a pod's affinity names by ``metadata.name``, as a DaemonSet's does; None: it names none."""
    required = required_node_affinity(spec)
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


def preference(spec: Mapping[str, Any], candidate: Candidate) -> tuple[int, int, int, str]:
    """The smallest wins: fewer PreferNoSchedule taints, more preferred affinity, fewer pods."""
    node = candidate.node
    tolerations = spec.get("tolerations") or ()
    untolerated = sum(t[2] == "PreferNoSchedule" and not tolerated(t, tolerations) for t in node.taints)
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    weight = sum(
        preferred.get("weight", 0)
        for preferred in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        if matches_term(preferred.get("preference") or {}, node.name, node.labels)
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

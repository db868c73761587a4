"""What a pod asks of its node: resources, host ports, node selector and affinity, tolerated taints. Pure.

Over specs as JSON, so that a scheduler and a node can both ask without decoding pods. The rules are those of
component-helpers (resource, scheduling/corev1) and of kube-scheduler's plugins of 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from virtual_kubelet.objects.quantity import Quantity

__all__ = [
    "NOTHING",
    "HostPort",
    "Resources",
    "Taint",
    "host_ports",
    "matches_node",
    "matches_term",
    "node_resources",
    "of_containers",
    "pod_limits",
    "pod_requests",
    "ports_conflict",
    "required_node_affinity",
    "tolerated",
    "tolerates",
    "with_status",
]

A = TypeVar("A", int, Quantity)

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


@lru_cache(maxsize=4096)
def _amount(name: str, text: str) -> int:
    quantity = Quantity(text)
    return quantity.milli_value() if name == "cpu" else quantity.value()


def _amounts(quantities: Mapping[str, str] | None) -> dict[str, int]:
    return {name: _amount(name, text) for name, text in (quantities or {}).items()}


def node_resources(quantities: Mapping[str, str]) -> Resources:
    """Of a Node's ``allocatable``."""
    amounts = _amounts(quantities)
    cpu, memory, storage, pods = (amounts.pop(name, 0) for name in ("cpu", "memory", "ephemeral-storage", "pods"))
    return Resources(cpu, memory, storage, pods, amounts)


def _add(to: dict[str, A], amounts: Mapping[str, A]) -> None:
    for name, amount in amounts.items():
        to[name] = to[name] + amount if name in to else amount


def _amounts_of(container: Mapping[str, Any], kind: str) -> dict[str, int]:
    return _amounts((container.get("resources") or {}).get(kind))


def of_containers(spec: Mapping[str, Any], amounts_of: Callable[[Mapping[str, Any]], Mapping[str, A]]) -> dict[str, A]:
    """Containers and sidecars together, or more if an init container has more (component-helpers'
    ``AggregateContainerRequests``); ``amounts_of`` gives those of one container."""
    total: dict[str, A] = {}
    for container in spec.get("containers") or ():
        _add(total, amounts_of(container))
    if initial := spec.get("initContainers"):
        sidecars: dict[str, A] = {}
        most: dict[str, A] = {}
        for container in initial:
            amounts = amounts_of(container)
            if container.get("restartPolicy") == "Always":
                _add(sidecars, amounts)
                needed = sidecars
            else:
                needed = dict(sidecars)
                _add(needed, amounts)
            for name, amount in needed.items():
                most[name] = max(most.get(name, amount), amount)
        _add(total, sidecars)
        for name, amount in most.items():
            total[name] = max(total.get(name, amount), amount)
    return total


def _total(spec: Mapping[str, Any], kind: str) -> dict[str, int]:
    """Of ``requests`` or ``limits``; what the pod says as a whole counts instead. Without overhead."""
    total = of_containers(spec, lambda container: _amounts_of(container, kind))
    if "resources" in spec:
        total.update(_amounts_of(spec, kind))
    return total


def _most(name: str, quantities: Iterable[str]) -> str:
    return max(quantities, key=lambda text: _amount(name, text))


def with_status(
    spec: Mapping[str, Any], status: Mapping[str, Any], *, only_what_it_has: bool = False
) -> Mapping[str, Any]:
    """A pod's spec in which containers ask for what counts while they are resized: the most of what they ask for, what is
    set aside and what they have; without the first if they cannot have it (``determineContainerReqs``), or nobody wants to
    know (``only_what_it_has``). Where the status does not say what a container has, it is what it asks for."""
    conditions = status.get("conditions") or ()
    infeasible = any(c.get("type") == "PodResizePending" and c.get("reason") == "Infeasible" for c in conditions)
    known = {
        one["name"]: one
        for field in ("containerStatuses", "initContainerStatuses")
        for one in status.get(field) or ()
        if one.get("resources") is not None
    }

    def counted(container: Mapping[str, Any], *, resizable: bool) -> Mapping[str, Any]:
        found = known.get(container["name"]) if resizable else None
        if found is None:
            return container
        resources = container.get("resources") or {}
        sources = [found["resources"].get("requests") or {}, found.get("allocatedResources") or {}]
        sources += [] if infeasible or only_what_it_has else [resources.get("requests") or {}]
        names = {name for source in sources for name in source}
        most = {name: _most(name, [source[name] for source in sources if name in source]) for name in sorted(names)}
        return {**container, "resources": {**resources, "requests": most}}

    changed = {"containers": [counted(one, resizable=True) for one in spec.get("containers") or ()]}
    if initial := spec.get("initContainers"):
        changed["initContainers"] = [counted(one, resizable=one.get("restartPolicy") == "Always") for one in initial]
    return {**spec, **changed}


def pod_requests(spec: Mapping[str, Any]) -> Resources:
    """What a pod takes of its node, its overhead included (component-helpers' ``PodRequests``)."""
    total = _total(spec, "requests")
    if overhead := spec.get("overhead"):
        _add(total, _amounts(overhead))
    cpu, memory, storage = (total.pop(name, 0) for name in ("cpu", "memory", "ephemeral-storage"))
    total.pop("pods", None)
    return Resources(cpu, memory, storage, 1, {name: amount for name, amount in total.items() if amount})


def pod_limits(spec: Mapping[str, Any]) -> dict[str, int]:
    """What a pod may use at most, by resource: thousandths of CPUs, else whole units; what is missing is not limited as a
    whole. Overhead adds to a limit that there is (component-helpers' ``PodLimits``)."""
    total = _total(spec, "limits")
    _add(total, {name: amount for name, amount in _amounts(spec.get("overhead")).items() if total.get(name)})
    return total


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


def ports_conflict(wanted: HostPort, taken: HostPort) -> bool:
    """Whether one cannot be had while the other is taken."""
    return wanted[1:] == taken[1:] and (wanted[0] == taken[0] or _ANY_IP in (wanted[0], taken[0]))


def tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    """Whether one toleration matches (``v1.Toleration.ToleratesTaint``)."""
    key, value, effect = taint
    if toleration.get("effect") and toleration["effect"] != effect:
        return False
    if toleration.get("key") and toleration["key"] != key:
        return False
    operator = toleration.get("operator") or "Equal"
    return operator == "Exists" or (operator == "Equal" and toleration.get("value", "") == value)


def tolerated(taint: Taint, tolerations: Iterable[Mapping[str, Any]]) -> bool:
    return any(tolerates(toleration, taint) for toleration in tolerations)


def required_node_affinity(spec: Mapping[str, Any]) -> Mapping[str, Any] | None:
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required: Mapping[str, Any] | None = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return required


def matches_node(spec: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """Whether a node's name and labels suit the pod's nodeSelector and required node affinity."""
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    required = required_node_affinity(spec)
    if required is None:
        return True
    return any(matches_term(term, name, labels) for term in required.get("nodeSelectorTerms") or ())


def matches_term(term: Mapping[str, Any], name: str, labels: Mapping[str, str]) -> bool:
    """An empty term matches nothing."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    named = {"metadata.name": name}
    return all(_expression(e, labels) for e in expressions) and all(_expression(e, named) for e in fields)


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

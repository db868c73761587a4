"""What follows from a node's conditions: taints, and conditions of a node that is silent. Pure.

Kubernetes source: ``pkg/controller/nodelifecycle`` of 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from virtual_kubelet.devcluster.registry.nodes import NOT_READY_TAINT

__all__ = ["UNREACHABLE_TAINT", "condition", "mark_silent", "ready_status", "taint_by_conditions"]

UNREACHABLE_TAINT: Final = "node.kubernetes.io/unreachable"
_TTL: Final = "node.alpha.kubernetes.io/ttl"
#: NoSchedule taints by condition and its status; of Ready's two one at most holds.
_BY_CONDITION: Final = (
    (NOT_READY_TAINT, "Ready", "False"),
    (UNREACHABLE_TAINT, "Ready", "Unknown"),
    ("node.kubernetes.io/memory-pressure", "MemoryPressure", "True"),
    ("node.kubernetes.io/disk-pressure", "DiskPressure", "True"),
    ("node.kubernetes.io/network-unavailable", "NetworkUnavailable", "True"),
    ("node.kubernetes.io/pid-pressure", "PIDPressure", "True"),
)
_UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
#: Conditions that the kubelet owns: silent together.
_OWNED: Final = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


def condition(node: Mapping[str, Any], kind: str) -> dict[str, Any] | None:
    """The condition of this type; None: it has never been written."""
    return next((c for c in node["status"].get("conditions") or () if c.get("type") == kind), None)


def ready_status(node: Mapping[str, Any]) -> str:
    """``True``, ``False`` or ``Unknown``; empty: the condition has never been written."""
    ready = condition(node, "Ready")
    return "" if ready is None else str(ready.get("status", ""))


def mark_silent(node: dict[str, Any], now: str) -> None:
    """All that the kubelet says is unknown: it has stopped saying it."""
    conditions = node["status"].setdefault("conditions", [])
    for kind in _OWNED:
        known = condition(node, kind)
        if known is None:
            conditions.append(
                {
                    "type": kind,
                    "status": "Unknown",
                    "lastHeartbeatTime": node["metadata"]["creationTimestamp"],
                    "lastTransitionTime": now,
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                }
            )
        elif known.get("status") != "Unknown":
            known.update(
                status="Unknown",
                reason="NodeStatusUnknown",
                message="Kubelet stopped posting node status.",
                lastTransitionTime=now,
            )


def taint_by_conditions(node: dict[str, Any], now: str) -> None:
    """Taints that say what the conditions say; and the annotation that kubelets expect of the TTL controller."""
    node["metadata"].setdefault("annotations", {}).setdefault(_TTL, "0")
    ready = ready_status(node)
    wanted: dict[tuple[str, str], bool] = {}
    for key, kind, status in _BY_CONDITION:
        found = condition(node, kind)
        if found is not None:
            wanted[key, "NoSchedule"] = found.get("status") == status
        elif kind != "Ready":
            wanted[key, "NoSchedule"] = False
        # Until its Ready condition is written, a node keeps the taint it was born with.
    wanted[_UNSCHEDULABLE, "NoSchedule"] = bool(node["spec"].get("unschedulable"))
    if ready:
        wanted[NOT_READY_TAINT, "NoExecute"] = ready == "False"
        wanted[UNREACHABLE_TAINT, "NoExecute"] = ready == "Unknown"
    taints = node["spec"].get("taints") or []
    for (key, effect), want in wanted.items():
        has = any(t.get("key") == key and t.get("effect") == effect for t in taints)
        if has and not want:
            taints = [t for t in taints if t.get("key") != key or t.get("effect") != effect]
        elif want and not has:
            taints = [*taints, {"key": key, "effect": effect, "timeAdded": now}]
    if taints:
        node["spec"]["taints"] = taints
    else:
        node["spec"].pop("taints", None)

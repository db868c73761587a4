"""Keeps a Node's NoSchedule taints true to its Ready condition and to ``spec.unschedulable``."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.registry.nodes import NOT_READY_TAINT

__all__ = ["NodeTaintController", "is_ready"]

_UNREACHABLE: Final = "node.kubernetes.io/unreachable"
_UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_TTL: Final = "node.alpha.kubernetes.io/ttl"


class NodeTaintController(Controller[str]):
    """Keys are nodes."""

    def __init__(self, state: ClusterState) -> None:
        super().__init__()
        self._state = state
        state.nodes.objects.listen(lambda change: self.enqueue(change.last.key[1]))

    def reconcile(self, key: str) -> None:
        stored = self._state.nodes.objects.get("", key)
        if stored is not None:
            self._state.nodes.change(stored, _taint)


def ready_status(node: dict[str, Any]) -> str:
    """``True``, ``False`` or ``Unknown``; empty: the condition has never been written."""
    for condition in node["status"].get("conditions") or ():
        if condition.get("type") == "Ready":
            return str(condition.get("status", ""))
    return ""


def is_ready(node: dict[str, Any]) -> bool:
    return ready_status(node) == "True"


def _taint(node: dict[str, Any]) -> None:
    node["metadata"].setdefault("annotations", {}).setdefault(_TTL, "0")
    ready = ready_status(node)
    wanted = {
        # Until its condition is written, a node keeps the taint it was born with.
        NOT_READY_TAINT: ready == "False" if ready else None,
        _UNREACHABLE: ready == "Unknown",
        _UNSCHEDULABLE: bool(node["spec"].get("unschedulable")),
    }
    taints = node["spec"].get("taints") or []
    for key, want in wanted.items():
        has = any(t.get("key") == key and t.get("effect") == "NoSchedule" for t in taints)
        if want is False and has:
            taints = [t for t in taints if t.get("key") != key or t.get("effect") != "NoSchedule"]
        elif want and not has:
            taints = [*taints, {"key": key, "effect": "NoSchedule"}]
    if taints:
        node["spec"]["taints"] = taints
    else:
        node["spec"].pop("taints", None)

"""Evicts pods from nodes with NoExecute taints that they do not tolerate, or not for longer.

Kubernetes source: ``pkg/controller/tainteviction`` of 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.event_log import EventLog, pod_reference
from virtual_kubelet.devcluster.pod_index import PodIndex
from virtual_kubelet.devcluster.request_options import DeleteOptions
from virtual_kubelet.devcluster.storage import Change, Key, StoredObject
from virtual_kubelet.devcluster.subresources import set_condition
from virtual_kubelet.objects.pod_fitting import Taint, tolerates
from virtual_kubelet.objects.times import format_time

__all__ = ["TaintEvictionController", "tolerated_seconds"]

_ENDLESS: Final = float("inf")


def tolerated_seconds(taints: Iterable[Taint], tolerations: Iterable[dict[str, Any]]) -> float:
    """How long a pod may stay on a node with these NoExecute taints: 0, so many seconds, or infinity.

    The shortest of all tolerations that match counts, whichever taint they match (``GetMinTolerationTime``).
    """
    used: list[dict[str, Any]] = []
    for taint in taints:
        matching = next((t for t in tolerations if tolerates(t, taint)), None)
        if matching is None:
            return 0.0
        used.append(matching)
    return min((max(float(t["tolerationSeconds"]), 0.0) for t in used if "tolerationSeconds" in t), default=_ENDLESS)


class _Eviction(NamedTuple):
    uid: str
    began: float
    due: float


class TaintEvictionController(Controller[Key]):
    """Keys are pods. The time runs from when the taint was seen; it starts anew with this process."""

    def __init__(self, state: ClusterState, pods: PodIndex) -> None:
        super().__init__()
        self._state = state
        self._pods = pods
        self._events = EventLog(state, "taint-eviction-controller")
        #: NoExecute taints of the nodes that have some.
        self._taints: dict[str, list[Taint]] = {}
        self._evictions: dict[Key, _Eviction] = {}
        state.nodes.objects.listen(self._on_node)
        state.pods.objects.listen(self._on_pod)

    def _on_node(self, change: Change) -> None:
        name = change.last.key[1]
        taints: list[Taint] = []
        # Few nodes have any: what does not occur need not be decoded.
        if change.after is not None and b'"NoExecute"' in change.after.raw:
            listed = change.after.decode()["spec"].get("taints") or ()
            taints = [(t["key"], t.get("value", ""), t["effect"]) for t in listed if t["effect"] == "NoExecute"]
        if taints == self._taints.get(name, []):
            return
        if taints:
            self._taints[name] = taints
        else:
            del self._taints[name]
        for pod in self._pods.pods_of(name):
            self.enqueue(pod.key)

    def _on_pod(self, change: Change) -> None:
        key = change.last.key
        node = change.after.fields["spec.nodeName"] if change.after is not None else ""
        if node in self._taints or key in self._evictions:
            self.enqueue(key)

    def reconcile(self, key: Key) -> None:
        stored = self._state.pods.objects.get(*key)
        eviction = self._evictions.get(key)
        if eviction is not None and (stored is None or stored.uid != eviction.uid):
            self._drop(key)
            eviction = None
        if stored is None:
            return
        taints = self._taints.get(stored.fields["spec.nodeName"], [])
        pod = stored.decode()
        if not taints or "deletionTimestamp" in pod["metadata"]:
            self._cancel(stored)
            return
        seconds = tolerated_seconds(taints, pod["spec"].get("tolerations") or [])
        if seconds == _ENDLESS:
            self._cancel(stored)
            return
        now = self._state.clock.monotonic()
        began = eviction.began if eviction is not None else now
        if began + seconds <= now:
            self._drop(key)
            self._evict(stored)
        elif eviction is None or eviction.due != began + seconds:
            self._evictions[key] = _Eviction(stored.uid, began, began + seconds)
            self.enqueue_after(key, began + seconds - now)

    def _drop(self, key: Key) -> None:
        self._evictions.pop(key, None)
        self.forget(key)

    def _cancel(self, pod: StoredObject) -> None:
        if pod.key in self._evictions:
            self._drop(pod.key)
            message = f"Cancelling deletion of Pod {pod.key[0]}/{pod.key[1]}"
            self._events.record_about(pod_reference(pod), "Normal", "TaintManagerEviction", message)

    def _evict(self, pod: StoredObject) -> None:
        message = f"Marking for deletion Pod {pod.key[0]}/{pod.key[1]}"
        self._events.record_about(pod_reference(pod), "Normal", "TaintManagerEviction", message)
        condition = {
            "type": "DisruptionTarget",
            "observedGeneration": pod.generation,
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": format_time(self._state.clock.now()),
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
        }
        marked = self._state.pods.change(pod, lambda obj: set_condition(obj, condition))
        self._state.pods.delete(marked, DeleteOptions())

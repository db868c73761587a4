"""Removes pods that are bound to nodes that are not there (any more).

Kubernetes source: ``pkg/controller/podgc`` of 1.36, which looks every 20 s at nodes that have been missing for 40 s.
"""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.pod_index import PodIndex
from virtual_kubelet.devcluster.request_options import DeleteOptions
from virtual_kubelet.devcluster.storage import Change, StoredObject
from virtual_kubelet.devcluster.subresources import set_condition
from virtual_kubelet.objects.times import format_time

__all__ = ["QUARANTINE", "PodGarbageCollector"]

#: Seconds that a node must have been missing: it may come back, or come a little later than its pods.
QUARANTINE: Final = 40.0
_ENDED: Final = ("Succeeded", "Failed")


class PodGarbageCollector(Controller[str]):
    """Keys are nodes."""

    def __init__(self, state: ClusterState, pods: PodIndex, *, quarantine: float = QUARANTINE) -> None:
        """``quarantine``: seconds."""
        super().__init__()
        self._state = state
        self._pods = pods
        self._quarantine = quarantine
        self._missing: dict[str, float] = {}
        state.nodes.objects.listen(self._on_node)
        state.pods.objects.listen(self._on_pod)

    def _on_node(self, change: Change) -> None:
        name = change.last.key[1]
        if change.after is not None:
            self._missing.pop(name, None)
            self.forget(name)
        else:
            self.enqueue(name)

    def _on_pod(self, change: Change) -> None:
        node = change.after.fields["spec.nodeName"] if change.after is not None else ""
        if node and node not in self._missing and self._state.nodes.objects.get("", node) is None:
            self.enqueue(node)

    def reconcile(self, key: str) -> None:
        pods = list(self._pods.pods_of(key))
        if not pods or self._state.nodes.objects.get("", key) is not None:
            self._missing.pop(key, None)
            return
        now = self._state.clock.monotonic()
        since = self._missing.setdefault(key, now)
        if now - since < self._quarantine:
            self.enqueue_after(key, since + self._quarantine - now)
            return
        del self._missing[key]
        for pod in pods:
            self._collect(pod)

    def _collect(self, pod: StoredObject) -> None:
        condition = {
            "type": "DisruptionTarget",
            "observedGeneration": pod.generation,
            "status": "True",
            "lastProbeTime": None,
            "lastTransitionTime": format_time(self._state.clock.now()),
            "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
        }

        def fail(obj: dict[str, Any]) -> None:
            obj["status"]["phase"] = "Failed"
            set_condition(obj, condition)

        if pod.fields["status.phase"] not in _ENDED:
            pod = self._state.pods.change(pod, fail)
        self._state.pods.delete(pod, DeleteOptions(grace=0))

"""Binds pods to nodes that can take them; those that none can take wait, and say why."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.event_log import EventLog
from virtual_kubelet.devcluster.node_controller import is_ready
from virtual_kubelet.devcluster.scheduling import (
    Candidate,
    NodeView,
    Resources,
    node_view,
    pod_requests,
    refusals,
    unschedulable_message,
)
from virtual_kubelet.devcluster.storage import Change, Key, StoredObject
from virtual_kubelet.devcluster.subresources import bind, set_condition
from virtual_kubelet.objects.times import format_time

__all__ = ["Scheduler"]

NAME: Final = "default-scheduler"
_ENDED: Final = ("Succeeded", "Failed")
_NOTHING: Final = Resources(0, 0, 0)


class Scheduler(Controller[Key]):
    """Keys are pods. A pod that does not fit is looked at again when a node or another pod makes room."""

    def __init__(self, state: ClusterState) -> None:
        super().__init__()
        self._state = state
        self._events = EventLog(state, NAME)
        self._nodes: dict[str, NodeView] = {}
        self._used: dict[str, Resources] = {}
        #: What each bound pod takes, by its UID: (node, resources).
        self._taken: dict[str, tuple[str, Resources]] = {}
        self._waiting: dict[Key, None] = {}
        state.nodes.objects.listen(self._on_node)
        state.pods.objects.listen(self._on_pod)

    def _on_node(self, change: Change) -> None:
        name = change.last.key[1]
        if change.after is None:
            self._nodes.pop(name, None)
            self._retry()
            return
        node = change.after.decode()
        view = node_view(node, ready=is_ready(node))
        if self._nodes.get(name) != view:
            self._nodes[name] = view
            self._retry()

    def _on_pod(self, change: Change) -> None:
        after = change.after
        uid = change.last.uid
        node = after.fields["spec.nodeName"] if after is not None else ""
        counts = bool(node) and after is not None and after.fields["status.phase"] not in _ENDED
        if counts and uid not in self._taken:
            assert after is not None
            taken = pod_requests(after.decode()["spec"])
            self._taken[uid] = (node, taken)
            self._used[node] = self._used.get(node, _NOTHING).plus(taken)
        elif not counts and uid in self._taken:
            of, taken = self._taken.pop(uid)
            self._used[of] = self._used[of].minus(taken)
            self._retry()
        key = change.last.key
        if after is None or node:
            self._waiting.pop(key, None)
        elif after.fields["spec.schedulerName"] == NAME and key not in self._waiting:
            self.enqueue(key)

    def _retry(self) -> None:
        for key in self._waiting:
            self.enqueue(key)
        self._waiting.clear()

    def reconcile(self, key: Key) -> None:
        stored = self._state.pods.objects.get(*key)
        if stored is None or stored.fields["spec.nodeName"] or stored.fields["spec.schedulerName"] != NAME:
            return
        pod = stored.decode()
        spec = pod["spec"]
        if (
            "deletionTimestamp" in pod["metadata"]
            or stored.fields["status.phase"] in _ENDED
            or spec.get("schedulingGates")
        ):
            return
        requests = pod_requests(spec)
        best: Candidate | None = None
        reasons: list[list[str]] = []
        for view in self._nodes.values():
            candidate = Candidate(view, self._used.get(view.name, _NOTHING))
            found = refusals(spec, requests, candidate)
            if found:
                reasons.append(found)
            elif best is None or (candidate.used.pods, view.name) < (best.used.pods, best.node.name):
                best = candidate
        if best is None:
            self._give_up(stored, pod, unschedulable_message(reasons))
            return
        bind(self._state, stored, best.node.name)
        message = f"Successfully assigned {key[0]}/{key[1]} to {best.node.name}"
        self._events.record(stored, "Normal", "Scheduled", "Binding", message)

    def _give_up(self, stored: StoredObject, pod: dict[str, Any], message: str) -> None:
        # Before the write: it must not look like a change worth another try.
        self._waiting[stored.key] = None
        conditions = pod["status"].get("conditions") or ()
        if any(c["type"] == "PodScheduled" and c.get("message") == message for c in conditions):
            return
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": format_time(self._state.clock.now()),
            "reason": "Unschedulable",
            "message": message,
        }
        self._state.pods.change(stored, lambda obj: set_condition(obj, condition))
        self._events.record(stored, "Warning", "FailedScheduling", "Scheduling", message)

"""Binds pods to nodes that can take them; those that none can take wait, and say why."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.event_log import EventLog
from virtual_kubelet.devcluster.scheduling import (
    Candidate,
    NodeView,
    Refusal,
    node_view,
    preference,
    refusal,
    unschedulable_message,
)
from virtual_kubelet.devcluster.storage import Change, Key, StoredObject
from virtual_kubelet.devcluster.subresources import bind, set_condition
from virtual_kubelet.objects.pod_fitting import NOTHING, HostPort, Resources, host_ports, pod_requests, with_status
from virtual_kubelet.objects.times import format_time

__all__ = ["Scheduler"]

NAME: Final = "default-scheduler"
_ENDED: Final = ("Succeeded", "Failed")


class _Taken(NamedTuple):
    """What a bound pod takes of its node; ``generation`` is of the spec that says so."""

    node: str
    generation: int
    resources: Resources
    ports: list[HostPort]


class Scheduler(Controller[Key]):
    """Keys are pods. A pod that does not fit is looked at again when it changes, or a node or another pod makes room."""

    def __init__(self, state: ClusterState) -> None:
        super().__init__()
        self._state = state
        self._events = EventLog(state, NAME)
        self._nodes: dict[str, NodeView] = {}
        self._used: dict[str, Resources] = {}
        self._ports: dict[str, list[HostPort]] = {}
        #: By the pod's UID.
        self._taken: dict[str, _Taken] = {}
        #: Pods that did not fit, with the generation that was looked at.
        self._waiting: dict[Key, int] = {}
        state.nodes.objects.listen(self._on_node)
        state.pods.objects.listen(self._on_pod)

    def _on_node(self, change: Change) -> None:
        name = change.last.key[1]
        if change.after is None:
            self._nodes.pop(name, None)
            self._retry()
            return
        view = node_view(change.after.decode())
        if self._nodes.get(name) != view:
            self._nodes[name] = view
            self._retry()

    def _on_pod(self, change: Change) -> None:
        after, key, uid = change.after, change.last.key, change.last.uid
        node = after.fields["spec.nodeName"] if after is not None else ""
        if node and after is not None and after.fields["status.phase"] not in _ENDED:
            known = self._taken.get(uid)
            # Of a pod whose spec has changed, its status says, too, what it takes.
            if known is None or known.generation != after.generation or after.generation > 1:
                self._give_back(uid)
                taken = self._take(uid, node, after)
                if known is not None and taken.resources != known.resources:
                    self._retry()
        elif uid in self._taken:
            self._give_back(uid)
            self._retry()
        if after is None or node:
            self._waiting.pop(key, None)
        elif after.fields["spec.schedulerName"] == NAME and self._waiting.get(key) != after.generation:
            self._waiting.pop(key, None)
            self.enqueue(key)

    def _take(self, uid: str, node: str, pod: StoredObject) -> _Taken:
        decoded = pod.decode()
        spec = decoded["spec"] if pod.generation == 1 else with_status(decoded["spec"], decoded["status"])
        taken = self._taken[uid] = _Taken(node, pod.generation, pod_requests(spec), host_ports(spec))
        self._used[node] = self._used.get(node, NOTHING).plus(taken.resources)
        if taken.ports:
            self._ports.setdefault(node, []).extend(taken.ports)
        return taken

    def _give_back(self, uid: str) -> None:
        taken = self._taken.pop(uid, None)
        if taken is None:
            return
        self._used[taken.node] = self._used[taken.node].minus(taken.resources)
        for port in taken.ports:
            self._ports[taken.node].remove(port)

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
        best, refusals = self._choose(spec)
        if best is None:
            message = unschedulable_message(refusals, may_preempt=spec.get("preemptionPolicy") != "Never")
            self._give_up(stored, pod, message)
            return
        bind(self._state, stored, best)
        message = f"Successfully assigned {key[0]}/{key[1]} to {best}"
        self._events.record(stored, "Normal", "Scheduled", "Binding", message)

    def _choose(self, spec: dict[str, Any]) -> tuple[str | None, list[Refusal]]:
        """The best node, or why none will do."""
        requests, ports = pod_requests(spec), host_ports(spec)
        best: tuple[int, int, int, str] | None = None
        refusals: list[Refusal] = []
        for view in self._nodes.values():
            candidate = Candidate(view, self._used.get(view.name, NOTHING), self._ports.get(view.name, ()))
            refused = refusal(spec, requests, ports, candidate)
            if refused is not None:
                refusals.append(refused)
                continue
            rank = preference(spec, candidate)
            best = rank if best is None else min(best, rank)
        return (best[-1] if best is not None else None), refusals

    def _give_up(self, stored: StoredObject, pod: dict[str, Any], message: str) -> None:
        # Before the write: it must not look like a change worth another try.
        self._waiting[stored.key] = stored.generation
        conditions = pod["status"].get("conditions") or ()
        if any(c["type"] == "PodScheduled" and c.get("message") == message for c in conditions):
            return
        condition = {
            "type": "PodScheduled",
            "observedGeneration": stored.generation,
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": format_time(self._state.clock.now()),
            "reason": "Unschedulable",
            "message": message,
        }
        self._state.pods.change(stored, lambda obj: set_condition(obj, condition))
        self._events.record(stored, "Warning", "FailedScheduling", "Scheduling", message)

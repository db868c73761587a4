"""Says what became of nodes that are silent, and taints them by their conditions.

Kubernetes source: ``pkg/controller/nodelifecycle`` of 1.36. Other than there, each node counts for itself: there are no
zones, no rate limit, and no standstill when all nodes are silent at once (a dev cluster often has one only).
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.event_log import EventLog, pod_reference
from virtual_kubelet.devcluster.node_conditions import condition, mark_silent, ready_status, taint_by_conditions
from virtual_kubelet.devcluster.pod_index import PodIndex
from virtual_kubelet.devcluster.storage import Change, StoredObject
from virtual_kubelet.objects.times import format_time, parse_time

__all__ = ["GRACE_PERIOD", "STARTUP_GRACE_PERIOD", "NodeLifecycleController"]

#: kube-controller-manager's --node-monitor-grace-period and --node-startup-grace-period.
GRACE_PERIOD: Final = 50.0
STARTUP_GRACE_PERIOD: Final = 60.0
_LEASES: Final = "kube-node-lease"


class NodeLifecycleController(Controller[str]):
    """Keys are nodes. A sign of life is a new renewTime of the Lease or a new heartbeat of the Ready condition."""

    def __init__(
        self,
        state: ClusterState,
        pods: PodIndex,
        *,
        grace_period: float = GRACE_PERIOD,
        startup_grace_period: float = STARTUP_GRACE_PERIOD,
    ) -> None:
        """Periods in seconds: of silence, and for the first word of a new node."""
        super().__init__()
        self._state = state
        self._pods = pods
        self._grace_period = grace_period
        self._startup_grace_period = startup_grace_period
        self._events = EventLog(state, "node-controller")
        #: When each node gave its last sign of life, by the monotonic clock, and what that was.
        self._alive: dict[str, float] = {}
        self._heartbeats: dict[str, Any] = {}
        self._renewals: dict[str, Any] = {}
        self._registered: dict[str, str] = {}
        state.nodes.objects.listen(self._on_node)
        state.leases.objects.listen(self._on_lease)

    def _on_node(self, change: Change) -> None:
        name = change.last.key[1]
        if change.after is None:
            for known in (self._alive, self._heartbeats):
                known.pop(name, None)
            self.forget(name)
        else:
            ready = condition(change.after.decode(), "Ready")
            heartbeat = None if ready is None else ready.get("lastHeartbeatTime")
            if name not in self._alive or heartbeat != self._heartbeats.get(name):
                self._heartbeats[name] = heartbeat
                self._alive[name] = self._state.clock.monotonic()
        self.enqueue(name)

    def _on_lease(self, change: Change) -> None:
        namespace, name = change.last.key
        if namespace != _LEASES:
            return
        if change.after is None:
            self._renewals.pop(name, None)
            return
        renewed = change.after.decode()["spec"].get("renewTime")
        if renewed != self._renewals.get(name):
            self._renewals[name] = renewed
            if name in self._alive:
                self._alive[name] = self._state.clock.monotonic()

    def reconcile(self, key: str) -> None:
        stored = self._state.nodes.objects.get("", key)
        if stored is None:
            uid = self._registered.pop(key, None)
            if uid is not None:
                self._say(key, uid, "RemovingNode", f"Removing Node {key} from Controller")
            return
        if self._registered.get(key) != stored.uid:
            self._registered[key] = stored.uid
            self._say(key, stored.uid, "RegisteredNode", f"Registered Node {key} in Controller")
        node = stored.decode()
        before = ready_status(node)
        left = self._left(node, before)
        now = format_time(self._state.clock.now())

        def mutate(new: dict[str, Any]) -> None:
            if left <= 0:
                mark_silent(new, now)
            taint_by_conditions(new, now)

        self._state.nodes.change(stored, mutate)
        if left > 0:
            self.enqueue_after(key, left)
        elif before == "True":
            message = f"Node {key} status is now: NodeNotReady"
            self._events.record_about(_reference(key, stored.uid), "Normal", "NodeNotReady", message)
            for pod in list(self._pods.pods_of(key)):
                self._not_ready(pod)

    def _left(self, node: dict[str, Any], ready: str) -> float:
        """Seconds until the node counts as silent."""
        name, now = node["metadata"]["name"], self._state.clock.monotonic()
        if ready:
            return self._alive[name] + self._grace_period - now
        # By its age: this may be another run of the cluster than the one it was made in.
        end = parse_time(node["metadata"]["creationTimestamp"]) + timedelta(seconds=self._startup_grace_period)
        return max((end - self._state.clock.now()).total_seconds(), self._alive[name] + self._grace_period - now)

    def _not_ready(self, pod: StoredObject) -> None:
        """Its node is silent: nobody knows whether it can be reached."""
        now = format_time(self._state.clock.now())
        said = False

        def mutate(obj: dict[str, Any]) -> None:
            nonlocal said
            for known in obj["status"].get("conditions") or ():
                if known.get("type") == "Ready" and known.get("status") == "True":
                    known.update(status="False", lastTransitionTime=now)
                    said = True

        self._state.pods.change(pod, mutate)
        if said:
            self._events.record_about(pod_reference(pod), "Warning", "NodeNotReady", "Node is not ready")

    def _say(self, name: str, uid: str, reason: str, what: str) -> None:
        self._events.record_about(_reference(name, uid), "Normal", reason, f"Node {name} event: {what}")


def _reference(name: str, uid: str) -> dict[str, Any]:
    return {"kind": "Node", "name": name, "uid": uid, "apiVersion": "v1"}

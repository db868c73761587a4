"""Events of the cluster's own controllers, written as the API's event series: repeated ones are counted."""

from __future__ import annotations

import uuid
from typing import Any

from virtual_kubelet.devcluster.bootstrap import create
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.storage import Key, StoredObject
from virtual_kubelet.objects.times import format_micro_time

__all__ = ["EventLog"]


class EventLog:
    """Events of one component about pods."""

    def __init__(self, state: ClusterState, component: str) -> None:
        self._state = state
        self._component = component
        self._known: dict[tuple[str, str, str], Key] = {}

    def record(self, pod: StoredObject, event_type: str, reason: str, action: str, message: str) -> None:
        """Write an event, or count the same one of the same pod up."""
        now = format_micro_time(self._state.clock.now())
        same = (pod.uid, reason, message)
        known = self._state.events.objects.get(*self._known[same]) if same in self._known else None
        if known is not None:

            def count(event: dict[str, Any]) -> None:
                series = event.get("series") or {"count": 1}
                event["series"] = {"count": series["count"] + 1, "lastObservedTime": now}

            self._state.events.change(known, count)
            return
        namespace, name = pod.key
        event = {
            "metadata": {"name": f"{name}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "involvedObject": {
                "kind": "Pod",
                "namespace": namespace,
                "name": name,
                "uid": pod.uid,
                "apiVersion": "v1",
                "resourceVersion": str(pod.revision),
            },
            "reason": reason,
            "message": message,
            "type": event_type,
            "eventTime": now,
            "action": action,
            "reportingComponent": self._component,
            "reportingInstance": f"{self._component}-dev-cluster",
        }
        create(self._state, self._state.events, event)
        if reason != "Scheduled":
            self._known[same] = (namespace, event["metadata"]["name"])  # type: ignore[index]
            self._forget()

    def _forget(self) -> None:
        """Only what is still there need be known."""
        if len(self._known) > 1000:
            self._known = {same: key for same, key in self._known.items() if self._state.events.objects.get(*key)}

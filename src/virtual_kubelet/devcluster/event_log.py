"""Events of the cluster's own controllers; repeated ones are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from virtual_kubelet.devcluster.bootstrap import create
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.storage import Key, StoredObject
from virtual_kubelet.objects.times import format_micro_time, format_time

__all__ = ["EventLog", "pod_reference"]

#: Events that may be counted up, remembered.
_REMEMBERED: Final = 1000


def pod_reference(pod: StoredObject) -> dict[str, Any]:
    """``involvedObject`` of an event about a pod."""
    namespace, name = pod.key
    return {
        "kind": "Pod",
        "namespace": namespace,
        "name": name,
        "uid": pod.uid,
        "apiVersion": "v1",
        "resourceVersion": str(pod.revision),
    }


class EventLog:
    """Events of one component."""

    def __init__(self, state: ClusterState, component: str) -> None:
        self._state = state
        self._component = component
        self._known: dict[tuple[str, str, str], Key] = {}
        self._last = 0

    def record(self, pod: StoredObject, event_type: str, reason: str, action: str, message: str) -> None:
        """About a pod, in the form of events.k8s.io, as the scheduler writes them: repeated, they become a series."""
        now = format_micro_time(self._state.clock.now())

        def count(event: dict[str, Any]) -> None:
            series = event.get("series") or {"count": 1}
            event["series"] = {"count": series["count"] + 1, "lastObservedTime": now}

        written = {
            "eventTime": now,
            "action": action,
            "reportingComponent": self._component,
            "reportingInstance": f"{self._component}-dev-cluster",
        }
        self._write(pod_reference(pod), event_type, reason, message, written, count)

    def record_about(self, about: dict[str, Any], event_type: str, reason: str, message: str) -> None:
        """About an object (``involvedObject``), in the older form that controllers write: repeated, it is counted."""
        now = format_time(self._state.clock.now())

        def count(event: dict[str, Any]) -> None:
            event["count"] = event.get("count", 1) + 1
            event["lastTimestamp"] = now

        written = {
            "source": {"component": self._component},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "reportingComponent": self._component,
            "reportingInstance": "",
        }
        self._write(about, event_type, reason, message, written, count)

    def _stamp(self) -> int:
        """Nanoseconds, as client-go puts them into the names of events; never the same twice."""
        self._last = max(self._last + 1, int(self._state.clock.now().timestamp() * 1_000_000) * 1000)
        return self._last

    def _write(
        self,
        about: dict[str, Any],
        event_type: str,
        reason: str,
        message: str,
        written: dict[str, Any],
        count: Callable[[dict[str, Any]], None],
    ) -> None:
        same = (about["uid"], reason, message)
        known = self._state.events.objects.get(*self._known[same]) if same in self._known else None
        if known is not None:
            self._state.events.change(known, count)
            return
        namespace = about.get("namespace", "default")
        name = f"{about['name']}.{self._stamp():x}"
        event = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": about,
            "reason": reason,
            "message": message,
            "type": event_type,
            **written,
        }
        create(self._state, self._state.events, event)
        # A pod is scheduled once.
        if reason != "Scheduled":
            self._known[same] = (namespace, name)
            if len(self._known) > _REMEMBERED:
                known_keys = self._known.items()
                self._known = {same: key for same, key in known_keys if self._state.events.objects.get(*key)}

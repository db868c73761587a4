"""The row of a pod in ``kubectl get pods`` (``printPod`` of kubectl's server-side printers). Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from virtual_kubelet.devcluster.registry.resource import since

__all__ = ["pod_cells"]


def pod_cells(pod: dict[str, Any], age: str, now: datetime) -> list[Any]:
    """Name, Ready, Status, Restarts, Age, IP, Node, Nominated Node, Readiness Gates."""
    spec, status = pod["spec"], pod["status"]
    sidecars = {c["name"] for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"}
    total = len(spec.get("containers") or ()) + len(sidecars)
    reason, restarts, last, ready, initializing = _init(pod, sidecars)
    if not initializing or _condition(status, "Initialized"):
        reason, restarts, last, ready = _containers(status, reason, restarts, last, ready)
    if "deletionTimestamp" in pod["metadata"]:
        if status.get("reason") == "NodeLost":
            reason = "Unknown"
        elif status.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    shown = str(restarts)
    if restarts and last:
        shown = f"{restarts} ({since(last, now)} ago)"
    gates = spec.get("readinessGates") or []
    passed = sum(_condition(status, gate.get("conditionType", "")) for gate in gates)
    return [
        pod["metadata"]["name"],
        f"{ready}/{total}",
        reason,
        shown,
        age,
        status.get("podIP") or "<none>",
        spec.get("nodeName") or "<none>",
        status.get("nominatedNodeName") or "<none>",
        f"{passed}/{len(gates)}" if gates else "<none>",
    ]


def _condition(status: dict[str, Any], kind: str) -> bool:
    return any(c.get("type") == kind and c.get("status") == "True" for c in status.get("conditions") or ())


def _init(pod: dict[str, Any], sidecars: set[str]) -> tuple[str, int, str, int, bool]:
    """Reason, restarts, time of the last one, ready sidecars, whether init containers still run."""
    spec, status = pod["spec"], pod["status"]
    reason = status.get("reason") or status.get("phase", "")
    if any(
        c.get("type") == "PodScheduled" and c.get("reason") == "SchedulingGated" for c in status.get("conditions") or ()
    ):
        reason = "SchedulingGated"
    restarts, last, ready = 0, "", 0
    containers = spec.get("initContainers") or ()
    for index, container in enumerate(status.get("initContainerStatuses") or ()):
        restarts += container.get("restartCount", 0)
        last = max(last, _finished(container))
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting")
        if terminated is not None and terminated.get("exitCode", 0) == 0:
            continue
        if container["name"] in sidecars and container.get("started"):
            ready += bool(container.get("ready"))
            continue
        if terminated is not None:
            reason = "Init:" + (terminated.get("reason") or _exit(terminated))
        elif waiting is not None and waiting.get("reason") not in (None, "", "PodInitializing"):
            reason = "Init:" + waiting["reason"]
        else:
            reason = f"Init:{index}/{len(containers)}"
        return reason, restarts, last, ready, True
    return reason, restarts, last, ready, False


def _containers(status: dict[str, Any], reason: str, restarts: int, last: str, ready: int) -> tuple[str, int, str, int]:
    running = False
    statuses = status.get("containerStatuses") or ()
    total = sum(c.get("restartCount", 0) for c in statuses)
    if statuses:
        restarts, last = total, ""
    for container in reversed(statuses):
        last = max(last, _finished(container))
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting") or {}, state.get("terminated")
        if waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated is not None:
            reason = terminated.get("reason") or _exit(terminated)
        elif container.get("ready") and "running" in state:
            running = True
            ready += 1
    if reason == "Completed" and running:
        reason = "Running" if _condition(status, "Ready") else "NotReady"
    return reason, restarts, last, ready


def _finished(container: dict[str, Any]) -> str:
    ended = (container.get("lastState") or {}).get("terminated") or {}
    return ended.get("finishedAt") or ""


def _exit(terminated: dict[str, Any]) -> str:
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"

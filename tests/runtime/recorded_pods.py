"""The recorded pods of a real kubelet: what was asked, what was said of them, and what is compared."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from virtual_kubelet.objects.core_v1 import Pod, PodStatus
from virtual_kubelet.objects.times import parse_time

__all__ = ["UID", "EventShape", "Recording", "Shape", "at_once", "read", "shape", "without_repeats"]

UID = "00000000-0000-0000-0000-000000000000"

#: What is compared of a status: all that does not depend on the machine or the moment.
Shape: TypeAlias = tuple[Any, ...]
#: What is compared of a container as it is.
_PLAIN = ("resources", "allocatedResources", "volumeMounts")
#: Type, reason, field path, message.
EventShape: TypeAlias = tuple[str, str, str | None, str]


@dataclass(frozen=True)
class Recording:
    """One pod's life.

    Attributes:
        before: objects made first.
        actions: what was done meanwhile: seconds, verb, and the body or the grace period.
        gaps: seconds between the end of a run and the start of the next, by container and run.
    """

    pod: Pod
    before: list[dict[str, Any]]
    shapes: list[Shape]
    actions: list[tuple[float, str, Any]]
    events: set[EventShape]
    gaps: dict[tuple[str, int], float]
    complete: bool


def read(path: Path) -> Recording:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    pod = msgspec.convert(rows[0]["pod"], Pod)
    name = pod.metadata.name or ""
    pod.metadata.namespace, pod.metadata.uid, pod.metadata.generation = "default", UID, 1
    statuses = [row["status"] for row in rows if row.get("status", {}).get("containerStatuses")]
    shapes = without_repeats([shape(status) for status in statuses])
    if shapes and shapes[-1][0] == "Running" and "PodFailed" in str(shapes[-1][-1]):
        shapes.pop()  # the recording ends a sync before the pod does
    if shapes and shapes[-1][0] == "Pending" and "PodFailed" in str(shapes[-1][-1]):
        shapes.pop()
    actions = [_action(row) for row in rows if "action" in row]
    events = {
        (e["type"], e["reason"], e["field"], without_uid(e["message"], name))
        for row in rows
        for e in row.get("events", ())
    }
    shapes = at_once(shapes)
    complete = bool(shapes) and shapes[-1][0] in ("Succeeded", "Failed")
    return Recording(pod, rows[0].get("before") or [], shapes, actions, events, gaps(statuses), complete)


def _action(row: dict[str, Any]) -> tuple[float, str, Any]:
    verb, _, rest = row["action"].partition(" ")
    if verb == "DELETE":
        grace = rest.rpartition("=")[2]
        return row["t"], verb, None if grace == "None" else int(grace)
    start = rest.find("{")
    return row["t"], f"{verb} {rest[:start].strip()}", json.loads(rest[start:]) if start >= 0 else None


def without_uid(message: str, name: str) -> str:
    """Pods are recreated: theirs is another UID, and another address."""
    head, mark, tail = message.partition(f"{name}_default(")
    return head + mark + tail.partition(")")[2] if mark else head


def shape(status: Any) -> Shape:
    """Of a status as JSON."""
    return (
        status["phase"],
        status.get("reason"),
        status.get("message"),
        status.get("observedGeneration"),
        tuple(
            (
                container["name"],
                state_of(container["state"]),
                state_of(container.get("lastState") or {}),
                container["restartCount"],
                container["ready"],
                container.get("started"),
                container["image"].rpartition("/")[2],
                bool(container.get("containerID")) or "StartError" in str(container["state"]),
                json.dumps({name: container.get(name) for name in _PLAIN}, sort_keys=True),
                "StartError" in str(container["state"]) or json.dumps(container.get("user"), sort_keys=True),
            )
            for kind in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
            for container in status.get(kind) or ()
        ),
        tuple(
            (c["type"], c["status"], c.get("reason"), c.get("message"), c.get("observedGeneration"))
            for c in sorted(status["conditions"], key=lambda c: str(c["type"]))
            if "/" not in c["type"]
        ),
    )


def state_of(state: Any) -> Shape:
    for kind, content in state.items():
        message = content.get("message")
        if kind == "waiting" and message:
            message = without_uid(message.partition("pod=")[0].partition(" in Pod ")[0], "")
        if kind == "terminated":
            # A signal (we tell it, containerd does not) and the words of runc are the runtime's own.
            message = None if content["reason"] == "StartError" else message
        return (kind, content.get("reason"), content.get("exitCode"), message)
    return ()


def as_json(status: PodStatus) -> Any:
    """With the fields that JSON leaves out where they are false or empty."""
    found = msgspec.to_builtins(status)
    for kind in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
        started = {} if kind == "ephemeralContainerStatuses" else {"started": False}
        found[kind] = [
            {"lastState": {}, "restartCount": 0, "ready": False} | started | container
            for container in found.get(kind) or ()
        ]
    return found


def without_repeats(shapes: Iterable[Shape]) -> list[Shape]:
    found: list[Shape] = []
    for one in shapes:
        if not found or one != found[-1]:
            found.append(one)
    return found


def at_once(shapes: list[Shape]) -> list[Shape]:
    """A kubelet ends a pod in two or three statuses, a sync apart: its last container has ended; its sandbox has; the pod
    has. Ours is one. Only what is said when all is over is kept of them."""
    final = next((n for n, one in enumerate(shapes) if one[0] in ("Succeeded", "Failed")), None)
    if final is None:
        return shapes
    first = final
    while (
        first > 0 and not _runs(shapes[first - 1]) and (_is_over(shapes[first - 1]) or _sandbox_gone(shapes, first - 1))
    ):
        first -= 1
    return [*shapes[:first], shapes[-1]]


def _runs(one: Shape) -> bool:
    return any(container[1][:1] == ("running",) for container in one[4])


def _is_over(one: Shape) -> bool:
    return any(c[0] == "Ready" and c[2] in ("PodCompleted", "PodFailed") for c in one[5])


def _sandbox_gone(shapes: list[Shape], n: int) -> bool:
    def ready(one: Shape) -> bool:
        return any(c[0] == "PodReadyToStartContainers" and c[1] == "True" for c in one[5])

    return not ready(shapes[n]) and any(ready(one) for one in shapes[:n])


def gaps(statuses: list[Any]) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], float] = {}
    for status in statuses:
        for container in [*status.get("initContainerStatuses", ()), *status["containerStatuses"]]:
            running, before = container["state"].get("running"), (container.get("lastState") or {}).get("terminated")
            if running and before and before.get("finishedAt"):
                seconds = parse_time(running["startedAt"]) - parse_time(before["finishedAt"])
                found[container["name"], container["restartCount"]] = seconds.total_seconds()
    return found

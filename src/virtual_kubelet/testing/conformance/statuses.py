"""Short ways into a pod's status, and what checks expect of it. Pure, but for raising ``PromiseBrokenError``."""

from __future__ import annotations

from datetime import datetime

from virtual_kubelet.objects.core_v1 import (
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStatus,
    Pod,
)
from virtual_kubelet.objects.times import parse_time
from virtual_kubelet.testing.conformance.expectations import PromiseBrokenError, expect
from virtual_kubelet.testing.pod_history import status_line

__all__ = [
    "condition",
    "container",
    "expect_terminated",
    "last_terminated",
    "moment",
    "restarts",
    "running_since",
    "terminated",
    "waiting_reason",
]


def container(pod: Pod, name: str = "main") -> ContainerStatus:
    """The status of a container of any kind. Raises ``PromiseBrokenError`` if it has none."""
    found = _find(pod, name)
    if found is None:
        raise PromiseBrokenError(f"the pod's status has the container {name}", status_line(pod))
    return found


def terminated(pod: Pod, name: str = "main") -> ContainerStateTerminated | None:
    """How it has ended, if its state says that it has."""
    found = _find(pod, name)
    return found.state.terminated if found is not None and found.state is not None else None


def last_terminated(pod: Pod, name: str = "main") -> ContainerStateTerminated | None:
    """How its run before has ended."""
    found = _find(pod, name)
    return found.last_state.terminated if found is not None and found.last_state is not None else None


def running_since(pod: Pod, name: str = "main") -> str:
    """When its present run began; empty if it does not run."""
    running = _running(pod, name)
    return running.started_at or "" if running is not None else ""


def waiting_reason(pod: Pod, name: str = "main") -> str:
    found = _find(pod, name)
    waiting = found.state.waiting if found is not None and found.state is not None else None
    return waiting.reason or "" if waiting is not None else ""


def restarts(pod: Pod, name: str = "main") -> int:
    found = _find(pod, name)
    return found.restart_count if found is not None else 0


def condition(pod: Pod, kind: str) -> tuple[str, str]:
    """Status and reason of a condition; two empty words if there is none."""
    for one in pod.status.conditions or ():
        if one.type == kind:
            return one.status, one.reason or ""
    return "", ""


def moment(text: str | None) -> datetime:
    """A time of the API. Raises ``PromiseBrokenError`` if it is none."""
    try:
        return parse_time(text or "")
    except ValueError:
        raise PromiseBrokenError("a time as RFC 3339", repr(text)) from None


def expect_terminated(pod: Pod, code: int, reason: str, name: str = "main") -> ContainerStateTerminated:
    """It has ended with this code and reason, and with times in their order."""
    ended = terminated(pod, name)
    expect(
        ended is not None and (ended.exit_code, ended.reason) == (code, reason),
        f"container {name} is terminated with exit code {code}, reason {reason}",
        status_line(pod),
    )
    assert ended is not None
    expect(
        moment(ended.started_at) <= moment(ended.finished_at),
        f"container {name} has started before it has finished",
        f"started {ended.started_at}, finished {ended.finished_at}",
    )
    return ended


def _find(pod: Pod, name: str) -> ContainerStatus | None:
    status = pod.status
    lists = (status.container_statuses, status.init_container_statuses, status.ephemeral_container_statuses)
    return next((one for statuses in lists for one in statuses or () if one.name == name), None)


def _running(pod: Pod, name: str) -> ContainerStateRunning | None:
    found = _find(pod, name)
    return found.state.running if found is not None and found.state is not None else None

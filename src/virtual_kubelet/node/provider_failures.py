"""Statuses that the node itself writes, where the provider has none to give. Pure.

Reasons and messages are the Go framework's (node/pod.go, node/sync.go); the exit code of what was lost is 137 as on a
kubelet, not -137.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from msgspec.structs import replace

from virtual_kubelet.objects.core_v1 import (
    ContainerState,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    Pod,
    PodStatus,
)
from virtual_kubelet.objects.times import format_time

__all__ = [
    "config_error_status",
    "failed_status",
    "lost_status",
    "pending_status",
    "rejected_status",
    "terminated_status",
]

_LOST: Final = "The pod status was not found and may have been deleted from the provider"
_LOST_CONTAINER: Final = "Container was not found and was likely deleted"
_ENDED_CONTAINER: Final = "Container was terminated. The exit code may not reflect the real exit code"


def pending_status(current: PodStatus, reason: str, message: str) -> PodStatus:
    """A pod that could not be created yet, and will be tried again."""
    return replace(current, phase="Pending", reason=reason, message=message)


def failed_status(current: PodStatus, reason: str, message: str) -> PodStatus:
    """A pod that can never run here."""
    return replace(current, phase="Failed", reason=reason, message=message)


def rejected_status(current: PodStatus, reason: str, message: str, now: datetime) -> PodStatus:
    """A pod that the node does not take."""
    return replace(failed_status(current, reason, message), start_time=current.start_time or format_time(now))


def lost_status(current: PodStatus, now: datetime) -> PodStatus:
    """A pod that had run and that the provider does not know any more."""
    return _all_ended(
        replace(current, phase="Failed", reason="NotFound", message=_LOST), now, 137, "NotFound", _LOST_CONTAINER
    )


def terminated_status(current: PodStatus, now: datetime) -> PodStatus:
    """A pod that a polled provider has deleted: what became of its containers is not known."""
    ended = replace(current, phase="Succeeded", reason="Terminated", message=None)
    return _all_ended(ended, now, 0, "Terminated", _ENDED_CONTAINER)


def _all_ended(status: PodStatus, now: datetime, exit_code: int, reason: str, message: str) -> PodStatus:
    def ended(container: ContainerStatus) -> ContainerStatus:
        state = container.state
        if state is not None and state.terminated is not None:
            return container
        started = state.running.started_at if state is not None and state.running is not None else None
        terminated = ContainerStateTerminated(
            exit_code=exit_code,
            reason=reason,
            message=message,
            started_at=started,
            finished_at=format_time(now),
            container_id=container.container_id,
        )
        return replace(container, ready=False, started=False, state=ContainerState(terminated=terminated))

    conditions = [
        replace(c, status="False", last_transition_time=format_time(now))
        if c.type in ("Ready", "ContainersReady") and c.status == "True"
        else c
        for c in status.conditions or ()
    ]
    return replace(
        status,
        conditions=conditions or None,
        container_statuses=[ended(c) for c in status.container_statuses or ()] or None,
    )


def config_error_status(pod: Pod, container: str, reason: str, message: str) -> PodStatus:
    """A pod that waits for a ConfigMap or Secret: its container waits with the kubelet's reason."""

    def waiting(name: str, image: str) -> ContainerStatus:
        state = ContainerState(
            waiting=ContainerStateWaiting(reason=reason, message=message)
            if name == container
            else ContainerStateWaiting(reason="PodInitializing" if name in main and init else "ContainerCreating")
        )
        return ContainerStatus(
            name=name, image=image, image_id="", ready=False, restart_count=0, started=False, state=state
        )

    init, containers = pod.spec.init_containers or [], pod.spec.containers
    main = {c.name for c in containers}
    return replace(
        pod.status,
        phase="Pending",
        init_container_statuses=[waiting(c.name, c.image or "") for c in init] or None,
        container_statuses=[waiting(c.name, c.image or "") for c in containers],
    )

"""Whether the node is Ready: its gates, the provider's ping, and what the provider itself says. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from virtual_kubelet.objects.core_v1 import NodeCondition

__all__ = ["NOT_READY_REASON", "NodeReadiness", "Obstacle", "PingResult", "obstacles_to_ready", "ready_condition"]

#: Reasons of the Ready condition, as a kubelet gives them.
NOT_READY_REASON = "KubeletNotReady"
READY_REASON = "KubeletReady"
READY_MESSAGE = "kubelet is posting ready status"


class Obstacle(NamedTuple):
    """Why the node is not Ready: ``reason`` is CamelCase, ``message`` a sentence for people.

    ``starting`` says that nothing is wrong, it has only not come up yet.
    """

    reason: str
    message: str
    starting: bool = False


class PingResult(NamedTuple):
    """What the last ping came to; ``message`` says why it failed."""

    ok: bool
    message: str = ""


class NodeReadiness:
    """Named gates, each open or closed with a reason; the node is Ready only while all are open.

    Whoever starts a part of the node (the pod controller, the HTTPS server) names a gate for it and opens it when the
    part is up. Without gates nothing is waited for but the provider's ping. Not thread-safe: use it in the loop.
    """

    def __init__(self, gates: Iterable[str] = ()) -> None:
        self._closed = {gate: Obstacle(NOT_READY_REASON, f"{gate}: not up yet", starting=True) for gate in gates}
        self._watchers: list[Callable[[], None]] = []

    @property
    def obstacles(self) -> Sequence[Obstacle]:
        """Why it is not Ready, in the order in which the gates were closed; empty if all are open."""
        return tuple(self._closed.values())

    def open(self, gate: str) -> None:
        """This part is up. A gate that is open stays so."""
        if self._closed.pop(gate, None) is not None:
            self._tell()

    def close(self, gate: str, message: str, *, reason: str = NOT_READY_REASON) -> None:
        """This part is not up (any more)."""
        obstacle = Obstacle(reason, message)
        if self._closed.get(gate) != obstacle:
            self._closed[gate] = obstacle
            self._tell()

    def watch(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` (it must not block) whenever a gate has changed."""
        self._watchers.append(changed)

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()


def obstacles_to_ready(gates: Sequence[Obstacle], ping: PingResult | None) -> Sequence[Obstacle]:
    """All that keeps the node from being Ready. The gates come first: what is not up cannot be judged."""
    if ping is None:
        return (*gates, Obstacle(NOT_READY_REASON, "the provider has not answered its first ping yet", starting=True))
    return gates if ping.ok else (*gates, Obstacle("ProviderPingFailed", ping.message))


def ready_condition(obstacles: Sequence[Obstacle], verdict: NodeCondition | None = None) -> NodeCondition:
    """The Ready condition, without its times.

    Args:
        obstacles: see ``obstacles_to_ready``.
        verdict: a Ready condition that the provider reported itself. ``False`` and ``Unknown`` count; ``True`` may
            bring a reason and a message, but opens nothing.
    """
    if obstacles:
        message = "; ".join(obstacle.message for obstacle in obstacles)
        return NodeCondition(type="Ready", status="False", reason=obstacles[0].reason, message=message)
    if verdict is not None and verdict.status != "True":
        return NodeCondition(
            type="Ready",
            status=verdict.status,
            reason=verdict.reason or NOT_READY_REASON,
            message=verdict.message or "the provider says so",
        )
    return NodeCondition(
        type="Ready",
        status="True",
        reason=(verdict.reason if verdict else None) or READY_REASON,
        message=(verdict.message if verdict else None) or READY_MESSAGE,
    )

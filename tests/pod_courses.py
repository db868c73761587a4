"""What becomes of a pod on a node, as far as it does not depend on the moment. Pure.

What a kubelet tells in two statuses a node may tell in one, and the other way round: so what they say is compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from tests.runtime.recorded_pods import state_of

__all__ = ["Course", "Snapshot"]

_KINDS = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
#: Whether that is told depends on the moment: it waits for its turn; its hook has failed, and then it is backed off.
_PASSING = ("ContainerCreating", "PodInitializing", "PostStartHookError")
_AFTER_AN_END = ("PostStartHookError", "CrashLoopBackOff")
#: Kind, reason, exit code, message.
State: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Snapshot:
    """One status: all that does not depend on the machine.

    Attributes:
        why: reason and message of the pod.
        containers: name, state, last state, restarts, ready, started, image.
        conditions: type, status, reason, message.
    """

    phase: str
    why: tuple[str | None, str | None]
    containers: tuple[tuple[Any, ...], ...]
    conditions: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, status: Any) -> Snapshot:
        """Of a status as JSON."""
        return cls(
            status.get("phase", "Pending"),
            (status.get("reason"), status.get("message")),
            tuple(
                (
                    one["name"],
                    _state(one["state"]),
                    _state(one.get("lastState") or {}),
                    one.get("restartCount", 0),
                    one.get("ready", False),
                    one.get("started"),
                    one["image"].rpartition("/")[2],
                )
                for kind in _KINDS
                for one in status.get(kind) or ()
            ),
            tuple(
                (one["type"], one["status"], one.get("reason"), one.get("message"))
                for one in sorted(status.get("conditions") or (), key=lambda one: str(one["type"]))
                if "/" not in one["type"]
            ),
        )

    @property
    def ended(self) -> Snapshot:
        """As a sync later: a recording may end before its pod has."""
        why = {reason for kind, _, reason, _ in self.conditions if kind == "Ready"}
        if self.phase not in ("Pending", "Running") or not why & {"PodFailed", "PodCompleted"}:
            return self
        conditions = tuple(
            (kind, "False" if kind == "PodReadyToStartContainers" else status, *rest)
            for kind, status, *rest in self.conditions
        )
        return replace(self, phase="Failed" if "PodFailed" in why else "Succeeded", conditions=conditions)

    @property
    def settled(self) -> Snapshot:
        """Without what depends on the moment: how far it is told already what comes after a container's end."""
        containers = []
        for name, state, last, *rest in self.containers:
            over = state if state[0] == "terminated" else last if state[1] in _AFTER_AN_END else None
            containers.append((name, state, last, *rest) if over is None else (name, over, (), *rest))
        return replace(self, containers=tuple(containers))


def _state(state: Any) -> State:
    """The words of a registry, and of what pulls from it, are their own."""
    kind, reason, code, message = state_of(state) or ("", None, None, None)
    return (kind, reason, code, None if reason in ("ErrImagePull", "ImagePullBackOff") else message)


@dataclass
class Course:
    """What became of a pod.

    Attributes:
        phases: in order.
        ends: of each run of each container, by its number: reason, exit code, message.
        waits: what each container waited for, but for its turn, and after which run: reason, message, restarts.
        conditions: for each type its statuses, in the order in which they came first.
        last: the status in the end.
    """

    phases: list[str] = field(default_factory=list)
    ends: dict[str, dict[int, State]] = field(default_factory=dict)
    waits: dict[str, list[State]] = field(default_factory=dict)
    conditions: dict[str, list[str]] = field(default_factory=dict)
    last: Snapshot | None = None

    @classmethod
    def of(cls, snapshots: Iterable[Snapshot]) -> Course:
        found = cls()
        for one in snapshots:
            found.last = one
            _append(found.phases, one.phase)
            for kind, status, *_ in one.conditions:
                statuses = found.conditions.setdefault(kind, [])
                if status not in statuses:
                    statuses.append(status)
            for name, state, last, restarts, *_ in one.containers:
                # While it waits to run again the last state is that of the newest run.
                before = restarts if state[0] == "waiting" else restarts - 1
                for (kind, *end), run in ((state, restarts), (last, before)):
                    if kind == "terminated":
                        found.ends.setdefault(name, {})[run] = tuple(end)
                if state[0] == "waiting" and state[1] not in _PASSING:
                    _append(found.waits.setdefault(name, []), (state[1], state[3], restarts))
        found._settle()
        return found

    def _settle(self) -> None:
        if self.last is None:
            return
        self.last = self.last.settled
        for name, state, _, restarts, *_ in self.last.containers:
            waits = self.waits.get(name)
            if waits and state[0] == "terminated" and waits[-1][0] == "CrashLoopBackOff" and waits[-1][2] == restarts:
                waits.pop()
        self.waits = {name: waits for name, waits in self.waits.items() if waits}

    def covers(self, other: Course) -> bool:
        """Whether it has come to where the other one ends, by all that the other one came by."""
        return (
            self.last == other.last
            and {*other.phases} <= {*self.phases}
            and all(runs.items() <= self.ends.get(name, {}).items() for name, runs in other.ends.items())
            and all({*statuses} <= {*self.conditions.get(kind, ())} for kind, statuses in other.conditions.items())
            and all({*waits} <= {*self.waits.get(name, ())} for name, waits in other.waits.items())
        )


def _append(to: list[Any], one: Any) -> None:
    if not to or to[-1] != one:
        to.append(one)

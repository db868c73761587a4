"""What has been seen of one pod, in order: statuses as a watch brought them, in lines that people can read. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from virtual_kubelet.objects.core_v1 import ContainerStatus, Pod

__all__ = ["PodHistory", "Seen", "status_line"]

#: Containers that are named one by one.
_MOST_NAMES: Final = 4


@dataclass(frozen=True, slots=True)
class Seen:
    """One state of a pod: ``at`` seconds after it was first seen. ``gone``: the API object is no more."""

    at: float
    pod: Pod
    gone: bool = False


@dataclass(slots=True)
class PodHistory:
    """Every state of one pod (of one UID) that a watch has shown."""

    seen: list[Seen] = field(default_factory=list)
    _began: float = 0.0

    def add(self, pod: Pod, now: float, *, gone: bool = False) -> None:
        """One more state; ``now`` is a monotonic time."""
        if not self.seen:
            self._began = now
        self.seen.append(Seen(now - self._began, pod, gone))

    @property
    def newest(self) -> Pod | None:
        return self.seen[-1].pod if self.seen else None

    @property
    def gone(self) -> bool:
        return bool(self.seen) and self.seen[-1].gone

    def first(self, holds: Callable[[Pod], object]) -> Pod | None:
        """The first state of which this is true."""
        return next((one.pod for one in self.seen if holds(one.pod)), None)

    def lines(self, most: int = 20) -> list[str]:
        """One line for each state that differs from the one before, of containers only what has changed; the oldest are left
        out if there are too many."""
        told: list[str] = []
        before: _Line | None = None
        for one in self.seen:
            line = _Line.of(one.pod) if not one.gone else _Line("gone", {})
            if line != before:
                told.append(f"{one.at:7.1f} s  {line.text(before)}")
            before = line
        return told if len(told) <= most else [f"… {len(told) - most} more", *told[-most:]]


def status_line(pod: Pod) -> str:
    """A pod's status in one line: phase, reason, whether it is ready, containers."""
    return _Line.of(pod).text(None)


@dataclass(frozen=True, slots=True)
class _Line:
    """What is told of one state: of the pod, and by container."""

    of_pod: str
    states: Mapping[str, str]

    @classmethod
    def of(cls, pod: Pod) -> _Line:
        status = pod.status
        parts = [f"{'deleting, ' if pod.metadata.deletion_timestamp else ''}{status.phase or 'no phase'}"]
        if status.reason:
            parts.append(f"reason {status.reason}")
        if status.message:
            parts.append(f'"{status.message}"')
        states = {}
        for kind, statuses in (
            ("init ", status.init_container_statuses),
            ("", status.container_statuses),
            ("ephemeral ", status.ephemeral_container_statuses),
        ):
            states.update({f"{kind}{one.name}": _state(one) for one in statuses or ()})
        return cls("; ".join([*parts, *_conditions(pod)]), states)

    def text(self, before: _Line | None) -> str:
        """Containers of which the same is to be said are said it of together."""
        alike: dict[str, list[str]] = {}
        for name, state in self.states.items():
            if before is None or before.states.get(name) != state:
                alike.setdefault(state, []).append(name)
        return "; ".join([self.of_pod, *(f"{_names(names)}: {state}" for state, names in alike.items())])


def _names(names: Sequence[str]) -> str:
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: _MOST_NAMES - 1])} and {len(names) - _MOST_NAMES + 1} more"


def _conditions(pod: Pod) -> list[str]:
    """Whether it is ready, and what is being done about its resources."""
    told = []
    for one in pod.status.conditions or ():
        why = f" ({one.reason})" if one.reason else ""
        if one.type == "Ready":
            told.append("Ready" if one.status == "True" else f"not Ready{why}")
        elif one.type in ("PodResizePending", "PodResizeInProgress") and one.status == "True":
            told.append(f"{one.type}{why}")
    return told


def _state(one: ContainerStatus) -> str:
    state = one.state
    text = "no state"
    if state is not None and state.running is not None:
        text = "running"
    elif state is not None and state.terminated is not None:
        ended = state.terminated
        text = f"terminated {ended.exit_code} {ended.reason or ''}".rstrip()
    elif state is not None and state.waiting is not None:
        text = f"waiting {state.waiting.reason or ''}".rstrip()
    return f"{text}, restarts {one.restart_count}" if one.restart_count else text

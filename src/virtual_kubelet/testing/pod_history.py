"""What has been seen of one pod, in order: statuses as a watch brought them, in lines that people can read. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from virtual_kubelet.objects.core_v1 import ContainerStatus, Pod

__all__ = ["PodHistory", "Seen", "status_line"]


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
        """One line for each state that differs from the one before; the oldest are left out if there are too many."""
        told: list[str] = []
        last = ""
        for one in self.seen:
            line = status_line(one.pod) if not one.gone else "gone"
            if line != last:
                told.append(f"{one.at:7.1f} s  {line}")
            last = line
        return told if len(told) <= most else [f"… {len(told) - most} more", *told[-most:]]


def status_line(pod: Pod) -> str:
    """A pod's status in one line: phase, reason, conditions that do not hold, containers."""
    status = pod.status
    parts = [f"{'deleting, ' if pod.metadata.deletion_timestamp else ''}{status.phase or 'no phase'}"]
    if status.reason:
        parts.append(f"reason {status.reason}")
    if status.message:
        parts.append(f'"{status.message}"')
    parts += _conditions(pod)
    parts += [f"init {text}" for text in _containers(status.init_container_statuses or ())]
    parts += _containers(status.container_statuses or ())
    parts += [f"ephemeral {text}" for text in _containers(status.ephemeral_container_statuses or ())]
    return "; ".join(parts)


def _conditions(pod: Pod) -> list[str]:
    ready = next((c for c in pod.status.conditions or () if c.type == "Ready"), None)
    if ready is None:
        return []
    return ["Ready" if ready.status == "True" else f"not Ready{f' ({ready.reason})' if ready.reason else ''}"]


def _containers(statuses: Iterable[ContainerStatus]) -> list[str]:
    return [f"{one.name}: {_state(one)}" for one in statuses]


def _state(one: ContainerStatus) -> str:
    state = one.state
    text = "no state"
    if state is not None and state.running is not None:
        text = f"running since {state.running.started_at}"
    elif state is not None and state.terminated is not None:
        ended = state.terminated
        text = f"terminated {ended.exit_code} {ended.reason or ''}".rstrip()
    elif state is not None and state.waiting is not None:
        text = f"waiting {state.waiting.reason or ''}".rstrip()
    return f"{text}, restarts {one.restart_count}" if one.restart_count else text

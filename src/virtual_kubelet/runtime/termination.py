"""How a container is ended: its preStop hook, its turn, its signal, SIGKILL. Pure: what to do now, or when to look again.

Rules of the kubelet (pkg/kubelet/kuberuntime/kuberuntime_container.go, killContainer; kuberuntime_termination_order.go):

- the grace period counts from when it is decided; the preStop hook runs inside it, at once, in all containers;
- in a pod that ends, main containers get their signal first; then the sidecars, the last one first, each when those
  after it have ended, or the grace period is over;
- whatever is left, between a container's signal and SIGKILL lie at least two seconds;
- a shorter grace period counts at once (a kubelet lets a stop that is under way take its time); a longer one never.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

from virtual_kubelet.contracts.runtime import ContainerKind
from virtual_kubelet.objects.core_v1 import Container
from virtual_kubelet.runtime.pod_state import ContainerPhase, ContainerRecord, PodState, Stop, StopReason

__all__ = [
    "DEFAULT_GRACE",
    "CutHook",
    "RunHook",
    "SendSignal",
    "StopStep",
    "TerminationOptions",
    "stop_signal",
    "stop_step",
]

#: Seconds, if neither the deletion nor the pod says how long it may take (the API server sets it by default).
DEFAULT_GRACE = 30


@dataclass(frozen=True, slots=True)
class TerminationOptions:
    """Seconds. ``minimum``: between signal and SIGKILL; ``again``: until SIGKILL is sent once more."""

    minimum: float = 2.0
    again: float = 2.0


@dataclass(frozen=True, slots=True)
class RunHook:
    """Run its preStop hook, for at most so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class CutHook:
    """Its preStop hook has had its time."""


@dataclass(frozen=True, slots=True)
class SendSignal:
    number: int


#: What to do now, or the monotonic time at which to look again; None: when something else has happened.
StopStep = RunHook | CutHook | SendSignal | float | None


def stop_step(
    state: PodState, record: ContainerRecord, stop: Stop, options: TerminationOptions, now: float
) -> StopStep:
    """The one next step for a container that is being ended."""
    if stop.retry > now:
        return stop.retry
    container = state.spec_of(record)
    if stop.hook is None:
        if not _has_hook(record, container) or stop.until <= now:
            stop.hook = True
        else:
            return RunHook(stop.until - now)
    if stop.hook is False:
        return CutHook() if stop.until <= now else stop.until
    if stop.terminated is None:
        if now < stop.until and not _has_turn(state, record, stop):
            return stop.until
        return SendSignal(stop_signal(record, container))
    kill_at = max(stop.until, stop.terminated + options.minimum)
    if now < kill_at:
        return kill_at
    if stop.killed is None or stop.killed + options.again <= now:
        return SendSignal(signal.SIGKILL)
    return stop.killed + options.again


def _has_hook(record: ContainerRecord, container: Container) -> bool:
    # The hook of a container that has never become Running has nothing to tidy up; a kubelet runs it all the same.
    return container.lifecycle is not None and container.lifecycle.pre_stop is not None


def _has_turn(state: PodState, record: ContainerRecord, stop: Stop) -> bool:
    if stop.reason is not StopReason.POD or not record.sidecar:
        return True
    return not any(other.up or other.phase is ContainerPhase.STARTING for other in _before(state, record))


def _before(state: PodState, sidecar: ContainerRecord) -> Iterator[ContainerRecord]:
    """Those that have to end before this sidecar: main containers, and the sidecars after it."""
    later = False
    for record in state.containers:
        if record is sidecar:
            later = True
        elif record.kind is ContainerKind.MAIN or (later and record.sidecar):
            yield record


def stop_signal(record: ContainerRecord, container: Container) -> int:
    """The number of the signal that asks this container to end: its spec's, its image's, or SIGTERM."""
    named = container.lifecycle.stop_signal if container.lifecycle is not None else None
    if named:
        number = signal_number(named)
        if number is not None:
            return number
    return record.run.stop_signal if record.run is not None else signal.SIGTERM


def signal_number(name: str) -> int | None:
    """Of ``SIGUSR1``, ``SIGRTMIN+3``, ``SIGRTMAX-1``; None if there is none such."""
    base, sign, offset = name, 0, 0
    for mark, factor in (("+", 1), ("-", -1)):
        if mark in name:
            base, _, digits = name.partition(mark)
            if not digits.isdecimal():
                return None
            sign, offset = factor, int(digits)
    found = signal.Signals.__members__.get(base)
    return None if found is None else int(found) + sign * offset

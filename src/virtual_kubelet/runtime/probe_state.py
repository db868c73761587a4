"""The probes of one container: which is due when, and what their results make of it. Pure: time and results are given.

What the engine does with it (``probing`` is the shell that runs it):

- a container has begun: ``begin``; it has ended: ``end``; its pod is being ended: ``terminate``;
- ``due`` says when each probe runs next, on the monotonic clock; None: not before something else happens;
- ``take`` is told how one run came out, and says whether the probe's result has changed by it;
- ``started`` and ``ready`` are what goes into the container's status.

Rules of the kubelet (pkg/kubelet/prober/worker.go, prober_manager.go):

- a probe runs first ``initialDelaySeconds`` after its container has started, then every ``periodSeconds``; one that takes
  longer than its period runs again as soon as it is over;
- readiness and liveness wait until the startup probe has succeeded, which then rests until the container runs anew;
- before any result, liveness counts as success, readiness as failure, startup as not known;
- a result changes after ``failureThreshold`` failures, or ``successThreshold`` successes, in a row;
- a run that could not be made (the probe *errored*) does not count;
- after a failed liveness or startup probe the container has to go, and nothing is probed until it runs anew;
- while a pod ends, readiness is probed on; liveness and startup are not.

Where ours differ: what came of a run before a restart does not count for the one after; and a container that an earlier
process of this node knew keeps what was said of it (a kubelet takes readiness back until its first probe).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from virtual_kubelet.objects.core_v1 import Container, Pod, Probe

__all__ = ["ContainerProbes", "ProbeKind", "ProbeResult", "ProbeState", "ProbeTimes", "grace_after_failure"]

#: The kubelet's, where neither the pod nor its deletion says anything.
_MINIMUM_GRACE: Final = 2
#: How much of a period a run may be early.
_EARLY: Final = 1e-3


class ProbeKind(StrEnum):
    """As events and metrics call them."""

    STARTUP = "Startup"
    READINESS = "Readiness"
    LIVENESS = "Liveness"

    @property
    def ends_container(self) -> bool:
        """Whether a container that fails it is ended, and runs again as its restart policy says."""
        return self is not ProbeKind.READINESS


class ProbeResult(StrEnum):
    """As metrics call them."""

    SUCCESS = "successful"
    FAILURE = "failed"
    UNKNOWN = "unknown"


#: What counts until a probe has said otherwise.
_INITIAL: Final = {
    ProbeKind.STARTUP: ProbeResult.UNKNOWN,
    ProbeKind.READINESS: ProbeResult.FAILURE,
    ProbeKind.LIVENESS: ProbeResult.SUCCESS,
}


@dataclass(frozen=True, slots=True)
class ProbeTimes:
    """The numbers of a probe, in seconds and in runs, with the API's defaults."""

    initial_delay: int = 0
    period: int = 10
    timeout: int = 1
    successes: int = 1
    failures: int = 3

    @classmethod
    def of(cls, probe: Probe) -> ProbeTimes:
        """An API server sets defaults and refuses the rest; what comes from elsewhere gets the same here."""
        return cls(
            initial_delay=max(0, probe.initial_delay_seconds or 0),
            period=max(1, probe.period_seconds or 10),
            timeout=max(1, probe.timeout_seconds or 1),
            successes=max(1, probe.success_threshold or 1),
            failures=max(1, probe.failure_threshold or 3),
        )


@dataclass(slots=True)
class ProbeState:
    """One probe of one run of a container.

    Attributes:
        result: what counts now.
        last, streak: how the newest runs came out, and how many of them in a row.
        due: monotonic time of the next run; None: it rests.
    """

    kind: ProbeKind
    times: ProbeTimes
    result: ProbeResult = ProbeResult.UNKNOWN
    last: ProbeResult | None = None
    streak: int = 0
    due: float | None = None
    _origin: float = field(default=0.0, repr=False)

    def begin(self, started: float, now: float, *, result: ProbeResult | None = None, spread: float = 0.0) -> None:
        """Probe a container from now on.

        Args:
            started: when it did, on the monotonic clock.
            result: what is known of it already.
            spread: how much of a period to wait more, from 0 to 1.
        """
        self.result = _INITIAL[self.kind] if result is None else result
        self.last, self.streak = None, 0
        self._origin = max(started + self.times.initial_delay, now) + spread * self.times.period
        self.due = self._origin

    def rest(self) -> None:
        """Nothing is due until ``begin``."""
        self.due = None

    def take(self, outcome: ProbeResult | None, began: float, now: float) -> bool:
        """One run is over. Returns whether the result has changed by it.

        Args:
            outcome: None if the run could not be made: it counts for nothing.
            began: when the run did.
        """
        if self.due is None:
            return False
        # A loop may wake a little before the time: that run is the one that was due then, not one more before it.
        runs = max(0.0, ((began - self._origin) / self.times.period + _EARLY) // 1)
        self.due = max(now, self._origin + (runs + 1) * self.times.period)
        if outcome is None:
            return False
        self.streak = self.streak + 1 if outcome is self.last else 1
        self.last = outcome
        if self.streak < (self.times.successes if outcome is ProbeResult.SUCCESS else self.times.failures):
            return False
        changed = outcome is not self.result
        self.result = outcome
        if self.kind is ProbeKind.STARTUP or (self.kind.ends_container and outcome is not ProbeResult.SUCCESS):
            self.rest()
        return changed


class ContainerProbes:
    """All probes of one container; see the module's docstring.

    Attributes:
        container: its present spec.
        running: it runs, as far as is known here.
    """

    def __init__(self, container: Container) -> None:
        self.container = container
        self.running = False
        self._terminating = False
        self._started_at = 0.0
        probes = {
            ProbeKind.STARTUP: container.startup_probe,
            ProbeKind.READINESS: container.readiness_probe,
            ProbeKind.LIVENESS: container.liveness_probe,
        }
        self.specs = {kind: probe for kind, probe in probes.items() if probe is not None}
        self.states = {kind: ProbeState(kind, ProbeTimes.of(probe)) for kind, probe in self.specs.items()}

    @property
    def started(self) -> bool:
        """Whether it runs and has passed its startup probe, if it has one."""
        state = self.states.get(ProbeKind.STARTUP)
        return self.running and (state is None or state.result is ProbeResult.SUCCESS)

    @property
    def ready(self) -> bool:
        """Whether it has started and passes its readiness probe, if it has one."""
        state = self.states.get(ProbeKind.READINESS)
        return self.started and (state is None or state.result is ProbeResult.SUCCESS)

    @property
    def failed(self) -> ProbeKind | None:
        """The probe because of which the container has to go."""
        for kind, state in self.states.items():
            if self.running and kind.ends_container and state.result is ProbeResult.FAILURE:
                return kind
        return None

    @property
    def due(self) -> dict[ProbeKind, float]:
        """When which probe runs next."""
        return {kind: state.due for kind, state in self.states.items() if state.due is not None}

    def begin(
        self, started_at: float, now: float, *, was_started: bool = False, was_ready: bool = False, spread: float = 0.0
    ) -> None:
        """The container runs (anew).

        Args:
            started_at: since when, on the monotonic clock; in the past for one that is adopted.
            was_started, was_ready: what has been said of this very run before.
            spread: how much of its period the first run of each probe waits more, from 0 to 1.
        """
        self.running, self._started_at = True, started_at
        for state in self.states.values():
            state.result, state.last, state.streak = _INITIAL[state.kind], None, 0
            state.rest()
        startup = self.states.get(ProbeKind.STARTUP)
        if startup is None or was_started:
            if startup is not None:
                startup.result = ProbeResult.SUCCESS
            self._begin_others(now, was_ready=was_ready, spread=spread)
        elif not self._terminating:
            startup.begin(started_at, now, spread=spread)

    def end(self) -> None:
        """The container has ended; there is nothing to probe."""
        self.running = False
        for state in self.states.values():
            state.rest()

    def terminate(self) -> None:
        """Its pod is being ended: only readiness is probed on."""
        self._terminating = True
        for kind, state in self.states.items():
            if kind.ends_container:
                state.rest()

    def take(self, kind: ProbeKind, outcome: ProbeResult | None, began: float, now: float) -> bool:
        """One run of a probe is over; as ``ProbeState.take``."""
        changed = self.states[kind].take(outcome, began, now)
        if changed and kind is ProbeKind.STARTUP and self.started:
            self._begin_others(now)
        return changed

    def _begin_others(self, now: float, *, was_ready: bool = False, spread: float = 0.0) -> None:
        readiness, liveness = self.states.get(ProbeKind.READINESS), self.states.get(ProbeKind.LIVENESS)
        if readiness is not None:
            known = ProbeResult.SUCCESS if was_ready else None
            readiness.begin(self._started_at, now, result=known, spread=spread)
        if liveness is not None and not self._terminating:
            liveness.begin(self._started_at, now, spread=spread)


def grace_after_failure(pod: Pod, container: Container, kind: ProbeKind) -> int:
    """Seconds from SIGTERM to SIGKILL for a container that has failed a probe: the probe's own, else the pod's.

    A pod that is being deleted has its deletion's (kuberuntime_container.go, setTerminationGracePeriod).
    """
    probe = {ProbeKind.STARTUP: container.startup_probe, ProbeKind.LIVENESS: container.liveness_probe}.get(kind)
    own = None if probe is None else probe.termination_grace_period_seconds
    for seconds in (pod.metadata.deletion_grace_period_seconds, own, pod.spec.termination_grace_period_seconds):
        if seconds is not None:
            return seconds
    return _MINIMUM_GRACE

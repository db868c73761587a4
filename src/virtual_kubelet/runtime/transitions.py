"""What the pod engine does next with a pod's containers. Pure: state × time to actions.

Rules of the kubelet (pkg/kubelet/kuberuntime/kuberuntime_manager.go, computePodActions; kubelet_pods.go, getPhase):

- init containers run one after another; the next starts when the one before has ended with 0;
- one that fails is run again with back-off, unless the pod's restartPolicy is Never: then the pod has failed;
- main containers start once all init containers have ended well, and run again as restartPolicy says;
- the first restart comes at once, later ones after 10 s, doubling to 300 s; a run of ten minutes begins that anew
  (client-go's util/flowcontrol/backoff.go, with the recordings of always-crash-loop);
- a start that failed is tried again after 1 s, doubling to 300 s;
- a main container whose image changes is ended, and runs again at once;
- a pod with restartPolicy Never or OnFailure has ended when no container runs or will run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from virtual_kubelet.contracts.runtime import ContainerExit

__all__ = ["BACKOFF_CAP", "BACKOFF_INITIAL", "Run", "Step", "backoff_of", "next_steps", "phase_of", "start_backoff_of"]

BACKOFF_INITIAL: Final = timedelta(seconds=10)
BACKOFF_CAP: Final = timedelta(seconds=300)
#: A run longer than this clears the back-off (twice the cap).
BACKOFF_RESET: Final = timedelta(minutes=10)
_START_BACKOFF: Final = timedelta(seconds=1)


@dataclass(slots=True)
class Run:
    """One container of a pod and its runs.

    Attributes:
        attempts: runs begun; the restart count is one less.
        started_at, exit: of the newest run; ``exit`` None while it runs.
        backoff: delay before the next run, after those so far.
        start_failures: how often starting has failed since, in a way that is tried again.
        due: monotonic time of the next start; it does not count before that.
        replace: what it is made of has changed: it ends, and runs again at once whatever the policy.
    """

    name: str
    attempts: int = 0
    started_at: datetime | None = None
    exit: ContainerExit | None = None
    backoff: timedelta = timedelta(0)
    start_failures: int = 0
    due: float = 0.0
    replace: bool = False

    @property
    def running(self) -> bool:
        return self.started_at is not None and self.exit is None


class Step(NamedTuple):
    """Start this container now, or, with ``at``, not before that monotonic time."""

    run: Run
    at: float | None = None


def backoff_of(run: Run) -> timedelta:
    """The delay after the run that has just ended: none after the first and after a long one, then doubled."""
    lasted = run.exit.finished_at - run.started_at if run.started_at is not None and run.exit is not None else None
    if run.replace or run.attempts <= 1 or (lasted is not None and lasted > BACKOFF_RESET):
        return timedelta(0)
    return min(BACKOFF_CAP, max(BACKOFF_INITIAL, run.backoff * 2))


def start_backoff_of(run: Run) -> timedelta:
    """The delay after a start that has just failed."""
    return min(BACKOFF_CAP, _START_BACKOFF * (1 << min(max(0, run.start_failures - 1), 16)))


def _due(run: Run, now: float) -> Step:
    return Step(run) if run.due <= now else Step(run, run.due)


def _again(run: Run, policy: str) -> bool:
    if run.exit is None:
        return False
    return run.replace or policy == "Always" or (policy == "OnFailure" and run.exit.exit_code != 0)


def next_steps(init: Sequence[Run], main: Sequence[Run], policy: str, now: float) -> list[Step]:
    """The containers to start now or later; none if all run, or the pod has ended."""
    for run in init:
        if run.exit is not None and run.exit.exit_code == 0:
            continue
        if run.running:
            return []
        if run.exit is not None and policy == "Never":
            return []
        return [_due(run, now)]
    return [_due(run, now) for run in main if not run.running and (run.exit is None or _again(run, policy))]


def phase_of(init: Sequence[Run], main: Sequence[Run], policy: str) -> str:
    """The pod's phase, from its containers."""
    for run in init:
        if run.exit is None or run.exit.exit_code != 0:
            failed = run.exit is not None and policy == "Never"
            return "Failed" if failed else "Pending"
    if any(run.attempts == 0 for run in main):
        return "Running" if any(run.running for run in main) else "Pending"
    if any(run.running or _again(run, policy) for run in main):
        return "Running"
    return "Failed" if any(run.exit is not None and run.exit.exit_code != 0 for run in main) else "Succeeded"

"""What the pod engine does next with a pod's containers. Pure: state × time to actions.

Rules of the kubelet (pkg/kubelet/kuberuntime/kuberuntime_manager.go, computePodActions; kubelet_pods.go, getPhase):

- init containers run one after another; the next starts when the one before has ended with 0;
- one that fails is run again with back-off, unless the pod's restartPolicy is Never: then the pod has failed;
- main containers start once all init containers have ended well, and run again as restartPolicy says;
- back-off is 10 s, doubling to 300 s with each restart, and begins anew after a run of ten minutes;
- a pod with restartPolicy Never or OnFailure has ended when no container runs or will run again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from virtual_kubelet.contracts.runtime import ContainerExit

__all__ = ["BACKOFF_CAP", "BACKOFF_INITIAL", "Run", "Step", "backoff_of", "next_steps", "phase_of"]

BACKOFF_INITIAL: Final = timedelta(seconds=10)
BACKOFF_CAP: Final = timedelta(seconds=300)
#: A run this long clears the back-off (twice the cap, pkg/util/flowcontrol).
BACKOFF_RESET: Final = timedelta(minutes=10)


@dataclass(slots=True)
class Run:
    """One container of a pod and its runs.

    Attributes:
        attempts: runs begun; the restart count is one less.
        started_at, exit: of the newest run; ``exit`` None while it runs.
        backoff: delay before the next run, after those so far.
        start_failed_at: when starting failed in a way that is tried again.
    """

    name: str
    attempts: int = 0
    started_at: datetime | None = None
    exit: ContainerExit | None = None
    backoff: timedelta = timedelta(0)
    start_failed_at: datetime | None = None

    @property
    def running(self) -> bool:
        return self.started_at is not None and self.exit is None


class Step(NamedTuple):
    """Start this container now, or, with ``at``, not before then."""

    run: Run
    at: datetime | None = None


def backoff_of(run: Run) -> timedelta:
    """The delay after the run that has just ended: doubled, or from the start after a long one."""
    if run.started_at is not None and run.exit is not None and run.exit.finished_at - run.started_at >= BACKOFF_RESET:
        return BACKOFF_INITIAL
    if run.attempts <= 1:
        return BACKOFF_INITIAL
    return min(BACKOFF_CAP, max(BACKOFF_INITIAL, run.backoff * 2))


def _due(run: Run, now: datetime) -> Step:
    after = run.start_failed_at or (run.exit.finished_at if run.exit is not None else None)
    if after is None:
        return Step(run)
    at = after + run.backoff
    return Step(run) if now >= at else Step(run, at)


def _again(run: Run, policy: str) -> bool:
    return run.exit is not None and (policy == "Always" or (policy == "OnFailure" and run.exit.exit_code != 0))


def next_steps(init: Sequence[Run], main: Sequence[Run], policy: str, now: datetime) -> list[Step]:
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

"""Whether a container runs again, and after how long. Pure.

Rules of the kubelet (pkg/kubelet/container/helpers.go, ShouldContainerBeRestarted; kuberuntime_manager.go, doBackOff;
client-go's util/flowcontrol/backoff.go) with the recordings of always-crash-loop, liveness-fails and post-start-fails:

- rules of the container (``restartPolicyRules``) come first, then its own ``restartPolicy``, then the pod's; a sidecar
  always runs again, an ephemeral container never; of the rules the first that holds counts, and it may want all containers
  of the pod to run anew (KEP-5532);
- the first restart comes at once, later ones after 10 s, doubling to 300 s; a run of more than ten minutes begins anew;
- a container that was ended to run anew (a probe, another image) is measured by its run before the last: it comes back
  at once unless that one ended within the back-off; then the back-off counts from its own end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from virtual_kubelet.contracts.runtime import ContainerExit, ContainerKind
from virtual_kubelet.objects.core_v1 import Container, ContainerRestartRule, Pod
from virtual_kubelet.runtime.pod_state import IDLE, ContainerRecord, PodState, Run

__all__ = [
    "BackoffOptions",
    "may_restart_all",
    "plan_restart",
    "restarts_all",
    "retry_delay",
    "runs_again",
    "will_run_again",
]

_RESTART: Final = "Restart"
_RESTART_ALL: Final = "RestartAllContainers"


@dataclass(frozen=True, slots=True)
class BackoffOptions:
    """Seconds. ``initial`` is doubled to ``cap``; a run longer than ``reset`` begins that anew.

    ``start`` and ``start_cap`` are the same for what fails before there is a run.
    """

    initial: float = 10.0
    cap: float = 300.0
    reset: float = 600.0
    start: float = 1.0
    start_cap: float = 300.0


def policy_of(state: PodState, record: ContainerRecord, container: Container) -> str:
    if record.sidecar:
        return "Always"
    if record.kind is ContainerKind.EPHEMERAL:
        return "Never"
    policy = container.restart_policy or state.pod.spec.restart_policy or "Always"
    # An init container that has ended well is done, whatever a pod's main containers do.
    return "OnFailure" if record.kind is ContainerKind.INIT and policy == "Always" else policy


def runs_again(state: PodState, record: ContainerRecord, ended: ContainerExit) -> bool:
    """Whether a container that has ended so is to run again, as far as its own policy goes."""
    container = state.spec_of(record)
    if _ruled(container, ended.exit_code) is not None:
        return True
    policy = policy_of(state, record, container)
    return policy == "Always" or (policy == "OnFailure" and ended.exit_code != 0)


def will_run_again(state: PodState, record: ContainerRecord) -> bool:
    """Whether a container that does not run will: for the first time, or again."""
    if record.change or record.stale or record.exit is None:
        return True
    return runs_again(state, record, record.exit)


def restarts_all(state: PodState, record: ContainerRecord) -> bool:
    """Whether a container has ended so that all of its pod are to run anew, and that has not been seen to yet."""
    if record.phase not in IDLE or record.exit is None or record.stale:
        return False
    return _ruled(state.spec_of(record), record.exit.exit_code) == _RESTART_ALL


def may_restart_all(pod: Pod) -> bool:
    """Whether any container of a pod has a rule for that."""
    containers = (*(pod.spec.init_containers or ()), *pod.spec.containers)
    return any(rule.action == _RESTART_ALL for one in containers for rule in one.restart_policy_rules or ())


def _ruled(container: Container, code: int) -> str | None:
    """The action of the first rule that holds; None if none does."""
    return next((rule.action for rule in container.restart_policy_rules or () if _matches(rule, code)), None)


def _matches(rule: ContainerRestartRule, code: int) -> bool:
    if rule.action not in (_RESTART, _RESTART_ALL) or rule.exit_codes is None:
        return False
    inside = code in (rule.exit_codes.values or ())
    return inside if rule.exit_codes.operator == "In" else not inside


def plan_restart(record: ContainerRecord, options: BackoffOptions, *, ended_by_us: bool, now: float) -> None:
    """The newest run has ended: set when the next may begin, and the back-off after that."""
    run = record.run
    assert run is not None
    measured: Run | None = record.last if ended_by_us else run
    if measured is None or measured.exit is None:  # ended to run anew in its first run: nothing is held against it
        record.due, record.next_backoff = now, record.backoff
        return
    expired = not ended_by_us and run.ended - run.began > options.reset
    entry = 0.0 if expired else record.backoff
    if now - measured.ended >= entry:
        record.due, record.next_backoff = now, _doubled(entry, options)
    else:
        record.due, record.next_backoff = run.ended + entry, _doubled(entry, options)
    record.backoff = entry


def _doubled(entry: float, options: BackoffOptions) -> float:
    return min(options.cap, entry * 2) if entry else min(options.initial, options.cap)


#: Beyond this many doublings every cap is reached.
_MOST_DOUBLINGS: Final = 16


def retry_delay(failures: int, options: BackoffOptions) -> float:
    """Seconds after a start, or a preparation, that has just failed for the so-manieth time in a row."""
    return min(options.start_cap, options.start * (1 << min(max(0, failures - 1), _MOST_DOUBLINGS)))

"""When a pod's conditions are said to have changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from virtual_kubelet.objects.core_v1 import Container, Pod, PodSpec, Probe
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.pod_state import ContainerPhase, Now, PodState, Run
from virtual_kubelet.runtime.status import build_status

STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PROBED = STARTED + timedelta(seconds=15)


def ready_since(probe: Probe | None) -> str | None:
    """Of a pod whose container began at ``STARTED`` and became ready at ``PROBED``."""
    container = Container(name="main", image="x", readiness_probe=probe)
    pod = Pod(metadata=ObjectMeta(name="p", namespace="n", uid="u"), spec=PodSpec(containers=[container]))
    state = PodState.of(pod, Now(0.0, STARTED))
    record = state.main[0]
    record.phase, record.attempts, record.run = ContainerPhase.RUNNING, 1, Run(0, "id", STARTED, 0.0)
    for ready, now in ((False, STARTED), (True, PROBED), (True, PROBED + timedelta(seconds=60))):
        record.started, record.ready = True, ready
        status = build_status(state, host_ips=[], pod_ips=[], now=now)
        state.conditions = status.conditions or []
    found = {condition.type: condition for condition in state.conditions}
    assert found["Ready"].status == found["ContainersReady"].status == "True"
    return found["Ready"].last_transition_time


def test_a_probed_pod_is_ready_from_when_its_probe_succeeds() -> None:
    """Kubernetes' e2e: with readiness probe should not be ready before initial delay."""
    assert ready_since(Probe()) == "2026-01-02T03:04:20Z"


def test_a_pod_without_a_probe_is_ready_from_its_containers_start() -> None:
    assert ready_since(None) == "2026-01-02T03:04:05Z"

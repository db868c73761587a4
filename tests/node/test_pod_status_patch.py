from __future__ import annotations

import json
from typing import Any

import pytest

from virtual_kubelet.node.pod_status_patch import (
    check_status,
    had_run,
    no_container_runs,
    patched_status,
    status_patch,
)
from virtual_kubelet.objects.core_v1 import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStatus,
    PodCondition,
    PodIP,
    PodStatus,
    ResourceRequirements,
)

NOW = "2026-01-02T00:00:00Z"


def container(**state: Any) -> ContainerStatus:
    return ContainerStatus(
        name="main",
        image="i",
        image_id="",
        ready=False,
        restart_count=0,
        state=ContainerState(**state) if state else None,
    )


RUNS = container(running=ContainerStateRunning(started_at=NOW))
ENDED = container(terminated=ContainerStateTerminated(exit_code=3))


def patch(current: PodStatus, wanted: PodStatus, generation: int | None = None) -> Any:
    made = status_patch("u", current, wanted, generation=generation, now=NOW)
    return None if made is None else json.loads(made)


def test_a_patch_carries_the_uid_and_only_what_differs() -> None:
    made = patch(PodStatus(phase="Pending", host_ip="1.1.1.1"), PodStatus(phase="Running", host_ip="1.1.1.1"))
    assert made == {"metadata": {"uid": "u"}, "status": {"phase": "Running"}}


def test_nothing_is_written_when_nothing_changed() -> None:
    status = PodStatus(
        phase="Running", container_statuses=[RUNS], conditions=[PodCondition(type="Ready", status="True")]
    )
    assert patch(status, status) is None


def test_conditions_of_others_are_not_named() -> None:
    current = PodStatus(phase="Running", conditions=[PodCondition(type="example.com/gate", status="True")])
    made = patch(current, PodStatus(phase="Running", conditions=[PodCondition(type="Ready", status="True")]))
    assert [c["type"] for c in made["status"]["conditions"]] == ["Ready"]


def test_a_condition_keeps_its_transition_time_while_its_status_does() -> None:
    earlier = "2026-01-01T00:00:00Z"
    current = PodStatus(
        conditions=[PodCondition(type="Ready", status="False", reason="A", last_transition_time=earlier)]
    )
    made = patch(current, PodStatus(conditions=[PodCondition(type="Ready", status="False", reason="B")]))
    assert made["status"]["conditions"][0]["lastTransitionTime"] == earlier
    made = patch(current, PodStatus(conditions=[PodCondition(type="Ready", status="True")]))
    assert made["status"]["conditions"][0]["lastTransitionTime"] == NOW


def test_a_reason_of_a_condition_that_is_over_is_removed() -> None:
    current = PodStatus(conditions=[PodCondition(type="Ready", status="False", reason="NodeNotReady", message="m")])
    made = patch(current, PodStatus(conditions=[PodCondition(type="Ready", status="True")]))
    assert made["status"]["conditions"] == [
        {"type": "Ready", "status": "True", "lastTransitionTime": NOW, "reason": None, "message": None}
    ]


def test_a_terminal_phase_is_never_taken_back_but_exit_codes_may_follow() -> None:
    made = patch(PodStatus(phase="Failed", reason="Evicted"), PodStatus(phase="Running", container_statuses=[ENDED]))
    assert "phase" not in made["status"]
    assert "reason" not in made["status"]
    assert made["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


def test_a_reason_that_is_over_is_removed() -> None:
    current = PodStatus(phase="Pending", reason="ProviderFailed", message="m")
    assert patch(current, PodStatus(phase="Running"))["status"] == {"phase": "Running", "reason": None, "message": None}


def test_container_statuses_are_sent_whole_with_their_required_fields() -> None:
    current = PodStatus(
        phase="Running",
        container_statuses=[ContainerStatus(name="main", image="i", image_id="", ready=True, restart_count=2)],
    )
    made = patch(current, PodStatus(phase="Running", container_statuses=[RUNS]))
    assert made["status"]["containerStatuses"] == [
        {
            "name": "main",
            "image": "i",
            "imageID": "",
            "ready": False,
            "restartCount": 0,
            "state": {"running": {"startedAt": NOW}},
        }
    ]


def test_an_address_that_changes_replaces_the_list_that_would_be_merged() -> None:
    current = PodStatus(phase="Running", pod_ip="10.0.0.1", pod_ips=[PodIP(ip="10.0.0.1")])
    made = patch(current, PodStatus(phase="Running", pod_ip="10.0.0.2"))
    assert made["status"]["podIPs"] == [{"$patch": "replace"}, {"ip": "10.0.0.2"}]


def test_what_a_provider_leaves_out_is_not_taken_back() -> None:
    current = PodStatus(phase="Running", pod_ip="10.0.0.1", container_statuses=[RUNS], start_time=NOW)
    assert patch(current, PodStatus(phase="Running")) is None


def test_a_start_time_stays() -> None:
    assert (
        patch(PodStatus(phase="Running", start_time=NOW), PodStatus(phase="Running", start_time="2027-01-01T00:00:00Z"))
        is None
    )


def test_observed_generation_goes_along_where_the_api_has_generations() -> None:
    assert patch(PodStatus(), PodStatus(phase="Running"), 3)["status"]["observedGeneration"] == 3
    assert "observedGeneration" not in patch(PodStatus(), PodStatus(phase="Running"))["status"]


@pytest.mark.parametrize("nonsense", [None, "Running", {"phase": "Running"}, PodStatus(), PodStatus(phase="Fine")])
def test_what_is_no_status_is_refused_with_a_sentence(nonsense: object) -> None:
    with pytest.raises(ValueError, match="the provider gave"):
        check_status(nonsense)


def test_no_container_runs_only_on_evidence() -> None:
    assert no_container_runs(PodStatus(phase="Running", container_statuses=[ENDED]))
    assert no_container_runs(PodStatus(phase="Failed"))
    assert not no_container_runs(PodStatus(phase="Running", container_statuses=[ENDED, RUNS]))
    assert not no_container_runs(PodStatus(phase="Pending"))
    assert not no_container_runs(PodStatus(phase="Pending", container_statuses=[container()]))


def test_had_run_only_if_a_container_ever_started() -> None:
    assert had_run(PodStatus(phase="Running"))
    assert had_run(PodStatus(phase="Pending", container_statuses=[ENDED]))
    assert not had_run(PodStatus(phase="Pending", container_statuses=[container()]))
    assert not had_run(PodStatus(phase="Pending"))


def test_the_generation_that_a_provider_has_observed_is_written_and_not_the_newest() -> None:
    assert patch(PodStatus(), PodStatus(phase="Running", observed_generation=2), 3)["status"]["observedGeneration"] == 2


def test_an_observed_generation_alone_is_written() -> None:
    current = PodStatus(phase="Running", observed_generation=1)
    assert patch(current, PodStatus(phase="Running", observed_generation=2), 2)["status"] == {"observedGeneration": 2}


def test_an_observed_generation_alone_is_not_written_to_a_server_that_drops_it() -> None:
    assert patch(PodStatus(phase="Running"), PodStatus(phase="Running", observed_generation=2), 2) is None


def test_the_observed_generation_of_a_condition_is_written() -> None:
    def ready(generation: int | None) -> PodStatus:
        return PodStatus(
            phase="Running",
            conditions=[
                PodCondition(type="Ready", status="True", observed_generation=generation, last_transition_time=NOW)
            ],
        )

    assert patch(ready(1), ready(2))["status"]["conditions"] == [
        {"type": "Ready", "status": "True", "lastTransitionTime": NOW, "observedGeneration": 2}
    ]
    assert patch(ready(None), ready(2)) is None, "a server that drops it"


def test_resources_of_the_whole_pod_are_written_and_what_is_no_more_goes() -> None:
    before = PodStatus(
        phase="Running",
        resources=ResourceRequirements(limits={"cpu": "1", "memory": "1Gi"}),
        allocated_resources={"cpu": "1", "memory": "1Gi"},
    )
    after = PodStatus(
        phase="Running", resources=ResourceRequirements(limits={"cpu": "2"}), allocated_resources={"cpu": "2"}
    )
    assert patch(PodStatus(), after)["status"]["resources"] == {"limits": {"cpu": "2"}}
    assert patch(before, after)["status"] == {
        "resources": {"$patch": "replace", "limits": {"cpu": "2"}},
        "allocatedResources": {"$patch": "replace", "cpu": "2"},
    }
    assert patch(patched_status(before, after), after) is None
    assert patch(before, PodStatus(phase="Running")) is None, "a provider that says nothing of them"


def test_a_condition_of_a_resize_that_is_over_is_taken_away_and_those_of_others_stay() -> None:
    ready = PodCondition(type="Ready", status="True", last_transition_time=NOW)
    pending = PodCondition(type="PodResizePending", status="True", reason="Deferred", last_transition_time=NOW)
    other = PodCondition(type="example.com/gate", status="True", last_transition_time=NOW)
    before = PodStatus(phase="Running", conditions=[ready, pending, other])
    after = PodStatus(phase="Running", conditions=[ready])
    assert patch(before, after)["status"]["conditions"] == [{"$patch": "delete", "type": "PodResizePending"}]
    assert patch(patched_status(before, after), after) is None

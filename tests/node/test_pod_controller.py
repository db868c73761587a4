"""Rules of the PodController, in virtual time against a pod API in memory. docs/upstream-rules.md says whose rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.node.pod_api import NODE, NotifyingProvider, PodApi, Provider, ended, pod, running
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import (
    InvalidInputError,
    InvalidObjectError,
    NotFoundError,
    PermanentError,
    ServerError,
    TransientError,
)
from virtual_kubelet.node.pod_controller import PodController
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.objects.core_v1 import (
    ConfigMapKeySelector,
    Container,
    EnvVar,
    EnvVarSource,
    Pod,
    PodCondition,
    PodReadinessGate,
    PodStatus,
)
from virtual_kubelet.objects.times import parse_time

pytestmark = pytest.mark.looptime


class LoopClock:
    """Wall time that runs with the loop's virtual time."""

    def __init__(self) -> None:
        self.start = parse_time("2026-01-01T00:00:00Z")
        self.begin = asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return (self.start + timedelta(seconds=self.monotonic() - self.begin)).astimezone(UTC)


@asynccontextmanager
async def controlled(api: PodApi, provider: Provider, **options: Any) -> AsyncIterator[PodController]:
    """A running PodController, ready."""
    config = PodControllerConfig(client=api, node_name=NODE, provider=provider, clock=LoopClock(), **options)  # type: ignore[arg-type]
    controller = PodController(config)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(controller.run())
        await controller.wait_ready()
        yield controller
        task.cancel()


async def settle() -> None:
    """Let everything happen that needs no time."""
    for _ in range(200):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object], seconds: float = 1000) -> None:
    async with asyncio.timeout(seconds):
        step = 0.01
        while not condition():
            await asyncio.sleep(step)
            step = min(1.0, step * 1.1)


@pytest.fixture(params=[NotifyingProvider, Provider], ids=["notifies", "is polled"])
def any_provider(request: pytest.FixtureRequest) -> Provider:
    made: Provider = request.param()
    return made


# Lifecycle scenarios (upstream.md 8.2)


async def test_create_start_delete(any_provider: Provider) -> None:
    api = PodApi()
    async with controlled(api, any_provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.user_deletes("p", 10, now="2026-01-01T00:00:20Z")
        await until(lambda: not api.has("p"))
        finals = [w[2]["status"].get("phase") for w in api.writes if w[0] == "patch"]
        assert finals[-1] == "Succeeded", "the final status is written before the object goes"
        assert [w[2] for w in api.writes if w[0] == "delete"] == [{"uid": "uid-p", "grace_period_seconds": 0}]
    assert any_provider.pods == {}


async def test_deletion_with_not_found_from_the_provider_ends_in_removal(any_provider: Provider) -> None:
    api = PodApi()
    async with controlled(api, any_provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        any_provider.fail("delete", "p", NotFoundError("never heard of it"))
        api.user_deletes("p")
        await until(lambda: not api.has("p"))


async def test_deletion_with_random_errors_is_tried_again_and_the_object_stays(any_provider: Provider) -> None:
    api = PodApi()
    async with controlled(api, any_provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        any_provider.fail("delete", "p", *[RuntimeError("boom")] * 3)
        api.user_deletes("p", 3000, now="2026-01-01T01:00:00Z")
        await until(lambda: any_provider.count("delete", "p") >= 3)
        assert api.has("p")
        await until(lambda: not api.has("p"))
        assert "ProviderDeleteFailed" in api.reasons()


async def test_a_dangling_pod_is_deleted_once_before_ready(any_provider: Provider) -> None:
    stray = pod("stray")
    any_provider.pods[PodKey.of(stray)] = stray
    any_provider.statuses[PodKey.of(stray)] = running(stray)
    async with controlled(PodApi(), any_provider):
        await until(lambda: not any_provider.pods)
        await settle()
        assert any_provider.count("delete", "stray") == 1


async def test_a_dangling_pod_is_judged_by_uid_not_by_name() -> None:
    old, new = pod("p", "uid-old"), pod("p", "uid-new")
    provider, api = NotifyingProvider(old), PodApi(new)
    async with controlled(api, provider):
        await until(lambda: PodKey.of(new) in provider.pods)
        assert PodKey.of(old) not in provider.pods


async def test_a_pod_that_is_being_deleted_at_start_is_deleted(any_provider: Provider) -> None:
    one = pod("p")
    any_provider.pods[PodKey.of(one)] = one
    any_provider.statuses[PodKey.of(one)] = running(one)
    api = PodApi(one)
    api.user_deletes("p")
    async with controlled(api, any_provider):
        await until(lambda: not api.has("p"))
        assert any_provider.pods == {}


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
async def test_terminal_pods_at_start_are_left_untouched(any_provider: Provider, phase: str) -> None:
    one = pod("p")
    one.status = ended(one, phase=phase)
    api = PodApi(one)
    async with controlled(api, any_provider):
        await asyncio.sleep(60)
        assert any_provider.count("create", "p") == 0
        assert api.writes == []


async def test_a_changed_deadline_leads_to_update_pod(any_provider: Provider) -> None:
    api = PodApi()
    async with controlled(api, any_provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.change("p", lambda obj: obj["spec"].update(activeDeadlineSeconds=99))
        await until(lambda: any_provider.count("update", "p") == 1)
        assert any_provider.given[-1].spec.active_deadline_seconds == 99


# Sync decisions (8.3)


async def test_an_unchanged_pod_is_neither_created_nor_updated_again() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        for _ in range(3):
            api.change("p", lambda obj: None)
        await asyncio.sleep(30)
        assert (provider.count("create", "p"), provider.count("update", "p")) == (1, 0)


@pytest.mark.parametrize("field", ["labels", "annotations"])
async def test_a_changed_label_or_annotation_leads_to_update_pod(field: str) -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.change("p", lambda obj: obj["metadata"].update({field: {"a": "b"}}))
        await until(lambda: provider.count("update", "p") == 1)


async def test_a_status_change_alone_calls_nobody() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        calls = list(provider.calls)
        api.change("p", lambda obj: obj["status"].update(nominatedNodeName="x"))
        await asyncio.sleep(5)
        assert provider.calls == calls


async def test_a_condition_that_a_pod_waits_for_is_told_by_update_pod_and_no_other() -> None:
    api, provider = PodApi(), NotifyingProvider()
    gate = PodReadinessGate(condition_type="example.com/gate")
    set_by_others = {"type": "example.com/gate", "status": "True"}
    async with controlled(api, provider):
        api.put_pod(pod("gated", readiness_gates=[gate]))
        api.put_pod(pod("free"))
        await until(lambda: {api.status(name).phase for name in ("gated", "free")} == {"Running"})
        for name in ("free", "gated"):
            api.change(name, lambda obj: obj["status"]["conditions"].append(dict(set_by_others)))
        await until(lambda: provider.count("update", "gated") == 1)
        api.change("gated", lambda obj: obj["status"].update(nominatedNodeName="x"))
        await asyncio.sleep(5)
        assert (provider.count("update", "gated"), provider.count("update", "free")) == (1, 0)


async def test_the_event_filter_leaves_pods_alone() -> None:
    api, provider = PodApi(), NotifyingProvider()
    only = "theirs"
    async with controlled(api, provider, pod_event_filter=lambda one: one.metadata.name != only):
        api.put_pod(pod(only))
        api.put_pod(pod("ours"))
        await until(lambda: api.status("ours").phase == "Running")
        assert provider.count("create", only) == 0


async def test_the_skip_flag_passes_the_environment_through_untouched() -> None:
    reference = EnvVarSource(config_map_key_ref=ConfigMapKeySelector(name="absent", key="k"))
    containers = [Container(name="main", image="i", env=[EnvVar(name="A", value_from=reference)])]
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider, skip_downward_api_resolution=True):
        api.put_pod(pod("p", containers=containers))
        await until(lambda: api.status("p").phase == "Running")
        assert provider.given[0].spec.containers[0].env == containers[0].env


async def test_cancelling_run_is_clean() -> None:
    api = PodApi()
    config = PodControllerConfig(client=api, node_name=NODE, provider=NotifyingProvider())  # type: ignore[arg-type]
    controller = PodController(config)
    task = asyncio.create_task(controller.run())
    await controller.wait_ready()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "name",
    ["workers", "status_writers", "poll_interval", "provider_call_timeout", "retry_cap", "slow_after"],
)
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        PodControllerConfig(client=None, node_name=NODE, provider=NotifyingProvider(), **{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["most_slow", "kill_margin"])
def test_a_limit_below_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        PodControllerConfig(client=None, node_name=NODE, provider=NotifyingProvider(), **{name: -1})  # type: ignore[arg-type]


# Identity, deletion, status (10.1)


async def test_a_pod_recreated_under_its_name_waits_until_the_old_one_is_gone() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p", "uid-1"))
        await until(lambda: api.status("p").phase == "Running")
        gate = provider.gates["delete", "p"] = asyncio.Event()
        api.user_deletes("p", 0)
        api.put_pod(pod("p", "uid-2"))
        await asyncio.sleep(20)
        assert provider.count("create", "p") == 1
        gate.set()
        await until(lambda: provider.count("create", "p") == 2)
        await until(lambda: api.status("p").phase == "Running")
        assert {key.uid for key in provider.pods} == {"uid-2"}


async def test_every_write_carries_the_uid() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.user_deletes("p")
        await until(lambda: not api.has("p"))
    assert all((body["metadata"] if verb == "patch" else body)["uid"] == "uid-p" for verb, _, body in api.writes)


async def test_a_status_of_another_uid_is_never_written_to_this_pod() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        provider.notify(PodKey("default", "p", "uid-of-another"), PodStatus(phase="Failed"))
        await asyncio.sleep(5)
        assert api.status("p").phase == "Running"


async def test_a_status_that_arrives_before_its_pod_is_kept() -> None:
    api, provider = PodApi(), NotifyingProvider()
    one = pod("p")
    provider.pods[PodKey.of(one)] = one
    async with controlled(api, provider):
        provider.notify(PodKey.of(one), running(one))
        await asyncio.sleep(30)
        api.put_pod(one)
        await until(lambda: api.status("p").phase == "Running")
        assert provider.count("create", "p") == 0 or api.status("p").phase == "Running"


async def test_early_statuses_are_bounded() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider, early_statuses=2) as controller:
        for number in range(5):
            one = pod(f"p{number}")
            provider.notify(PodKey.of(one), running(one))
        assert len(controller._records._early) == 2


async def test_a_finished_pod_goes_at_once_not_after_its_grace_period() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        before = asyncio.get_running_loop().time()
        api.user_deletes("p", 300, now="2026-01-01T00:05:00Z")
        await until(lambda: not api.has("p"))
        assert asyncio.get_running_loop().time() - before < 1


async def test_the_grace_period_ends_a_pod_that_does_not() -> None:
    api, provider = PodApi(), NotifyingProvider()
    provider.ends_on_delete = False
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        before = asyncio.get_running_loop().time()
        api.user_deletes("p", 20, now="2026-01-01T00:00:20Z")
        await until(lambda: not api.has("p"))
        # Ten seconds more than it was granted: to be killed, and to say so.
        assert 30 <= asyncio.get_running_loop().time() - before <= 31


async def test_a_second_shorter_grace_period_counts_at_once() -> None:
    api, provider = PodApi(), NotifyingProvider()
    provider.ends_on_delete = False
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.user_deletes("p", 300, now="2026-01-01T00:05:00Z")
        await until(lambda: provider.count("delete", "p") == 1)
        before = asyncio.get_running_loop().time()
        api.user_deletes("p", 2, now="2026-01-01T00:00:03Z")
        await until(lambda: not api.has("p"))
        assert asyncio.get_running_loop().time() - before < 13
        assert [one.metadata.deletion_grace_period_seconds for one in provider.given[1:3]] == [300, 2]


async def test_a_pending_pod_that_is_deleted_is_told_to_the_provider() -> None:
    api, provider = PodApi(), NotifyingProvider()
    provider.fail("create", "p", *[TransientError("no room")] * 50)
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: provider.count("create", "p") >= 1)
        await asyncio.sleep(0.1)
        api.user_deletes("p")
        await until(lambda: not api.has("p"))
        assert provider.count("delete", "p") >= 1


async def test_a_forced_deletion_is_told_to_the_provider() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.user_deletes("p", 0)
        await until(lambda: not provider.pods)


async def test_a_provider_that_forgets_a_deleted_pod_without_a_word_does_not_cost_the_grace_period(
    any_provider: Provider,
) -> None:
    api = PodApi()
    async with controlled(api, any_provider, poll_interval=3600) as controller:
        api.put_pod(pod("p"))
        await until(lambda: any_provider.count("create", "p") == 1)
        controller._records.status_from_provider(PodKey("default", "p", "uid-p"), running(pod("p")))
        await until(lambda: api.status("p").phase == "Running")
        any_provider.notify = lambda key, status, *, deleting=False: None
        before = asyncio.get_running_loop().time()
        api.user_deletes("p", 300)
        await until(lambda: not api.has("p"))
        assert asyncio.get_running_loop().time() - before < 1, "virtual seconds"
        finals = [write[2]["status"] for write in api.writes if write[0] == "patch"]
        assert (finals[-1]["phase"], finals[-1]["reason"]) == ("Succeeded", "Terminated")


async def test_a_finalizer_keeps_the_object_and_the_node_does_not_hammer() -> None:
    api, provider = PodApi(), NotifyingProvider()
    one = pod("p")
    one.metadata.finalizers = ["example.com/hold"]
    async with controlled(api, provider):
        api.put_pod(one)
        await until(lambda: api.status("p").phase == "Running")
        api.user_deletes("p")
        await until(lambda: not provider.pods)
        await asyncio.sleep(300)
        assert api.has("p")
        assert len([w for w in api.writes if w[0] == "delete"]) <= 3


async def test_an_invalid_status_blocks_neither_later_ones_nor_deletion() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        one = pod("p")
        api.put_pod(one)
        await until(lambda: api.status("p").phase == "Running")
        refused = InvalidObjectError(
            422, "Invalid", "bad time", causes=[("status.startTime", "FieldValueInvalid", "no")]
        )
        api.refuse = lambda verb, name: refused if verb == "patch" else None
        provider.report(PodKey.of(one), running(one, message="one"))
        await asyncio.sleep(30)
        assert len([w for w in api.writes if w[0] == "patch"]) == 2, "not sent again until it changes"
        api.user_deletes("p")
        await until(lambda: not api.has("p"))


async def test_the_newest_status_wins_and_those_between_are_not_written() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        one = pod("p")
        api.put_pod(one)
        await until(lambda: api.status("p").phase == "Running")
        before = len(api.writes)
        for number in range(50):
            provider.report(PodKey.of(one), running(one, message=f"step {number}"))
        await until(lambda: api.status("p").message == "step 49")
        assert len(api.writes) - before <= 2


async def test_a_status_that_others_rewrite_is_asserted_again() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")

        def node_lost(obj: dict[str, Any]) -> None:
            obj["status"]["conditions"][0].update(status="False", reason="NodeNotReady")

        api.change("p", node_lost)
        await until(lambda: (api.status("p").conditions or [])[0].status == "True")


async def test_conditions_of_others_survive() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        one = pod("p")
        one.status.conditions = [PodCondition(type="example.com/ready", status="True")]
        api.put_pod(one)
        await until(lambda: api.status("p").phase == "Running")
        assert {c.type for c in api.status("p").conditions or []} == {"example.com/ready", "Ready"}


async def test_a_failed_status_write_is_tried_again() -> None:
    api, provider = PodApi(), NotifyingProvider()
    failures = [ServerError(500, "InternalError", "etcd"), ServerError(503, "", "later")]
    api.refuse = lambda verb, name: failures.pop() if verb == "patch" and failures else None
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")


async def test_the_provider_is_not_asked_about_a_pod_it_has_deleted() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.user_deletes("p")
        await until(lambda: not api.has("p"))
        calls = len(provider.calls)
        await asyncio.sleep(120)
        assert len(provider.calls) == calls


async def test_nothing_is_remembered_of_pods_that_are_gone(any_provider: Provider) -> None:
    api = PodApi()
    async with controlled(api, any_provider) as controller:
        for number in range(20):
            api.put_pod(pod(f"p{number}"))
        await until(lambda: all(api.status(f"p{n}").phase == "Running" for n in range(20)))
        for number in range(20):
            api.user_deletes(f"p{number}")
        await until(lambda: not any(api.has(f"p{n}") for n in range(20)))
        await settle()
        assert len(controller._records) == 0
        assert controller._records._by_name == {}


async def test_the_backend_may_end_a_pod_and_the_api_object_is_deleted_gracefully() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        one = pod("p")
        api.put_pod(one)
        await until(lambda: api.status("p").phase == "Running")
        provider.notify(PodKey.of(one), running(one), deleting=True)
        await until(lambda: not api.has("p"))
        assert next(w[2] for w in api.writes if w[0] == "delete") == {"uid": "uid-p", "grace_period_seconds": None}


# Restart (invariant 6, 10.1 #762)


async def test_running_pods_are_adopted_without_a_call_for_each() -> None:
    pods = [pod(f"p{n}") for n in range(5)]
    for one in pods:
        one.status = running(one)
    provider, api = NotifyingProvider(*pods), PodApi(*pods)
    async with controlled(api, provider):
        await asyncio.sleep(30)
        assert provider.calls == [("list", "")]
        assert api.writes == []


async def test_a_pod_that_had_run_and_is_lost_is_failed_not_run_again() -> None:
    one = pod("p")
    one.status = running(one)
    provider, api = NotifyingProvider(), PodApi(one)
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Failed")
        status = api.status("p")
        assert status.reason == "NotFound"
        assert status.container_statuses is not None
        state = status.container_statuses[0].state
        assert state is not None
        assert state.terminated is not None
        assert (state.terminated.exit_code, state.terminated.reason) == (137, "NotFound")
        assert provider.count("create", "p") == 0


async def test_a_lost_pod_runs_again_where_the_provider_says_that_is_safe() -> None:
    one = pod("p")
    one.status = running(one)
    provider, api = NotifyingProvider(), PodApi(one)
    provider.rerun_is_safe = True
    async with controlled(api, provider):
        await until(lambda: provider.count("create", "p") == 1)


async def test_a_pod_changed_while_the_node_was_down_is_updated() -> None:
    one, deployed = pod("p"), pod("p")
    one.status = running(one)
    one.spec.containers = [Container(name="main", image="busybox:new")]
    provider, api = NotifyingProvider(deployed), PodApi(one)
    async with controlled(api, provider):
        await until(lambda: provider.count("update", "p") == 1)


async def test_an_update_of_an_adopted_pod_that_fails_is_tried_again() -> None:
    one, deployed = pod("p"), pod("p")
    one.status = running(one)
    one.spec.containers = [Container(name="main", image="busybox:new")]
    provider, api = NotifyingProvider(deployed), PodApi(one)
    provider.fail("update", "p", RuntimeError("busy"))
    async with controlled(api, provider):
        await until(lambda: provider.count("update", "p") == 2)
        assert provider.pods[PodKey.of(one)].spec.containers[0].image == "busybox:new"


async def test_a_provider_that_cannot_list_its_pods_is_asked_again_and_nothing_begins() -> None:
    api, provider = PodApi(pod("p")), NotifyingProvider()
    provider.fail("list", "", RuntimeError("down"), RuntimeError("still down"))
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        assert provider.calls[:3] == [("list", "")] * 3


async def test_an_orphan_is_swept_only_when_seen_twice_and_the_api_says_it_is_none() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider, orphan_interval=60):
        stray = pod("stray")
        provider.pods[PodKey.of(stray)] = stray
        provider.statuses[PodKey.of(stray)] = running(stray)
        await asyncio.sleep(65)
        assert provider.count("delete", "stray") == 0
        await asyncio.sleep(65)
        assert provider.count("delete", "stray") == 1


# Failures and retries (10.2)


async def test_unknown_and_transient_errors_are_retried_for_ever_and_the_pod_stays_pending() -> None:
    api, provider = PodApi(), NotifyingProvider()
    provider.fail("create", "p", *[RuntimeError("who knows"), TransientError("busy")] * 15)
    async with controlled(api, provider):
        api.put_pod(pod("p", restart_policy="Never"))
        await until(lambda: provider.count("create", "p") == 30, 20000)
        status = api.status("p")
        assert (status.phase, status.reason) == ("Pending", "ProviderFailed")
        await until(lambda: api.status("p").phase == "Running", 2000)
        assert api.status("p").reason is None
        assert "ProviderCreateFailed" in api.reasons()


async def test_retries_back_off_to_a_cap() -> None:
    api, provider = PodApi(), NotifyingProvider()
    provider.fail("create", "p", *[RuntimeError("no")] * 40)
    async with controlled(api, provider, retry_initial=1, retry_cap=300):
        api.put_pod(pod("p"))
        await asyncio.sleep(3600)
        assert 12 <= provider.count("create", "p") <= 25


async def test_retry_after_is_honoured() -> None:
    api, provider = PodApi(), NotifyingProvider()
    provider.fail("create", "p", TransientError("throttled", retry_after=120))
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await asyncio.sleep(110)
        assert provider.count("create", "p") == 1
        await asyncio.sleep(20)
        assert provider.count("create", "p") == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidInputError("no GPUs here"), "InvalidInput"),
        (PermanentError("refused", reason="OutOfQuota"), "OutOfQuota"),
    ],
)
async def test_a_permanent_error_ends_the_pod_with_its_reason(error: Exception, reason: str) -> None:
    api, provider = PodApi(), NotifyingProvider()
    provider.fail("create", "p", error)
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Failed")
        assert (api.status("p").reason, api.status("p").message) == (reason, str(error))
        await asyncio.sleep(1000)
        assert provider.count("create", "p") == 1


async def test_a_new_event_on_the_pod_ends_the_back_off() -> None:
    api, provider = PodApi(), NotifyingProvider()
    provider.fail("create", "p", TransientError("later", retry_after=10_000))
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: provider.count("create", "p") == 1)
        api.change("p", lambda obj: obj["metadata"].update(labels={"try": "now"}))
        await until(lambda: api.status("p").phase == "Running", 5)


async def test_an_unknown_outcome_is_looked_up_before_it_is_tried_again() -> None:
    api, provider = PodApi(), NotifyingProvider()
    one = pod("p")

    async def created_but_timed_out(given: Pod) -> None:
        provider.calls.append(("create", "p"))
        provider.pods[PodKey.of(given)] = given
        provider.report(PodKey.of(given), running(given))
        raise TimeoutError("gateway")

    provider.create_pod = created_but_timed_out  # type: ignore[method-assign, assignment]
    async with controlled(api, provider):
        api.put_pod(one)
        await asyncio.sleep(600)
        assert provider.count("create", "p") == 1
        assert api.status("p").phase == "Running"


async def test_a_failed_update_leaves_a_running_pod_running() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        provider.fail("update", "p", RuntimeError("no"))
        api.change("p", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        await until(lambda: provider.count("update", "p") == 2)
        assert api.status("p").phase == "Running"
        assert "ProviderUpdateFailed" in api.reasons()


async def test_a_hanging_provider_call_is_cut_and_tried_again() -> None:
    api, provider = PodApi(), NotifyingProvider()
    gate = provider.gates["create", "p"] = asyncio.Event()
    async with controlled(api, provider, provider_call_timeout=60):
        api.put_pod(pod("p"))
        await until(lambda: provider.count("create", "p") == 2)
        gate.set()
        await until(lambda: api.status("p").phase == "Running")


async def test_slow_and_failing_pods_do_not_delay_others() -> None:
    api, provider = PodApi(), NotifyingProvider()
    for number in range(5):
        provider.gates["create", f"slow{number}"] = asyncio.Event()
        provider.fail("create", f"bad{number}", *[RuntimeError("no")] * 20)
    async with controlled(api, provider, workers=6):
        for number in range(5):
            api.put_pod(pod(f"slow{number}"))
            api.put_pod(pod(f"bad{number}"))
        api.put_pod(pod("quick"))
        await until(lambda: api.status("quick").phase == "Running", 1)


async def test_a_provider_that_reports_nonsense_is_told_so_and_loses_nothing() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        with pytest.raises(ValueError, match="phase"):
            provider.notify(PodKey("default", "p", "uid-p"), PodStatus(phase="Fine"))
        assert api.status("p").phase == "Running"


async def test_a_pod_whose_spec_cannot_be_read_is_told_so_and_ends_nothing() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider, pod_event_filter=lambda one: True) as controller:
        api.put_pod(pod("other"))
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.change("p", lambda obj: obj.update(spec={"containers": "of another kind"}))
        await until(lambda: "UnreadablePodSpec" in api.reasons())
        api.change("other", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        await until(lambda: provider.count("update", "other") == 1)
        assert sorted(one.metadata.name or "" for one in controller.list()) == ["other", "p"]
        api.user_deletes("p")
        await until(lambda: not api.has("p"))
        assert {key.name for key in provider.pods} == {"other"}


# Environment


def needs(config_map: str, optional: bool = False) -> list[Container]:
    key = ConfigMapKeySelector(name=config_map, key="k", optional=optional)
    return [Container(name="main", image="i", env=[EnvVar(name="A", value_from=EnvVarSource(config_map_key_ref=key))])]


async def test_a_missing_config_map_leaves_the_pod_pending_and_is_retried_the_moment_it_appears() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=needs("settings")))
        await until(lambda: "MandatoryConfigMapNotFound" in api.reasons())
        await until(lambda: bool(api.status("p").container_statuses))
        status = api.status("p")
        assert status.phase == "Pending"
        assert status.container_statuses is not None
        state = status.container_statuses[0].state
        assert state is not None
        assert state.waiting is not None
        assert (state.waiting.reason, state.waiting.message) == (
            "CreateContainerConfigError",
            'configmap "settings" not found',
        )
        assert provider.count("create", "p") == 0
        await asyncio.sleep(3600)
        api.put_config_map("settings", {"k": "v"})
        await until(lambda: api.status("p").phase == "Running", 1)
        assert provider.given[-1].spec.containers[0].env == [EnvVar(name="A", value="v")]


async def test_an_optional_config_map_may_be_missing() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=needs("settings", optional=True)))
        await until(lambda: api.status("p").phase == "Running")
        assert "OptionalConfigMapNotFound" in api.reasons()


async def test_a_deleted_config_map_does_not_block_an_unrelated_update() -> None:
    api, provider = PodApi(), NotifyingProvider()
    api.put_config_map("settings", {"k": "v"})
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=needs("settings")))
        await until(lambda: api.status("p").phase == "Running")
        api._remove("configmaps", "default", "settings")
        api.change("p", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        await until(lambda: provider.count("update", "p") == 1)
        assert provider.given[-1].spec.containers[0].env == [EnvVar(name="A", value="v")]


async def test_a_waiting_pod_can_still_be_deleted() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=needs("settings")))
        await until(lambda: "MandatoryConfigMapNotFound" in api.reasons())
        api.user_deletes("p")
        await until(lambda: not api.has("p"), 5)


# Polling (3.8)


async def test_a_polled_pod_that_vanishes_while_running_is_failed() -> None:
    api, provider = PodApi(), Provider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        provider.statuses.clear()
        await until(lambda: api.status("p").phase == "Failed")
        assert api.status("p").reason == "NotFound"


async def test_a_young_pod_that_is_not_reported_yet_is_not_lost() -> None:
    api, provider = PodApi(), Provider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: provider.count("create", "p") == 1)
        provider.statuses.clear()
        await asyncio.sleep(50)
        assert api.status("p").phase == "Pending"
        await asyncio.sleep(30)
        assert api.status("p").phase == "Failed"


async def test_a_pod_that_was_long_in_coming_is_young_when_it_has_come() -> None:
    """The provider took it after ten minutes, and reports it a little later."""
    api, provider = PodApi(), Provider()
    provider.fail("create", "p", TransientError("no room", retry_after=600))
    provider.report = lambda key, status: None  # type: ignore[method-assign]
    async with controlled(api, provider):
        one = pod("p")
        api.put_pod(one)
        await until(lambda: provider.count("status", "p") >= 5)
        assert api.status("p").phase == "Pending"
        provider.statuses[PodKey.of(one)] = running(one)
        await until(lambda: api.status("p").phase == "Running")


async def test_polling_asks_only_about_pods_that_have_not_ended() -> None:
    api, provider = PodApi(), Provider()
    async with controlled(api, provider):
        one = pod("p")
        api.put_pod(one)
        await until(lambda: api.status("p").phase == "Running")
        provider.statuses[PodKey.of(one)] = ended(one)
        await until(lambda: api.status("p").phase == "Succeeded")
        asked = provider.count("status", "p")
        await asyncio.sleep(300)
        assert provider.count("status", "p") == asked


async def test_a_provider_with_batches_is_asked_once_a_round() -> None:
    class Batching(Provider):
        rounds = 0

        async def get_pod_statuses(self, keys: list[PodKey]) -> dict[PodKey, PodStatus | None]:
            self.rounds += 1
            return {key: self.statuses.get(key) for key in keys}

    api, provider = PodApi(), Batching()
    async with controlled(api, provider, poll_interval=5):
        for number in range(30):
            api.put_pod(pod(f"p{number}"))
        await until(lambda: all(api.status(f"p{n}").phase == "Running" for n in range(30)))
        assert provider.rounds <= 2
        assert not [call for call in provider.calls if call[0] == "status"]


# Stopping


async def test_drain_ends_every_pod_and_writes_what_became_of_it() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider) as controller:
        for number in range(5):
            api.put_pod(pod(f"p{number}"))
        await until(lambda: all(api.status(f"p{n}").phase == "Running" for n in range(5)))
        await controller.drain(30)
        assert provider.pods == {}
        await until(lambda: all(api.status(f"p{n}").phase == "Succeeded" for n in range(5)))


async def test_drain_does_not_wait_for_a_poll_and_begins_nothing_new() -> None:
    api, provider = PodApi(), Provider()
    async with controlled(api, provider, poll_interval=3600) as controller:
        api.put_pod(pod("p"))
        await until(lambda: len(provider.pods) == 1)
        started = asyncio.get_running_loop().time()
        await controller.drain(30)
        assert asyncio.get_running_loop().time() - started < 2
        assert provider.pods == {}
        await until(lambda: api.status("p").phase in ("Succeeded", "Failed"))
        api.put_pod(pod("late"))
        await asyncio.sleep(10)
        assert provider.pods == {}

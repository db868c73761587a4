"""A provider that throws, hangs, cancels itself or answers nonsense: told where a user looks, and the node goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from tests.node.pod_api import NotifyingProvider, PodApi, Provider, pod, running
from tests.node.test_pod_controller import controlled, until
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import NotFoundError
from virtual_kubelet.node.pod_status_patch import check_status
from virtual_kubelet.objects.core_v1 import (
    Container,
    ContainerStatus,
    EnvVar,
    EnvVarSource,
    ObjectFieldSelector,
    Pod,
    PodCondition,
    PodStatus,
)

pytestmark = pytest.mark.looptime


async def serves_others(api: PodApi) -> None:
    """The node has not ended: another pod still comes up on it."""
    api.put_pod(pod("other"))
    await until(lambda: api.status("other").phase == "Running")


def wants(field: str) -> list[Container]:
    source = EnvVarSource(field_ref=ObjectFieldSelector(field_path=field))
    return [Container(name="main", image="i", env=[EnvVar(name="A", value_from=source)])]


@pytest.mark.parametrize("call", ["create", "update", "delete", "get"])
@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), NotFoundError("no such image"), RuntimeError(), BaseExceptionGroup("two", [OSError()])],
    ids=["cancels itself", "not found", "no text", "a group"],
)
async def test_whatever_a_provider_raises_ends_no_worker(call: str, error: BaseException) -> None:
    api, provider = PodApi(), NotifyingProvider()
    provider.errors["create", "p"] = [RuntimeError("first")] if call == "get" else []
    provider.errors.setdefault((call, "p"), []).append(error)  # type: ignore[arg-type]
    async with controlled(api, provider, workers=1):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.change("p", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        await until(lambda: provider.count("update", "p") >= 1)
        api.user_deletes("p")
        await until(lambda: not api.has("p"))
        await serves_others(api)


async def test_a_provider_that_does_not_know_how_to_create_is_tried_again_and_told() -> None:
    """``NotFoundError`` from ``create_pod`` (an image, say) is no word about the pod."""
    api, provider = PodApi(), NotifyingProvider()
    provider.fail("create", "p", *[NotFoundError("no such image")] * 3)
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").reason == "ProviderFailed")
        assert api.status("p").message == "no such image"
        assert "ProviderCreateFailed" in api.reasons()
        await until(lambda: api.status("p").phase == "Running")


async def test_a_provider_without_async_methods_is_told_and_serves_others() -> None:
    class Sync(NotifyingProvider):
        def create_pod(self, one: Pod) -> Any:
            if one.metadata.name == "p":
                raise OSError("disk full")
            return super().create_pod(one)

        def update_pod(self, one: Pod) -> Any:
            return None

    api = PodApi()
    async with controlled(api, Sync()):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").message == "disk full")
        await serves_others(api)
        api.change("other", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        await until(lambda: "ProviderUpdateFailed" in api.reasons())


async def test_a_hanging_call_says_how_long_it_was_waited_for() -> None:
    api, provider = PodApi(), NotifyingProvider()
    provider.gates["create", "p"] = asyncio.Event()
    async with controlled(api, provider, provider_call_timeout=60):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").message == "the provider has not answered within 60 s")
        await serves_others(api)


@pytest.mark.parametrize("nonsense", [None, 7, ["web-0"], [None], [Pod()]])
async def test_a_list_that_is_none_begins_nothing_and_is_asked_for_again(nonsense: Any) -> None:
    class Confused(NotifyingProvider):
        answers = [nonsense, nonsense]

        async def get_pods(self) -> Sequence[Pod]:
            return self.answers.pop() if self.answers else await super().get_pods()

    provider = Confused()
    async with controlled(PodApi(), provider):
        assert provider.answers == []


async def test_a_sweep_survives_a_list_that_is_none() -> None:
    class Confused(NotifyingProvider):
        async def get_pods(self) -> Sequence[Pod]:
            await super().get_pods()
            return [None] if self.count("list", "") == 2 else []  # type: ignore[list-item]

    api, provider = PodApi(), Confused()
    async with controlled(api, provider, orphan_interval=60):
        await until(lambda: provider.count("list", "") == 4)
        await serves_others(api)


@pytest.mark.parametrize(
    "status",
    [
        {"phase": "Running"},
        PodStatus(phase=[]),  # type: ignore[arg-type]
        PodStatus(phase="Running", conditions=[None]),  # type: ignore[list-item]
        PodStatus(phase="Running", conditions=5),  # type: ignore[arg-type]
        PodStatus(phase="Running", container_statuses=[{"name": "main"}]),  # type: ignore[list-item]
        PodStatus(
            phase="Running",
            container_statuses=[
                ContainerStatus(name="main", image="", image_id="", ready=True, restart_count=0, state="up")  # type: ignore[arg-type]
            ],
        ),
    ],
    ids=["a dict", "a phase", "a condition", "conditions", "a container", "a state"],
)
async def test_a_status_that_is_none_is_refused_at_the_door_and_polling_goes_on(status: Any) -> None:
    api, provider = PodApi(), Provider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        provider.statuses[PodKey("default", "p", "uid-p")] = status
        asked = provider.count("status", "p")
        await until(lambda: provider.count("status", "p") > asked + 2)
        assert api.status("p").phase == "Running"
        await serves_others(api)
        with pytest.raises(ValueError, match="the provider gave"):
            check_status(status)


async def test_a_status_that_is_no_json_is_told_on_the_pod_and_a_later_one_is_written() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        key = PodKey("default", "p", "uid-p")
        wrong = running(provider.pods[key])
        wrong.conditions = [PodCondition(type="Ready", status="False", message=object())]  # type: ignore[arg-type]
        provider.report(key, wrong)
        await until(lambda: "InvalidPodStatus" in api.reasons())
        provider.report(key, running(provider.pods[key], message="fine"))
        await until(lambda: api.status("p").message == "fine")


@pytest.mark.parametrize("answer", [None, {"p": None}, [], {PodKey("default", "p", "uid-p"): "fine"}])
async def test_a_batch_that_is_none_says_nothing_this_round(answer: Any) -> None:
    class Confused(Provider):
        rounds = 0

        async def get_pod_statuses(self, keys: Sequence[PodKey]) -> Any:
            self.rounds += 1
            return answer if self.rounds in (2, 3) else {key: self.statuses.get(key) for key in keys}

    api, provider = PodApi(), Confused()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: provider.rounds >= 5)
        assert api.status("p").phase == "Running"


async def test_the_status_asked_for_after_an_unknown_outcome_may_be_nonsense() -> None:
    class Confused(NotifyingProvider):
        async def create_pod(self, one: Pod) -> None:
            self.calls.append(("create", one.metadata.name or ""))
            self.pods[PodKey.of(one)] = one
            if one.metadata.name == "p":
                raise TimeoutError("gateway")
            self.report(PodKey.of(one), running(one))

        async def get_pod_status(self, key: PodKey) -> Any:
            self.calls.append(("status", key.name))
            return running(self.pods[key]) if self.count("status", key.name) > 2 else "fine"

    api, provider = PodApi(), Confused()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await serves_others(api)
        await until(lambda: api.status("p").phase == "Running")
        assert provider.count("create", "p") == 1


@pytest.mark.parametrize("answer", [RuntimeError("no network"), "10.0.0.1", [None], None])
async def test_addresses_that_cannot_be_had_leave_the_pod_pending(answer: Any) -> None:
    class Addressing(NotifyingProvider):
        asked = 0

        async def get_pod_ips(self, one: Pod) -> Any:
            self.asked += 1
            if self.asked > 2:
                return ["10.9.8.7"]
            if isinstance(answer, Exception):
                raise answer
            return answer

    api, provider = PodApi(), Addressing()
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=wants("status.podIP")))
        await until(lambda: api.status("p").reason == "ProviderFailed")
        await serves_others(api)
        await until(lambda: api.status("p").phase == "Running")
        assert provider.given[-1].spec.containers[0].env == [EnvVar(name="A", value="10.9.8.7")]


async def test_addresses_are_asked_for_only_where_a_variable_is_one() -> None:
    class Addressing(NotifyingProvider):
        async def get_pod_ips(self, one: Pod) -> Any:
            raise AssertionError("nobody wants to know")

    api = PodApi()
    async with controlled(api, Addressing()):
        api.put_pod(pod("p", containers=wants("metadata.name")))
        await until(lambda: api.status("p").phase == "Running")


async def test_a_provider_that_forgets_what_it_is_told_is_not_asked_in_a_circle() -> None:
    class Forgetful(NotifyingProvider):
        async def create_pod(self, one: Pod) -> None:
            await super().create_pod(one)
            if one.metadata.name == "p":
                del self.pods[PodKey.of(one)]

    api, provider = PodApi(), Forgetful()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.change("p", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        await until(lambda: api.status("p").phase == "Failed")
        assert api.status("p").reason == "NotFound"
        await serves_others(api)


async def test_a_pod_that_has_ended_does_not_run_again_whatever_the_provider_says() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        key = PodKey("default", "p", "uid-p")
        provider.notify(key, PodStatus(phase="Succeeded"))
        provider.notify(key, running(provider.pods[key]))
        await until(lambda: api.status("p").phase == "Succeeded")
        await asyncio.sleep(60)
        assert api.status("p").phase == "Succeeded"

"""Rows of docs/upstream-rules.md that no other test proves: PodController in virtual time."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from tests.node.pod_api import NotifyingProvider, PodApi, Provider, pod, running
from tests.node.test_pod_controller import controlled, settle, until
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ApiNotFoundError, ConflictError
from virtual_kubelet.objects.core_v1 import (
    ConfigMapEnvSource,
    Container,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    Pod,
    PodStatus,
    SecretKeySelector,
)

pytestmark = pytest.mark.looptime


def put_secret(api: PodApi, **data: str) -> None:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    api._store("secrets", {"metadata": {"name": "token", "namespace": "default"}, "data": encoded})


def wants_token() -> list[Container]:
    reference = EnvVarSource(secret_key_ref=SecretKeySelector(name="token", key="k"))
    return [Container(name="main", image="i", env=[EnvVar(name="A", value_from=reference)])]


async def test_a_changed_config_map_is_no_update_and_the_order_of_variables_stays() -> None:
    """TestPodNoSpecChangeWithResolvedEnvOrderDifference, virtual-kubelet#1424."""
    api, provider = PodApi(), NotifyingProvider()
    api.put_config_map("settings", {"B": "1", "A": "2", "C": "3"})
    source = EnvFromSource(config_map_ref=ConfigMapEnvSource(name="settings"))
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=[Container(name="main", image="i", env_from=[source])]))
        await until(lambda: api.status("p").phase == "Running")
        first = provider.given[-1].spec.containers[0].env
        api.put_config_map("settings", {"C": "x", "B": "y"})
        for _ in range(3):
            api.change("p", lambda obj: obj["status"].update(nominatedNodeName="x"))
            await asyncio.sleep(60)
        assert provider.count("update", "p") == 0
        api.change("p", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        await until(lambda: provider.count("update", "p") == 1)
        assert provider.given[-1].spec.containers[0].env == first


@pytest.mark.parametrize(
    "answer",
    [
        ConflictError(409, "Conflict", "Precondition failed: UID in precondition: old, UID in object meta: new"),
        ApiNotFoundError(404, "NotFound", 'pods "p" not found'),
    ],
    ids=["conflict", "not found"],
)
async def test_an_object_replaced_while_its_deletion_is_confirmed_is_left_alone(answer: Exception) -> None:
    """TestReCreatePodRace. (The provider may be told of the old pod twice: its deletion is idempotent.)"""
    api, provider = PodApi(), Deleting()

    def replaced(verb: str, name: str) -> Exception | None:
        if verb != "delete" or api.objects["pods", "default", name]["metadata"]["uid"] == "uid-2":
            return None
        api._remove("pods", "default", name)
        api.put_pod(pod("p", "uid-2"))
        return answer

    async with controlled(api, provider):
        api.put_pod(pod("p", "uid-1"))
        await until(lambda: api.status("p").phase == "Running")
        api.refuse = replaced
        api.user_deletes("p", 10)
        await until(lambda: PodKey("default", "p", "uid-2") in provider.pods)
        await until(lambda: api.status("p").phase == "Running")
        await asyncio.sleep(600)
        assert [write[2]["uid"] for write in api.writes if write[0] == "delete"] == ["uid-1"]
        assert {key.uid for key in provider.pods} == {"uid-2"}
        assert provider.deleted == {"uid-1"}
        assert api.has("p")


class Deleting(NotifyingProvider):
    """Remembers the UIDs of the pods it was told to delete."""

    def __init__(self) -> None:
        super().__init__()
        self.deleted: set[str] = set()

    async def delete_pod(self, one: Pod) -> None:
        self.deleted.add(one.metadata.uid or "")
        await super().delete_pod(one)


class Silent(NotifyingProvider):
    """Takes pods and never says what became of them."""

    def report(self, key: PodKey, status: PodStatus) -> None:
        pass


async def test_without_a_status_of_the_provider_nothing_is_made_up() -> None:
    """TestUpdatePodStatusWithNilProviderStatus."""
    api, provider = PodApi(), Silent()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: provider.count("create", "p") == 1)
        await asyncio.sleep(30)
        assert api.status("p").phase == "Pending"
        assert not api.status("p").container_statuses
        assert not [write for write in api.writes if "phase" in write[2].get("status", {})]


async def test_a_status_write_names_the_uid_and_no_other_metadata() -> None:
    """virtual-kubelet#976 (labels reverted) and #1399 (resourceVersion)."""
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.change("p", lambda obj: obj["metadata"].update(labels={"users": "own"}))
        key = PodKey("default", "p", "uid-p")
        await settle()
        provider.report(key, running(provider.pods[key], message="newer"))
        await until(lambda: api.status("p").message == "newer")
        patches = [write[2] for write in api.writes if write[0] == "patch"]
        assert len(patches) >= 2
        assert all(patch["metadata"] == {"uid": "uid-p"} for patch in patches)
        assert api.objects["pods", "default", "p"]["metadata"]["labels"] == {"users": "own"}


async def test_a_key_missing_in_a_secret_is_waited_for_and_its_value_shows_nowhere() -> None:
    """interLink#263: event on the pod, retry the moment the Secret has it."""
    api, provider = PodApi(), NotifyingProvider()
    put_secret(api, other="planted-secret")
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=wants_token()))
        await until(lambda: "MandatorySecretKeyNotFound" in api.reasons())
        await until(lambda: bool(api.status("p").container_statuses))
        statuses = api.status("p").container_statuses
        assert statuses is not None
        (status,) = statuses
        assert status.state is not None
        assert status.state.waiting is not None
        assert status.state.waiting.message == "couldn't find key k in Secret default/token"
        assert provider.count("create", "p") == 0
        await asyncio.sleep(3600)
        put_secret(api, other="planted-secret", k="planted-secret")
        await until(lambda: api.status("p").phase == "Running", 1)
        assert provider.given[-1].spec.containers[0].env == [EnvVar(name="A", value="planted-secret")]
        assert "planted" not in repr((api.events, api.writes))


async def test_first_attempts_of_many_pods_wait_for_no_rate_limit() -> None:
    """virtual-kubelet#840: 300 pods took half a minute at 10/s."""
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for index in range(300):
            api.put_pod(pod(f"p-{index}"))
        await until(lambda: len(provider.pods) == 300)
        assert loop.time() - begin < 1, "virtual seconds"


async def test_an_environment_is_resolved_for_init_containers_too() -> None:
    """virtual-kubelet#460."""
    api, provider = PodApi(), NotifyingProvider()
    put_secret(api, k="v")
    init: dict[str, Any] = {"init_containers": [Container(name="first", image="i", env=wants_token()[0].env)]}
    async with controlled(api, provider):
        api.put_pod(pod("p", **init))
        await until(lambda: provider.count("create", "p") == 1)
        given = provider.given[-1].spec.init_containers
        assert given is not None
        assert given[0].env == [EnvVar(name="A", value="v")]


async def test_a_pod_of_a_polled_provider_that_is_silent_stays_pending() -> None:
    """The same of a provider without notify_pods: None is no status."""

    class Empty(Provider):
        async def get_pod_status(self, key: PodKey) -> PodStatus | None:
            await self._called("status", key.name)
            return PodStatus()

    api, provider = PodApi(), Empty()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: provider.count("status", "p") >= 3)
        assert api.status("p").phase == "Pending"

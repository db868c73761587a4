"""A pod's environment on its way to the provider: what is missing is waited for, and what runs goes on as it was."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.node.pod_api import NotifyingProvider, PodApi, pod, running
from tests.node.test_pod_controller import controlled, needs, until
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ForbiddenError, ServerError
from virtual_kubelet.objects.core_v1 import (
    Container,
    ContainerStateWaiting,
    EnvVar,
    EnvVarSource,
    ObjectFieldSelector,
    Pod,
    PodStatus,
)

pytestmark = pytest.mark.looptime


def waiting(status: PodStatus) -> ContainerStateWaiting:
    assert status.container_statuses is not None
    state = status.container_statuses[0].state
    assert state is not None
    assert state.waiting is not None
    return state.waiting


def field(path: str) -> list[Container]:
    source = EnvVarSource(field_ref=ObjectFieldSelector(field_path=path))
    return [Container(name="main", image="i", env=[EnvVar(name="A", value_from=source)])]


def deployed(**spec: Any) -> Pod:
    """What a provider keeps of pod ``p``: its variables as they were resolved when it was created."""
    return pod("p", containers=[Container(name="main", image="i", env=[EnvVar(name="A", value="old")])], **spec)


async def test_a_variable_that_can_never_be_had_fails_the_pod_and_nothing_else() -> None:
    """``status.podIP`` with a provider that does not know addresses: upstream's pod never starts, and no event says why."""
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=field("status.podIP")))
        await until(lambda: api.status("p").phase == "Failed")
        status = api.status("p")
        assert status.reason == "CreateContainerConfigError"
        assert status.message == (
            "container main: variable A: status.podIP is not known before the pod runs with this provider"
        )
        assert "ProviderCreateFailed" in api.reasons()
        api.put_pod(pod("other"))
        await until(lambda: api.status("other").phase == "Running")
        assert provider.count("create", "p") == 0


@pytest.mark.parametrize(
    "error", [ForbiddenError(403, "Forbidden", "services is forbidden"), ServerError(500, "InternalError", "etcd")]
)
async def test_services_that_cannot_be_read_are_said_as_a_kubelet_does_and_waited_for(error: Exception) -> None:
    api, provider = PodApi(), NotifyingProvider()
    api.refuse = lambda verb, name: error if (verb, name) == ("list", "services") else None
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: bool(api.status("p").container_statuses))
        said = waiting(api.status("p"))
        assert said.reason == "CreateContainerConfigError"
        assert said.message == (f"services have not yet been read at least once, cannot construct envvars: {error}")
        assert "FailedToReadServices" in api.reasons()
        assert provider.count("create", "p") == 0
        await asyncio.sleep(100)
        api.refuse = lambda verb, name: None
        await until(lambda: api.status("p").phase == "Running")


async def test_a_config_map_that_appears_while_the_pod_is_resolved_is_not_missed() -> None:
    """Between the answer "not found" and the back-off there is a moment in which nobody waits yet."""
    api, provider = PodApi(), NotifyingProvider()

    async with controlled(api, provider) as controller:
        references = controller.config.references
        assert references is not None
        look, looked = references.get_config_map, asyncio.Event()

        async def slow(namespace: str, name: str) -> Any:
            try:
                return await look(namespace, name)
            finally:
                looked.set()
                await asyncio.sleep(1)

        references.get_config_map = slow  # type: ignore[method-assign]
        api.put_pod(pod("p", containers=needs("settings")))
        for _ in range(9):  # the back-off is long by now
            await looked.wait()
            looked.clear()
        api.put_config_map("settings", {"k": "v"})
        await until(lambda: api.status("p").phase == "Running", 5)


async def test_an_adopted_pod_keeps_its_variables_whatever_became_of_their_sources() -> None:
    """After a restart a changed label must not take a running pod back to Pending for a ConfigMap that is gone."""
    one = pod("p", containers=needs("settings"))
    one.status = running(one)
    api, provider = PodApi(one), NotifyingProvider(deployed())
    async with controlled(api, provider):
        api.change("p", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        await until(lambda: provider.count("update", "p") == 1)
        assert provider.given[-1].spec.containers[0].env == [EnvVar(name="A", value="old")]
        assert api.status("p").phase == "Running"
        assert [w for w in api.writes if w[0] == "patch"] == []


async def test_an_adopted_pod_whose_variables_nobody_knows_waits_with_its_update_and_runs_on() -> None:
    one, kept = pod("p", containers=needs("settings")), pod("p")
    one.status = running(one)
    api, provider = PodApi(one), NotifyingProvider(kept)
    async with controlled(api, provider):
        api.change("p", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        await until(lambda: "ProviderUpdateFailed" in api.reasons())
        await asyncio.sleep(100)
        assert provider.count("update", "p") == 0
        assert api.status("p").phase == "Running"
        assert [w for w in api.writes if w[0] == "patch"] == []
        api.put_config_map("settings", {"k": "v"})
        await until(lambda: provider.count("update", "p") == 1, 5)
        assert provider.given[-1].spec.containers[0].env == [EnvVar(name="A", value="v")]


async def test_an_ephemeral_container_gets_its_own_variables_and_the_others_keep_theirs() -> None:
    api, provider = PodApi(), NotifyingProvider()
    api.put_config_map("settings", {"k": "$(A) at creation"})
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=needs("settings")))
        await until(lambda: api.status("p").phase == "Running")
        api.put_config_map("settings", {"k": "changed"})
        api.put_config_map("debugging", {"k": "v"})
        debugger = {
            "name": "debugger",
            "image": "i",
            "args": ["$(A)"],
            "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "debugging", "key": "k"}}}],
        }
        api.change("p", lambda obj: obj["spec"].update(ephemeralContainers=[debugger]))
        await until(lambda: provider.count("update", "p") == 1)
        spec = provider.given[-1].spec
        assert spec.containers[0].env == [EnvVar(name="A", value="$(A) at creation")]
        assert spec.ephemeral_containers is not None
        assert spec.ephemeral_containers[0].env == [EnvVar(name="A", value="v")]
        assert spec.ephemeral_containers[0].args == ["v"]


async def test_a_lost_pod_that_may_run_again_waits_for_its_config_map_too() -> None:
    one = pod("p", containers=needs("settings"))
    one.status = running(one)
    api, provider = PodApi(one), NotifyingProvider()
    provider.rerun_is_safe = True
    async with controlled(api, provider):
        await until(lambda: "MandatoryConfigMapNotFound" in api.reasons())
        await asyncio.sleep(300)
        api.put_config_map("settings", {"k": "v"})
        await until(lambda: provider.count("create", "p") == 1, 5)
        assert set(provider.pods) == {PodKey("default", "p", "uid-p")}


class Addressed(NotifyingProvider):
    """Knows a pod's addresses after a while."""

    def __init__(self) -> None:
        super().__init__()
        self.ips: list[str] = []

    async def get_pod_ips(self, one: Pod) -> list[str]:
        return self.ips


async def test_a_container_that_needs_the_pod_s_address_starts_once_it_is_known() -> None:
    api, provider = PodApi(), Addressed()
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=field("status.podIPs")))
        await until(lambda: bool(api.status("p").container_statuses))
        assert waiting(api.status("p")).reason == "CreateContainerConfigError"
        assert waiting(api.status("p")).message == (
            "variable A: status.podIPs is not known before the pod runs with this provider"
        )
        await asyncio.sleep(10_000)
        assert provider.count("create", "p") == 0
        provider.ips = ["10.0.0.7", "fd00::7"]
        await until(lambda: api.status("p").phase == "Running", 6)
        assert provider.given[-1].spec.containers[0].env == [EnvVar(name="A", value="10.0.0.7,fd00::7")]


async def test_an_address_that_the_provider_reports_is_used_at_once() -> None:
    api, provider = PodApi(), Addressed()
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=field("status.podIP")))
        await until(lambda: bool(api.status("p").container_statuses))
        provider.notify(PodKey("default", "p", "uid-p"), PodStatus(phase="Pending", pod_ip="10.0.0.9"))
        await until(lambda: api.status("p").phase == "Running", 1)
        assert provider.given[-1].spec.containers[0].env == [EnvVar(name="A", value="10.0.0.9")]


async def test_a_provider_that_resolves_by_itself_is_given_pods_as_they_are() -> None:
    class Resolver(NotifyingProvider):
        resolves_environment = True

    api, provider = PodApi(), Resolver()
    async with controlled(api, provider):
        api.put_pod(pod("p", containers=[*field("status.podIP"), *needs("absent")]))
        await until(lambda: api.status("p").phase == "Running")
        assert provider.given[-1].spec.containers == [*field("status.podIP"), *needs("absent")]

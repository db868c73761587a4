"""A provider that wants to know is told, with all content, when what a pod refers to has changed; and only then."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.node.node_api import LoopClock
from tests.node.pod_api import NotifyingProvider, PodApi, pod, running
from tests.node.test_pod_controller import controlled, needs, settle, until
from virtual_kubelet.contracts.configuration import ConfigurationWatcher, PodConfiguration
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ForbiddenError, NotFoundError, TransientError
from virtual_kubelet.objects.core_v1 import (
    ConfigMapProjection,
    ConfigMapVolumeSource,
    Container,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    ObjectFieldSelector,
    Pod,
    ProjectedVolumeSource,
    SecretVolumeSource,
    ServiceAccountTokenProjection,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from virtual_kubelet.objects.service_account_token import ServiceAccountToken

pytestmark = pytest.mark.looptime


class Watcher(NotifyingProvider):
    """A provider without files that keeps what it was told."""

    def __init__(self, *pods: Pod) -> None:
        super().__init__(*pods)
        self.told: list[PodConfiguration] = []

    async def update_configuration(self, one: Pod, configuration: PodConfiguration) -> None:
        key = PodKey.of(one)
        await self._called("configure", key.name, key.uid)
        if key not in self.pods:
            raise NotFoundError("no such pod")
        self.told.append(configuration)


class Tokens:
    """A ``TokenReader``."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.given = 0
        self.newest: ServiceAccountToken | None = None
        self.forgotten: list[str] = []

    async def get(self, one: Pod, audience: str = "", expiration_seconds: int = 3600) -> ServiceAccountToken:
        now = self.clock.now()
        if self.newest is None or now >= self.newest.renew:
            self.given += 1
            self.newest = ServiceAccountToken(f"t{self.given}", now + timedelta(hours=1), now + timedelta(minutes=48))
        return self.newest

    def forget(self, uid: str) -> None:
        self.forgotten.append(uid)


def with_volume(name: str = "p", **source: Any) -> Pod:
    mount = VolumeMount(name="v", mount_path="/v")
    container = Container(name="main", image="i", volume_mounts=[mount])
    return pod(name, containers=[container], volumes=[Volume(name="v", **source)])


def from_map(name: str = "settings", optional: bool | None = None) -> Pod:
    return with_volume(config_map=ConfigMapVolumeSource(name=name, optional=optional))


def files(configuration: PodConfiguration) -> dict[str, bytes]:
    return {path: file.data for path, file in configuration.volumes["v"].files.items()}


def test_what_makes_a_provider_a_watcher() -> None:
    assert isinstance(Watcher(), ConfigurationWatcher)
    assert not isinstance(NotifyingProvider(), ConfigurationWatcher)


async def test_a_changed_config_map_is_told_with_its_new_content() -> None:
    api, provider = PodApi(from_map()), Watcher()
    api.put_config_map("settings", {"k": "one"})
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        await settle()
        assert provider.count("configure", "p") == 0
        api.put_config_map("settings", {"k": "two"})
        await until(lambda: provider.told, 5)
        assert files(provider.told[-1]) == {"k": b"two"}
        found = provider.told[-1].config_maps["settings"]
        assert found is not None
        assert found.data == {"k": "two"}
        assert provider.count("update", "p") == 0


async def test_content_that_is_the_same_is_not_told_again() -> None:
    api, provider = PodApi(from_map()), Watcher()
    api.put_config_map("settings", {"k": "one"})
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        api.put_config_map("settings", {"k": "one"})  # another resourceVersion
        await asyncio.sleep(100)
        assert provider.count("configure", "p") == 0


async def test_a_change_of_what_only_variables_refer_to_is_told_too() -> None:
    """What a provider without files may want: the container's own variables stay as they were."""
    api, provider = PodApi(pod("p", containers=needs("settings"))), Watcher()
    api.put_config_map("settings", {"k": "one"})
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        api.put_config_map("settings", {"k": "two"})
        await until(lambda: provider.told, 5)
        found = provider.told[-1].config_maps["settings"]
        assert found is not None
        assert found.data == {"k": "two"}
        assert provider.told[-1].volumes == {}


async def test_a_changed_secret_is_told_and_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    api, provider = PodApi(with_volume(secret=SecretVolumeSource(secret_name="s"))), Watcher()
    api.put_secret("s", {"k": "hush"})
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        provider.fail("configure", "p", TransientError("busy"))
        api.put_secret("s", {"k": "hush-hush"})
        await until(lambda: provider.told, 100)
        assert files(provider.told[-1]) == {"k": b"hush-hush"}
        assert "hush" not in repr(provider.told[-1])
        assert "hush" not in caplog.text
        assert "hush" not in "".join(event.message or "" for event in api.events)


async def test_a_label_that_a_file_shows_is_told_after_the_update() -> None:
    item = DownwardAPIVolumeFile(path="labels", field_ref=ObjectFieldSelector(field_path="metadata.labels"))
    api, provider = PodApi(with_volume(downward_api=DownwardAPIVolumeSource(items=[item]))), Watcher()
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        api.change("p", lambda obj: obj["metadata"].update(labels={"a": "b"}))
        await until(lambda: provider.told, 5)
        assert files(provider.told[-1]) == {"labels": b'a="b"'}
        assert provider.calls.index(("update", "p")) < provider.calls.index(("configure", "p"))


async def test_a_token_is_renewed_and_told_until_the_pod_is_gone() -> None:
    token = ServiceAccountTokenProjection(path="token")
    sources = [
        VolumeProjection(service_account_token=token),
        VolumeProjection(config_map=ConfigMapProjection(name="c")),
    ]
    api, provider, tokens = PodApi(with_volume(projected=ProjectedVolumeSource(sources=sources))), Watcher(), Tokens()
    api.put_config_map("c", {"ca.crt": "PEM"})
    async with controlled(api, provider, tokens=tokens):
        await until(lambda: api.status("p").phase == "Running")
        await asyncio.sleep(47 * 60)
        assert provider.told == []
        await until(lambda: provider.told, 120)
        assert files(provider.told[-1]) == {"token": b"t2", "ca.crt": b"PEM"}
        api.user_deletes("p", 0)
        await until(lambda: tokens.forgotten == ["uid-p"])
        given = tokens.given
        await asyncio.sleep(7200)
        assert tokens.given == given


async def test_a_pod_waits_for_what_its_volumes_refer_to_and_says_so_as_a_kubelet() -> None:
    api, provider = PodApi(from_map()), Watcher()
    async with controlled(api, provider):
        await until(lambda: "FailedMount" in api.reasons())
        messages = {event.message for event in api.events if event.reason == "FailedMount"}
        assert messages == {'MountVolume.SetUp failed for volume "v" : configmap "settings" not found'}
        status = api.status("p")
        assert status.phase == "Pending"
        assert status.container_statuses is not None
        state = status.container_statuses[0].state
        assert state is not None
        assert state.waiting is not None
        assert state.waiting.reason == "ContainerCreating"
        assert provider.count("create", "p") == 0
        await asyncio.sleep(1000)  # the back-off is long by now
        api.put_config_map("settings", {"k": "v"})
        await until(lambda: api.status("p").phase == "Running", 5)
        await settle()
        assert provider.told == []


async def test_a_source_that_is_deleted_under_a_running_pod_is_said_and_nothing_is_told() -> None:
    api, provider = PodApi(from_map()), Watcher()
    api.put_config_map("settings", {"k": "one"})
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        api.remove_config_map("settings")
        await until(lambda: "FailedMount" in api.reasons(), 5)
        assert provider.told == []
        assert api.status("p").phase == "Running"
        await asyncio.sleep(1000)
        api.put_config_map("settings", {"k": "two"})
        await until(lambda: provider.told, 5)
        assert files(provider.told[-1]) == {"k": b"two"}


async def test_an_optional_source_may_come_and_go() -> None:
    api, provider = PodApi(from_map(optional=True)), Watcher()
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        api.put_config_map("settings", {"k": "v"})
        await until(lambda: len(provider.told) == 1, 5)
        assert files(provider.told[-1]) == {"k": b"v"}
        api.remove_config_map("settings")
        await until(lambda: len(provider.told) == 2, 5)
        assert files(provider.told[-1]) == {}
        assert provider.told[-1].config_maps == {"settings": None}


async def test_an_adopted_pod_is_told_once_since_it_may_have_missed_a_change() -> None:
    one = from_map()
    one.status = running(one)
    api, provider = PodApi(one), Watcher(from_map())
    api.put_config_map("settings", {"k": "v"})
    async with controlled(api, provider):
        await until(lambda: provider.told, 5)
        assert files(provider.told[-1]) == {"k": b"v"}
        await asyncio.sleep(1000)
        assert len(provider.told) == 1


async def test_a_failure_is_tried_again_with_the_newest_content() -> None:
    api, provider = PodApi(from_map()), Watcher()
    api.put_config_map("settings", {"k": "one"})
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        provider.fail("configure", "p", RuntimeError("no"), RuntimeError("no"))
        api.put_config_map("settings", {"k": "two"})
        await until(lambda: provider.count("configure", "p") == 1)
        api.put_config_map("settings", {"k": "three"})
        await until(lambda: provider.told)
        assert files(provider.told[0]) == {"k": b"three"}
        assert api.status("p").phase == "Running"


async def test_a_change_during_the_call_is_told_after_it() -> None:
    api, provider = PodApi(from_map()), Watcher()
    api.put_config_map("settings", {"k": "one"})
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        gate = provider.gates["configure", "p"] = asyncio.Event()
        api.put_config_map("settings", {"k": "two"})
        await until(lambda: provider.count("configure", "p") == 1)
        api.put_config_map("settings", {"k": "three"})
        await settle()
        gate.set()
        await until(lambda: len(provider.told) == 2, 5)
        assert [files(told)["k"] for told in provider.told] == [b"two", b"three"]


async def test_a_pod_that_the_provider_has_lost_is_lost() -> None:
    api, provider = PodApi(from_map()), Watcher()
    api.put_config_map("settings", {"k": "one"})
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        provider.pods.clear()
        api.put_config_map("settings", {"k": "two"})
        await until(lambda: api.status("p").phase == "Failed")
        assert api.status("p").reason == "NotFound"


async def test_an_api_server_that_refuses_is_no_reason_to_touch_the_pod() -> None:
    error = ForbiddenError(403, "Forbidden", "no relationship found")
    one = from_map()
    one.status = running(one)
    api, provider = PodApi(one), Watcher(from_map())
    api.put_config_map("settings", {"k": "one"})
    api.refuse = lambda verb, name: error if (verb, name) == ("find", "configmaps") else None
    get = api.get

    async def refused(resource: Any, name: str, namespace: str | None = None, **options: Any) -> Any:
        api._raise("find", resource.plural)
        return await get(resource, name, namespace, **options)

    api.get = refused  # type: ignore[method-assign]
    async with controlled(api, provider):
        await until(lambda: "FailedMount" in api.reasons())
        assert "no relationship found" in (api.events[-1].message or "")
        assert api.status("p").phase == "Running"
        api.refuse = lambda verb, name: None
        await until(lambda: provider.told)


async def test_pods_that_end_are_watched_no_more() -> None:
    api, provider = PodApi(from_map()), Watcher()
    api.put_config_map("settings", {"k": "one"})
    async with controlled(api, provider) as controller:
        await until(lambda: api.status("p").phase == "Running")
        assert controller.config.references is not None
        assert controller.config.references.holders("ConfigMap", "default", "settings")
        api.user_deletes("p", 0)
        await until(lambda: not provider.pods)
        await until(lambda: not controller.config.references.holders("ConfigMap", "default", "settings"))  # type: ignore[union-attr]


async def test_a_provider_that_does_not_ask_is_not_told_and_waits_for_no_volume() -> None:
    api, provider = PodApi(from_map("gone")), NotifyingProvider()
    async with controlled(api, provider):
        await until(lambda: api.status("p").phase == "Running")
        assert provider.count("configure", "p") == 0

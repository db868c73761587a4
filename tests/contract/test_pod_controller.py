"""PodController against an API server, with the node's own identity: node authorizer and NodeRestriction are on."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

import pytest

from tests.contract.pod_controllers import Cluster, container_with, controlled
from tests.contract.scenarios import eventually, pod_on
from tests.node.pod_api import NotifyingProvider, Provider, ended, pod, running
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import InvalidInputError, NotFoundError, PermanentError, TransientError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import CONFIG_MAPS, NODES, PODS, SECRETS
from virtual_kubelet.objects.core_v1 import (
    ConfigMap,
    ConfigMapKeySelector,
    ContainerStatus,
    EnvVarSource,
    Node,
    ObjectFieldSelector,
    Pod,
    PodCondition,
    PodIP,
    PodStatus,
    Secret,
    SecretKeySelector,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta

pytestmark = pytest.mark.usefixtures("registered_node")


@pytest.fixture
def cluster(admin: ApiClient, namespace: str) -> Cluster:
    return Cluster(admin, namespace)


@pytest.fixture(params=[NotifyingProvider, Provider], ids=["notifies", "is polled"])
def any_provider(request: pytest.FixtureRequest) -> Provider:
    made: Provider = request.param()
    return made


@pytest.fixture
def provider() -> NotifyingProvider:
    return NotifyingProvider()


def key_of(one: Pod) -> PodKey:
    return PodKey.of(one)


def graces(provider: Provider, name: str) -> list[int | None]:
    """The grace periods with which the provider was told to delete a pod."""
    deletions = [one for one in provider.given if one.metadata.deletion_timestamp and one.metadata.name == name]
    return [one.metadata.deletion_grace_period_seconds for one in deletions]


class Deletions:
    """Records with which options the node deletes pods."""

    def __init__(self, client: ApiClient) -> None:
        self.made: list[dict[str, Any]] = []
        self._delete = client.delete
        client.delete = self.delete  # type: ignore[method-assign]

    async def delete(self, *args: Any, **options: Any) -> None:
        self.made.append(options)
        await self._delete(*args, **options)


# Life


async def test_create_start_delete(
    cluster: Cluster, node_client: ApiClient, node_name: str, any_provider: Provider
) -> None:
    """[createStartDeleteScenario] The final status is there before the object goes; the deletion names the UID."""
    seen: list[tuple[str, str]] = []
    deletions = Deletions(node_client)

    async def watch(version: str) -> None:
        events = cluster.admin.watch(PODS, cluster.namespace, resource_version=version, allow_bookmarks=False)
        async for event in events:
            assert event.object is not None
            seen.append((event.type, event.object.status.phase or ""))

    async with controlled(node_client, node_name, any_provider), asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(watch((await cluster.admin.list(PODS, cluster.namespace)).resource_version))
        made = await cluster.create(pod_on(node_name, "p"))
        there = await cluster.runs("p")
        assert there.status.pod_ip == "10.0.0.1"
        assert [p.ip for p in there.status.pod_ips or []] == ["10.0.0.1"]
        assert await cluster.event("ProviderCreateSuccess", "p")
        await cluster.delete("p", 20)
        await cluster.is_gone("p")
        await eventually(lambda: seen[-1][0] == "DELETED")
        watcher.cancel()
    assert any_provider.pods == {}
    assert ("MODIFIED", "Succeeded") in seen
    assert seen[-1] == ("DELETED", "Succeeded")
    assert deletions.made == [{"uid": made.metadata.uid, "grace_period_seconds": 0}]
    assert graces(any_provider, "p")[0] == 20


async def test_a_deletion_that_the_provider_fails_is_tried_again_and_told(
    cluster: Cluster, node_client: ApiClient, node_name: str, any_provider: Provider
) -> None:
    """[createStartDeleteScenarioWithDeletionRandomError]"""
    async with controlled(node_client, node_name, any_provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        any_provider.fail("delete", "p", RuntimeError("boom"), RuntimeError("boom"))
        await cluster.delete("p")
        assert (await cluster.event("ProviderDeleteFailed", "p")).message == "boom"
        await cluster.is_gone("p")
        assert any_provider.count("delete", "p") >= 3


async def test_a_pod_that_the_provider_no_longer_knows_is_finished_at_once(
    cluster: Cluster, node_client: ApiClient, node_name: str, any_provider: Provider
) -> None:
    """[createStartDeleteScenarioWithDeletionErrorNotFound]"""
    async with controlled(node_client, node_name, any_provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        any_provider.fail("delete", "p", NotFoundError("never heard of it"))
        await cluster.delete("p", 600)
        await cluster.is_gone("p")


async def test_a_pod_that_does_not_end_goes_when_its_grace_period_is_over(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    provider.ends_on_delete = False
    async with controlled(node_client, node_name, provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        before = asyncio.get_running_loop().time()
        await cluster.delete("p", 2)
        await cluster.is_gone("p")
        assert asyncio.get_running_loop().time() - before >= 2
        assert graces(provider, "p")[0] == 2
        await eventually(lambda: 0 in graces(provider, "p"))  # it is told again: the object is gone, nothing is left


async def test_a_second_shorter_grace_period_counts_at_once(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    provider.ends_on_delete = False
    async with controlled(node_client, node_name, provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        await cluster.delete("p", 600)
        await eventually(lambda: graces(provider, "p") == [600])
        await cluster.delete("p", 1)
        await cluster.is_gone("p")
        assert graces(provider, "p")[:2] == [600, 1]


async def test_a_forced_deletion_is_told_to_the_provider(
    cluster: Cluster, node_client: ApiClient, node_name: str, any_provider: Provider
) -> None:
    async with controlled(node_client, node_name, any_provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        await cluster.delete("p", 0)
        await eventually(lambda: not any_provider.pods)
        assert any_provider.given[-1].metadata.deletion_grace_period_seconds == 0


async def test_a_pod_that_is_still_pending_is_deleted_and_the_provider_is_told(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    provider.fail("create", "p", *[TransientError("no room", retry_after=600)] * 9)
    async with controlled(node_client, node_name, provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.becomes("p", lambda p: p.status.reason == "ProviderFailed")
        await cluster.delete("p")
        await cluster.is_gone("p")
        assert provider.count("delete", "p") >= 1


async def test_a_pod_recreated_under_its_name_begins_when_the_old_one_is_gone(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    """[TestReCreatePodRace] Neither the status nor the deletion of the old one touches the new one."""
    async with controlled(node_client, node_name, provider):
        old = await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        gate = provider.gates["delete", "p"] = asyncio.Event()
        await cluster.delete("p", 0)
        await eventually(lambda: provider.count("delete", "p") == 1)
        new = await cluster.create(pod_on(node_name, "p"))
        provider.report(key_of(old), ended(old, 9, "Failed"))
        await asyncio.sleep(0.3)  # nothing happens
        assert provider.count("create", "p") == 1
        assert (await cluster.get("p")).status.phase == "Pending"
        gate.set()
        there = await cluster.runs("p")
        assert there.metadata.uid == new.metadata.uid
        assert set(provider.pods) == {key_of(new)}


async def test_a_finalizer_keeps_the_object_and_the_node_asks_once(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    deletions = Deletions(node_client)
    async with controlled(node_client, node_name, provider):
        one = pod_on(node_name, "p")
        one.metadata.finalizers = ["example.com/hold"]
        await cluster.create(one)
        await cluster.runs("p")
        await cluster.delete("p")
        there = await cluster.becomes("p", lambda p: p.metadata.deletion_grace_period_seconds == 0)
        assert there.status.phase == "Succeeded"
        assert provider.pods == {}
        await cluster.label("p", still="there")
        await asyncio.sleep(0.5)  # nothing more happens
        assert len(deletions.made) == 1
        await cluster.admin.patch(PODS, "p", {"metadata": {"finalizers": None}}, cluster.namespace)
        await cluster.is_gone("p")


async def test_a_backend_that_ends_a_pod_has_its_object_deleted(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    """[TestPodStatusDelete] The API object goes gracefully: whoever owns it may look before it is gone."""
    deletions = Deletions(node_client)
    async with controlled(node_client, node_name, provider):
        one = await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        provider.notify(key_of(one), running(one), deleting=True)
        await cluster.is_gone("p")
        assert deletions.made[0] == {"uid": one.metadata.uid, "grace_period_seconds": None}
        assert graces(provider, "p")[0] == 30


async def test_a_changed_label_and_image_lead_to_update_pod(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    async with controlled(node_client, node_name, provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        await cluster.label("p", a="b")
        await eventually(lambda: provider.count("update", "p") == 1)
        image = {"spec": {"containers": [{"name": "main", "image": "busybox:new"}]}}
        await cluster.admin.patch(PODS, "p", image, cluster.namespace)
        await eventually(lambda: provider.given[-1].spec.containers[0].image == "busybox:new")
        assert await cluster.event("ProviderUpdateSuccess", "p")
        assert (await cluster.get("p")).metadata.labels == {"a": "b"}


# Statuses


async def test_a_terminal_phase_is_never_taken_back(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    async with controlled(node_client, node_name, provider) as controller:
        one = await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        failed = {"status": {"phase": "Failed", "reason": "Evicted"}}
        await cluster.admin.patch(PODS, "p", failed, cluster.namespace, subresource="status")
        await eventually(lambda: [known.status.phase for known in controller.list()] == ["Failed"])
        provider.report(key_of(one), running(one, message="still here"))
        await asyncio.sleep(0.5)  # nothing is taken back
        there = await cluster.get("p")
        assert (there.status.phase, there.status.reason, there.status.message) == ("Failed", "Evicted", None)
        assert provider.count("create", "p") == 1


async def test_conditions_and_labels_of_others_survive_a_status(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    async with controlled(node_client, node_name, provider):
        one = await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        gate = {"status": {"conditions": [{"type": "example.com/gate", "status": "True"}]}}
        await cluster.admin.patch(PODS, "p", gate, cluster.namespace, subresource="status")
        await cluster.label("p", theirs="1")
        provider.report(key_of(one), running(one, message="newer"))
        there = await cluster.becomes("p", lambda p: p.status.message == "newer")
        assert {"example.com/gate", "Ready"} <= {c.type for c in there.status.conditions or []}
        assert there.metadata.labels == {"theirs": "1"}


async def test_a_status_that_others_rewrite_is_asserted_again(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    """virtual-kubelet#899: the node life cycle controller makes pods of a silent node unready."""

    def ready(one: Pod) -> str:
        return next((c.status for c in one.status.conditions or [] if c.type == "Ready"), "")

    async with controlled(node_client, node_name, provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.becomes("p", lambda p: ready(p) == "True")
        unready = {"status": {"conditions": [{"type": "Ready", "status": "False", "reason": "NodeNotReady"}]}}
        patched = await cluster.admin.patch(PODS, "p", unready, cluster.namespace, subresource="status")
        assert ready(patched) == "False"
        await cluster.becomes("p", lambda p: ready(p) == "True")


@pytest.mark.parametrize(
    "wrong",
    [
        {"start_time": "yesterday"},
        {"pod_ip": "not an address", "pod_ips": [PodIP(ip="not an address")]},
        {"conditions": [PodCondition(type="Ready", status="True", last_transition_time="now")]},
        {"container_statuses": [ContainerStatus(name="main", image="", image_id="", ready=True, restart_count="x")]},  # type: ignore[arg-type]
    ],
    ids=["start time", "address", "transition time", "restart count"],
)
async def test_a_status_that_the_server_refuses_is_told_on_the_pod_and_holds_nothing_up(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider, wrong: dict[str, Any]
) -> None:
    """virtual-kubelet#938: one bad status blocked all later ones, and the deletion."""
    async with controlled(node_client, node_name, provider):
        one = await cluster.create(pod_on(node_name, "p"))
        key, good = key_of(one), provider.report

        def bad(message: str) -> PodStatus:
            return PodStatus(**{**_fields(running(one)), "message": message, **wrong})

        provider.report = lambda key, status: provider.notify(key, bad("bad"))  # type: ignore[method-assign]
        await eventually(lambda: provider.count("create", "p") == 1)
        assert await cluster.event("InvalidPodStatus", "p")
        good(key, running(one, message="good"))
        await cluster.becomes("p", lambda p: p.status.message == "good")
        provider.ends_on_delete = False
        provider.notify(key, bad("worse"))
        await cluster.delete("p", 1)
        await cluster.is_gone("p")


def _fields(status: PodStatus) -> dict[str, Any]:
    return {name: getattr(status, name) for name in status.__struct_fields__}


# Restart


async def test_a_restart_adopts_running_pods_and_writes_nothing(
    cluster: Cluster, node_client: ApiClient, node_name: str, any_provider: Provider
) -> None:
    async with controlled(node_client, node_name, any_provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        await cluster.event("ProviderCreateSuccess", "p")
    before = await cluster.get("p")
    any_provider.calls.clear()
    async with controlled(node_client, node_name, any_provider):
        await cluster.create(pod_on(node_name, "next"))
        await cluster.runs("next")
        assert (await cluster.get("p")).metadata.resource_version == before.metadata.resource_version
        assert [call for call in any_provider.calls if call[1] == "p" and call[0] != "status"] == []
        await cluster.delete("p")
        await cluster.is_gone("p")
        assert {key.name for key in any_provider.pods} == {"next"}


async def test_a_deletion_that_began_while_the_node_was_down_is_carried_out(
    cluster: Cluster, node_client: ApiClient, node_name: str, any_provider: Provider
) -> None:
    """[testDanglingPodScenarioWithDeletionTimestamp]"""
    async with controlled(node_client, node_name, any_provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.create(pod_on(node_name, "forced"))
        await cluster.runs("p")
        await cluster.runs("forced")
    await cluster.delete("p", 600)
    await cluster.delete("forced", 0)
    async with controlled(node_client, node_name, any_provider):
        await cluster.is_gone("p")
        await eventually(lambda: not any_provider.pods)


async def test_a_pod_that_had_run_and_is_lost_is_failed_and_not_run_again(
    cluster: Cluster, node_client: ApiClient, node_name: str, any_provider: Provider
) -> None:
    """virtual-kubelet#762."""
    async with controlled(node_client, node_name, any_provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
    any_provider.pods.clear()
    any_provider.statuses.clear()
    any_provider.calls.clear()
    async with controlled(node_client, node_name, any_provider):
        there = await cluster.becomes("p", lambda p: p.status.phase == "Failed")
        assert there.status.reason == "NotFound"
        (container,) = there.status.container_statuses or []
        assert container.state is not None
        assert container.state.terminated is not None
        assert (container.state.terminated.exit_code, container.state.terminated.reason) == (137, "NotFound")
        assert any_provider.count("create", "p") == 0
        await cluster.delete("p")
        await cluster.is_gone("p")


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
async def test_terminal_pods_at_start_are_left_untouched(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider, phase: str
) -> None:
    """[failedPodScenario, succeededPodScenario]"""
    await cluster.create(pod_on(node_name, "p"))
    status = {"status": {"phase": phase, "reason": "Before"}}
    before = await cluster.admin.patch(PODS, "p", status, cluster.namespace, subresource="status")
    async with controlled(node_client, node_name, provider):
        await cluster.create(pod_on(node_name, "next"))
        await cluster.runs("next")
        assert (await cluster.get("p")).metadata.resource_version == before.metadata.resource_version
        assert provider.count("create", "p") == 0


async def test_orphans_are_removed_with_the_rights_of_a_node(
    cluster: Cluster, admin: ApiClient, node_client: ApiClient, node_name: str
) -> None:
    """[danglingPodScenario] One that is nowhere, one whose name another pod has now, one of another node's."""
    namespace = cluster.namespace

    def held(name: str, uid: str) -> Pod:
        one = pod(name, uid)
        one.metadata.namespace = namespace
        return one

    elsewhere = f"{node_name}-other"
    await admin.create(NODES, Node(metadata=ObjectMeta(name=elsewhere)))
    try:
        moved = await cluster.create(pod_on(elsewhere, "moved"))
        await cluster.create(pod_on(node_name, "renewed"))
        provider = NotifyingProvider(held("gone", "1"), held("renewed", "2"), held("moved", moved.metadata.uid or ""))
        async with controlled(node_client, node_name, provider):
            await cluster.runs("renewed")
            await eventually(lambda: [key.name for key in provider.pods] == ["renewed"])
            assert provider.count("delete", "gone") == 1
            assert (await cluster.get("moved")).metadata.deletion_timestamp is None
    finally:
        await cluster.delete("moved", 0)
        await admin.delete(NODES, elsewhere)


async def test_an_orphan_that_comes_up_later_is_swept(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    async with controlled(node_client, node_name, provider, orphan_interval=0.2):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        stray = pod("stray")
        stray.metadata.namespace = cluster.namespace
        provider.pods[key_of(stray)], provider.statuses[key_of(stray)] = stray, running(stray)
        await eventually(lambda: key_of(stray) not in provider.pods)
        assert [key.name for key in provider.pods] == ["p"]


# Failures of the provider


async def test_transient_and_unknown_errors_leave_the_pod_pending_and_are_retried(
    cluster: Cluster, node_client: ApiClient, node_name: str, any_provider: Provider
) -> None:
    any_provider.fail("create", "p", *[TransientError("the backend is busy"), RuntimeError("who knows")] * 3)
    async with controlled(node_client, node_name, any_provider):
        await cluster.create(pod_on(node_name, "p", restart_policy="Never"))
        there = await cluster.becomes("p", lambda p: p.status.reason == "ProviderFailed")
        assert there.status.phase == "Pending"
        assert there.status.message in ("the backend is busy", "who knows")
        event = await cluster.event("ProviderCreateFailed", "p")
        assert (event.type, event.message) == ("Warning", "the backend is busy")
        there = await cluster.runs("p")
        assert (there.status.reason, there.status.message) == (None, None)
        assert any_provider.count("create", "p") == 7


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidInputError("no GPUs here"), "InvalidInput"),
        (PermanentError("refused", reason="OutOfQuota"), "OutOfQuota"),
    ],
)
async def test_permanent_errors_fail_the_pod_with_their_reason(
    cluster: Cluster, node_client: ApiClient, node_name: str, any_provider: Provider, error: Exception, reason: str
) -> None:
    any_provider.fail("create", "p", error)
    async with controlled(node_client, node_name, any_provider):
        await cluster.create(pod_on(node_name, "p"))
        there = await cluster.becomes("p", lambda p: p.status.phase == "Failed")
        assert (there.status.reason, there.status.message) == (reason, str(error))
        assert (await cluster.event("ProviderCreateFailed", "p")).message == str(error)
        await cluster.label("p", again="please")
        await asyncio.sleep(0.3)  # nothing happens
        assert any_provider.count("create", "p") == 1
        await cluster.delete("p")
        await cluster.is_gone("p")


async def test_a_create_with_an_unknown_outcome_is_looked_up_first(
    cluster: Cluster, node_client: ApiClient, node_name: str
) -> None:
    """interLink#427."""

    class TimesOut(NotifyingProvider):
        async def create_pod(self, one: Pod) -> None:
            await super().create_pod(one)
            raise TimeoutError("gateway")

    provider = TimesOut()
    async with controlled(node_client, node_name, provider):
        await cluster.create(pod_on(node_name, "p"))
        await eventually(lambda: provider.count("get", "p") >= 2)
        there = await cluster.runs("p")
        assert there.status.reason is None
        assert provider.count("create", "p") == 1


async def test_a_failed_update_leaves_the_pod_running(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    async with controlled(node_client, node_name, provider):
        await cluster.create(pod_on(node_name, "p"))
        await cluster.runs("p")
        provider.fail("update", "p", RuntimeError("boom"))
        await cluster.label("p", a="b")
        assert (await cluster.event("ProviderUpdateFailed", "p")).message == "boom"
        await eventually(lambda: provider.count("update", "p") == 2)
        assert (await cluster.get("p")).status.phase == "Running"


# Environment


def from_map(name: str, key: str = "k", *, optional: bool | None = None) -> EnvVarSource:
    return EnvVarSource(config_map_key_ref=ConfigMapKeySelector(name=name, key=key, optional=optional))


def from_secret(name: str, key: str = "k", *, optional: bool | None = None) -> EnvVarSource:
    return EnvVarSource(secret_key_ref=SecretKeySelector(name=name, key=key, optional=optional))


def secret(name: str, **values: str) -> Secret:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return Secret(metadata=ObjectMeta(name=name), data=data)


def variables(provider: Provider) -> dict[str, str | None]:
    env = provider.given[-1].spec.containers[0].env or ()
    return {v.name: v.value for v in env if v.name in ("A", "B", "C", "KUBERNETES_SERVICE_PORT")}


async def test_variables_come_from_config_maps_secrets_fields_and_services(
    cluster: Cluster, admin: ApiClient, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    """With a node's own rights each is read by its name, and only because the pod refers to it."""
    await admin.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="settings"), data={"k": "v"}), cluster.namespace)
    await admin.create(SECRETS, secret("token", k="planted-secret"), cluster.namespace)
    sources = [
        ("A", from_map("settings")),
        ("B", from_secret("token")),
        ("C", EnvVarSource(field_ref=ObjectFieldSelector(field_path="spec.nodeName"))),
        ("D", from_map("absent", optional=True)),
        ("E", from_secret("absent", optional=True)),
        ("F", from_map("settings", "absent", optional=True)),
    ]
    async with controlled(node_client, node_name, provider):
        await cluster.create(pod_on(node_name, "p", containers=[container_with(*sources)]))
        await cluster.runs("p")
        assert variables(provider).keys() == {"A", "B", "C", "KUBERNETES_SERVICE_PORT"}
        assert {k: v for k, v in variables(provider).items() if k in "ABC"} == {
            "A": "v",
            "B": "planted-secret",
            "C": node_name,
        }
        for reason in ("OptionalConfigMapNotFound", "OptionalSecretNotFound", "OptionalConfigMapKeyNotFound"):
            assert await cluster.event(reason, "p")
        events = (await cluster.events("OptionalSecretNotFound", "p"))[0]
        assert events.message == 'skipping optional envvar "E": secret "absent" not found'


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
@pytest.mark.parametrize("missing", ["object", "key"])
async def test_what_is_missing_is_waited_for_and_used_the_moment_it_appears(
    cluster: Cluster,
    admin: ApiClient,
    node_client: ApiClient,
    node_name: str,
    provider: NotifyingProvider,
    kind: str,
    missing: str,
) -> None:
    source = from_map("later") if kind == "ConfigMap" else from_secret("later")
    word = kind.lower()

    async def appear(**values: str) -> None:
        if kind == "ConfigMap":
            await admin.create(
                CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="later"), data=values), cluster.namespace
            )
        else:
            await admin.create(SECRETS, secret("later", **values), cluster.namespace)

    async def change(**values: str) -> None:
        if kind == "ConfigMap":
            await admin.patch(CONFIG_MAPS, "later", {"data": values}, cluster.namespace)
        else:
            await admin.patch(SECRETS, "later", {"data": secret("later", **values).data}, cluster.namespace)

    if missing == "key":
        await appear(other="planted-secret")
    # With such a back-off nothing but the object's own event brings the pod up in time.
    async with controlled(node_client, node_name, provider, retry_initial=300.0, retry_cap=600.0):
        await cluster.create(pod_on(node_name, "p", containers=[container_with(("A", source))]))
        there = await cluster.becomes("p", lambda p: p.status.container_statuses)
        (container,) = there.status.container_statuses or []
        assert there.status.phase == "Pending"
        assert container.state is not None
        assert container.state.waiting is not None
        assert container.state.waiting.reason == "CreateContainerConfigError"
        if missing == "object":
            assert container.state.waiting.message == f'{word} "later" not found'
            event = await cluster.event(f"Mandatory{kind}NotFound", "p")
            assert event.message == f'{word} "later" not found'
        else:
            assert container.state.waiting.message == f"couldn't find key k in {kind} {cluster.namespace}/later"
            event = await cluster.event(f"Mandatory{kind}KeyNotFound", "p")
            assert event.message == f'key "k" does not exist in {word} "later"'
        assert provider.count("create", "p") == 0
        await (appear if missing == "object" else change)(k="planted-secret")
        there = await cluster.runs("p")
        assert variables(provider)["A"] == "planted-secret"
        assert "planted" not in repr(there)


async def test_a_waiting_pod_can_be_deleted(
    cluster: Cluster, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    async with controlled(node_client, node_name, provider, retry_initial=300.0, retry_cap=600.0):
        await cluster.create(pod_on(node_name, "p", containers=[container_with(("A", from_map("later")))]))
        await cluster.event("MandatoryConfigMapNotFound", "p")
        await cluster.delete("p", 600)
        await cluster.is_gone("p")
        assert provider.count("create", "p") == 0


async def test_many_pods_share_what_they_refer_to(
    cluster: Cluster, admin: ApiClient, node_client: ApiClient, node_name: str, provider: NotifyingProvider
) -> None:
    await admin.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="settings"), data={"k": "v"}), cluster.namespace)
    names: Sequence[str] = [f"p{n}" for n in range(15)]
    async with controlled(node_client, node_name, provider):
        for name in names:
            await cluster.create(pod_on(node_name, name, containers=[container_with(("A", from_map("settings")))]))
        for name in names:
            await cluster.runs(name)
        for name in names:
            await cluster.delete(name)
        await eventually(lambda: not provider.pods)
        for name in names:
            await cluster.is_gone(name)

"""Volumes with the node's own identity: from an edit in the API to the files, and tokens that the API server takes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.contract.pod_controllers import Cluster, controlled
from tests.contract.scenarios import eventually, pod_on
from tests.node.pod_api import NotifyingProvider
from virtual_kubelet.clock import SystemClock
from virtual_kubelet.contracts.configuration import PodConfiguration
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ApiError, MountError
from virtual_kubelet.kube.client import ApiClient, PatchType
from virtual_kubelet.kube.references import ReferenceCache
from virtual_kubelet.kube.resources import CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS, TOKEN_REVIEWS
from virtual_kubelet.kube.service_account_tokens import ServiceAccountTokens
from virtual_kubelet.objects.authentication_v1 import TokenReview, TokenReviewSpec
from virtual_kubelet.objects.core_v1 import (
    ConfigMap,
    ConfigMapProjection,
    ConfigMapVolumeSource,
    Container,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    DownwardAPIVolumeSource,
    KeyToPath,
    Node,
    ObjectFieldSelector,
    Pod,
    ProjectedVolumeSource,
    Secret,
    SecretVolumeSource,
    ServiceAccount,
    ServiceAccountTokenProjection,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.volumes.pod_volumes import PodVolumes
from virtual_kubelet.volumes.sources import VolumeSources


class LiveVolumes:
    """One pod's volumes, refreshed whenever they say so, as an engine does it."""

    def __init__(self, admin: ApiClient, pod: Pod, folder: Path, sources: VolumeSources) -> None:
        self._admin = admin
        self._pod = pod
        self._changes = asyncio.Event()
        self.volumes = PodVolumes(folder, PodKey.of(pod), sources, changed=self._changes.set, binding=False)
        self.failures: list[str] = []

    async def keep_fresh(self) -> None:
        while True:
            self._changes.clear()
            try:
                await self.volumes.refresh(self._pod)
            except MountError as error:
                self.failures += error.messages
            try:
                async with asyncio.timeout(0.5):
                    await self._changes.wait()
            except TimeoutError:
                if self.failures:  # tried again, with a back-off of an engine's
                    continue
                await self._changes.wait()

    async def read(self, path: str) -> str | None:
        (container,) = self._pod.spec.containers
        roots = {m.container_path: m.host_path for m in await self.volumes.mounts(container)}
        root, _, name = path.rpartition("/")
        file = roots[root] / name
        try:
            return await asyncio.to_thread(file.read_text)
        except FileNotFoundError:
            return None

    async def shows(self, path: str, text: str | None) -> None:
        async def check() -> bool:
            return await self.read(path) == text

        await eventually(check)


@asynccontextmanager
async def live(admin: ApiClient, node_client: ApiClient, pod: Pod, folder: Path) -> AsyncIterator[LiveVolumes]:
    """Of a pod that is in the API; set up as soon as that can be."""
    references = ReferenceCache(node_client, on_change=lambda *change: None, linger=0.1)
    sources = VolumeSources(
        references.config_maps,
        references.secrets,
        references,
        ServiceAccountTokens(node_client),
        lambda: {"cpu": "4"},
        SystemClock(),
    )
    made = LiveVolumes(admin, pod, folder / "pods", sources)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(references.run())

        async def ready() -> bool:
            try:
                await made.volumes.prepare(pod)
            except MountError:  # the node authorizer learns of the pod a moment later
                return False
            return True

        await eventually(ready)
        fresh = tasks.create_task(made.keep_fresh())
        yield made
        fresh.cancel()
        running.cancel()
    await made.volumes.remove()


def with_volumes(node: Node, *volumes: Volume, **spec: Any) -> Pod:
    mounts = [VolumeMount(name=volume.name, mount_path=f"/{volume.name}") for volume in volumes]
    container = Container(name="main", image="busybox", volume_mounts=mounts)
    spec.setdefault("service_account_name", "default")
    spec.setdefault("automount_service_account_token", False)
    return pod_on(node.metadata.name or "", "p", containers=[container], volumes=list(volumes), **spec)


def api_access(seconds: int = 3607) -> Volume:
    """As the API server's ServiceAccount plugin adds it to every pod since 1.21."""
    namespace = DownwardAPIVolumeFile(path="namespace", field_ref=ObjectFieldSelector(field_path="metadata.namespace"))
    sources = [
        VolumeProjection(service_account_token=ServiceAccountTokenProjection(path="token", expiration_seconds=seconds)),
        VolumeProjection(
            config_map=ConfigMapProjection(name="kube-root-ca.crt", items=[KeyToPath(key="ca.crt", path="ca.crt")])
        ),
        VolumeProjection(downward_api=DownwardAPIProjection(items=[namespace])),
    ]
    return Volume(name="api", projected=ProjectedVolumeSource(sources=sources))


async def edit(admin: ApiClient, namespace: str, name: str, **data: str | None) -> None:
    await admin.patch(CONFIG_MAPS, name, {"data": data}, namespace, patch_type=PatchType.MERGE)


async def review(admin: ApiClient, token: str, *audiences: str) -> TokenReview:
    spec = TokenReviewSpec(token=token, audiences=list(audiences) or None)
    return await admin.create(TOKEN_REVIEWS, TokenReview(spec=spec))


async def test_edits_of_a_config_map_and_a_secret_reach_the_files(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str, tmp_path: Path
) -> None:
    await admin.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="c"), data={"k": "one"}), namespace)
    await admin.create(SECRETS, Secret(metadata=ObjectMeta(name="s"), string_data={"k": "one"}), namespace)
    later = ConfigMapVolumeSource(name="later", optional=True)
    volumes = [
        Volume(name="c", config_map=ConfigMapVolumeSource(name="c")),
        Volume(name="s", secret=SecretVolumeSource(secret_name="s", default_mode=0o400)),
        Volume(name="o", config_map=later),
    ]
    pod = await admin.create(PODS, with_volumes(registered_node, *volumes), namespace)
    async with live(admin, node_client, pod, tmp_path) as made:
        assert (await made.read("/c/k"), await made.read("/s/k"), await made.read("/o/k")) == ("one", "one", None)
        await edit(admin, namespace, "c", k="two", more="x")
        await made.shows("/c/k", "two")
        await made.shows("/c/more", "x")
        await edit(admin, namespace, "c", more=None)
        await made.shows("/c/more", None)
        secret = {"stringData": {"k": "two"}}
        await admin.patch(SECRETS, "s", secret, namespace, patch_type=PatchType.MERGE)
        await made.shows("/s/k", "two")
        await admin.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="later"), data={"k": "there"}), namespace)
        await made.shows("/o/k", "there")
        await admin.delete(CONFIG_MAPS, "c", namespace)
        message = 'MountVolume.SetUp failed for volume "c" : configmap "c" not found'
        await eventually(lambda: message in made.failures)
        assert await made.read("/c/k") == "two"
    assert os.listdir(tmp_path / "pods") == []


async def test_a_missing_secret_is_waited_for_with_the_recorded_message(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str, tmp_path: Path
) -> None:
    source = SecretVolumeSource(secret_name="lc-none")
    pod = await admin.create(PODS, with_volumes(registered_node, Volume(name="v", secret=source)), namespace)
    references = ReferenceCache(node_client, on_change=lambda *change: None)
    sources = VolumeSources(
        references.config_maps, references.secrets, references, ServiceAccountTokens(node_client), dict, SystemClock()
    )
    changes = asyncio.Event()
    volumes = PodVolumes(tmp_path, PodKey.of(pod), sources, changed=changes.set)
    running = asyncio.create_task(references.run())
    try:

        async def said() -> str:
            with pytest.raises(MountError) as caught:
                await volumes.prepare(pod)
            return str(caught.value) if "not found" in str(caught.value) else ""

        assert await eventually(said) == 'MountVolume.SetUp failed for volume "v" : secret "lc-none" not found'
        await admin.create(SECRETS, Secret(metadata=ObjectMeta(name="lc-none"), string_data={"k": "v"}), namespace)
        async with asyncio.timeout(60):
            await changes.wait()
        await volumes.refresh(pod)
        await volumes.remove()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_the_default_volume_lets_a_pod_talk_to_the_api_server_until_it_is_deleted(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str, tmp_path: Path
) -> None:
    pod = await admin.create(PODS, with_volumes(registered_node, api_access()), namespace)
    async with live(admin, node_client, pod, tmp_path) as made:
        assert await made.read("/api/namespace") == namespace
        assert "BEGIN CERTIFICATE" in (await made.read("/api/ca.crt") or "")
        token = await made.read("/api/token") or ""
        user = (await review(admin, token)).status.user
        assert user is not None
        assert user.username == f"system:serviceaccount:{namespace}:default"
        assert (user.extra or {})["authentication.kubernetes.io/pod-uid"] == [pod.metadata.uid]
        await admin.delete(PODS, "p", namespace, grace_period_seconds=0)

        async def refused() -> bool:
            return not (await review(admin, token)).status.authenticated

        await eventually(refused)


async def test_a_token_for_another_audience_is_for_that_one_only(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str, tmp_path: Path
) -> None:
    await admin.create(SERVICE_ACCOUNTS, ServiceAccount(metadata=ObjectMeta(name="robot")), namespace)
    source = ServiceAccountTokenProjection(path="token", audience="vault", expiration_seconds=600)
    projected = ProjectedVolumeSource(sources=[VolumeProjection(service_account_token=source)])
    made_pod = with_volumes(registered_node, Volume(name="v", projected=projected), service_account_name="robot")

    async def created() -> Pod | None:
        try:
            return await admin.create(PODS, made_pod, namespace)
        except ApiError as error:  # before 1.24 the account's token Secret has to be there first
            if "no API token found" not in str(error):
                raise
            return None

    pod = await eventually(created)
    assert isinstance(pod, Pod)
    async with live(admin, node_client, pod, tmp_path) as made:
        token = await made.read("/v/token") or ""
        accepted = (await review(admin, token, "vault")).status
        assert accepted.authenticated
        assert accepted.user is not None
        assert accepted.user.username == f"system:serviceaccount:{namespace}:robot"
        assert not (await review(admin, token)).status.authenticated


async def test_a_node_gets_no_token_for_a_pod_that_is_not_its_own(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    other = await admin.create(PODS, pod_on("another-node", "p", service_account_name="default"), namespace)
    tokens = ServiceAccountTokens(node_client)
    with pytest.raises(ApiError) as caught:
        await tokens.get(other)
    assert caught.value.code == 403
    assert registered_node.metadata.name


class Watcher(NotifyingProvider):
    """A provider without files."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[PodConfiguration] = []

    async def update_configuration(self, pod: Pod, configuration: PodConfiguration) -> None:
        self.told.append(configuration)

    def shown(self) -> dict[str, bytes]:
        """All files of all volumes, as last told."""
        volumes = self.told[-1].volumes.values() if self.told else ()
        return {path: file.data for contents in volumes for path, file in contents.files.items()}


async def test_a_provider_that_asks_for_it_is_told_without_files(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    labels = DownwardAPIVolumeFile(path="labels", field_ref=ObjectFieldSelector(field_path="metadata.labels"))
    volumes = [
        Volume(name="c", config_map=ConfigMapVolumeSource(name="c")),
        Volume(name="d", downward_api=DownwardAPIVolumeSource(items=[labels])),
        api_access(),
    ]
    provider, cluster = Watcher(), Cluster(admin, namespace)
    async with controlled(node_client, registered_node.metadata.name or "", provider):
        await cluster.create(with_volumes(registered_node, *volumes))
        event = await cluster.event("FailedMount", "p")
        assert event.message
        assert provider.count("create", "p") == 0

        async def said() -> bool:
            wanted = 'MountVolume.SetUp failed for volume "c" : configmap "c" not found'
            return wanted in [event.message for event in await cluster.events("FailedMount", "p")]

        await eventually(said)
        await admin.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="c"), data={"k": "one"}), namespace)
        await cluster.runs("p")
        await edit(admin, namespace, "c", k="two")
        await eventually(lambda: provider.shown().get("k") == b"two")
        assert provider.shown()["namespace"] == namespace.encode()
        assert (await review(admin, provider.shown()["token"].decode())).status.authenticated
        await cluster.label("p", a="b")
        await eventually(lambda: provider.shown().get("labels") == b'a="b"')
        assert provider.count("create", "p") == 1

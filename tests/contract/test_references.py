"""ReferenceCache with the node's own identity: the node authorizer shows a ConfigMap to the nodes whose pods refer to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.contract.scenarios import eventually, pod_on
from virtual_kubelet.errors import ApiNotFoundError, ForbiddenError
from virtual_kubelet.kube.client import ApiClient, PatchType
from virtual_kubelet.kube.references import ReferenceCache
from virtual_kubelet.kube.resources import CONFIG_MAPS, PODS, SECRETS, SERVICES
from virtual_kubelet.objects.core_v1 import (
    ConfigMap,
    ConfigMapEnvSource,
    Container,
    EnvFromSource,
    Node,
    Pod,
    Secret,
    SecretEnvSource,
    Service,
    ServicePort,
    ServiceSpec,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta

Changes = list[tuple[str, str, str]]


@asynccontextmanager
async def caching(client: ApiClient, **options: Any) -> AsyncIterator[tuple[ReferenceCache, Changes]]:
    changes: Changes = []
    cache = ReferenceCache(client, on_change=lambda *change: changes.append(change), linger=0.1, **options)
    task = asyncio.create_task(cache.run())
    try:
        yield cache, changes
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def objects(admin: ApiClient, namespace: str) -> None:
    await admin.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="c"), data={"k": "1"}), namespace)
    await admin.create(SECRETS, Secret(metadata=ObjectMeta(name="s"), string_data={"k": "1"}), namespace)


def referring(node: Node, name: str = "p", *, config_map: str = "c", secret: str = "s") -> Pod:
    optional = True  # so that a real server takes the pod whether they are there or not
    source = [
        EnvFromSource(config_map_ref=ConfigMapEnvSource(name=config_map, optional=optional)),
        EnvFromSource(secret_ref=SecretEnvSource(name=secret, optional=optional)),
    ]
    return pod_on(node.metadata.name or "", name, containers=[Container(name="main", image="busybox", env_from=source)])


@pytest.mark.usefixtures("objects")
async def test_what_no_pod_of_the_node_refers_to_is_forbidden_and_seen_the_moment_one_does(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    async with caching(node_client, first_answer=0.5) as (cache, changes):
        cache.hold("early", namespace=namespace, config_maps=["c"], secrets=["s"])
        for read in (cache.get_config_map(namespace, "c"), cache.get_secret(namespace, "s")):
            with pytest.raises(ForbiddenError, match="no relationship found between node"):
                await read
        assert changes == []
        await admin.create(PODS, referring(registered_node), namespace)
        await eventually(
            lambda: {("ConfigMap", namespace, "c"), ("Secret", namespace, "s")} <= set(changes), seconds=40
        )
        assert (await cache.get_config_map(namespace, "c")).data == {"k": "1"}
        assert (await cache.get_secret(namespace, "s")).data == {"k": "MQ=="}


@pytest.mark.usefixtures("objects")
async def test_a_new_pod_need_not_wait_for_the_back_off_of_an_earlier_refusal(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    async with caching(node_client, first_answer=0.1) as (cache, changes):
        cache.hold("early", namespace=namespace, config_maps=["c"])
        with pytest.raises(ForbiddenError):
            await cache.get_config_map(namespace, "c")
        await admin.create(PODS, referring(registered_node), namespace)

        async def readable() -> bool:
            try:
                await node_client.get(CONFIG_MAPS, "c", namespace)
            except ForbiddenError:  # the authorizer learns of the pod a moment later
                return False
            return True

        await eventually(readable)
        cache.hold("new", namespace=namespace, config_maps=["c"])
        assert (await cache.get_config_map(namespace, "c")).data == {"k": "1"}
        await eventually(lambda: ("ConfigMap", namespace, "c") in changes)


@pytest.mark.usefixtures("objects")
async def test_what_a_pod_refers_to_is_watched_while_it_does_and_forbidden_again_afterwards(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    await admin.create(PODS, referring(registered_node), namespace)
    async with caching(node_client) as (cache, changes):
        cache.hold("p", namespace=namespace, config_maps=["c"], secrets=["s"])
        await eventually(lambda: len(set(changes)) == 2)
        changes.clear()
        await admin.patch(CONFIG_MAPS, "c", {"data": {"k": "2"}}, namespace, patch_type=PatchType.MERGE)
        await eventually(lambda: changes == [("ConfigMap", namespace, "c")])
        assert (await cache.get_config_map(namespace, "c")).data == {"k": "2"}
        await admin.delete(SECRETS, "s", namespace)
        await eventually(lambda: ("Secret", namespace, "s") in changes)
        with pytest.raises(ApiNotFoundError):
            await cache.get_secret(namespace, "s")
        await admin.delete(PODS, "p", namespace, grace_period_seconds=0)
        cache.release("p")
        assert not cache.holders("ConfigMap", namespace, "c")

        async def forbidden() -> bool:
            try:
                await cache.get_config_map(namespace, "c")
            except ForbiddenError:
                return True
            return False

        await eventually(forbidden)


async def test_an_absent_object_is_noticed_when_it_appears(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    await admin.create(PODS, referring(registered_node, config_map="late"), namespace)
    async with caching(node_client) as (cache, changes):
        cache.hold("p", namespace=namespace, config_maps=["late"])

        async def absent() -> bool:
            try:
                await cache.get_config_map(namespace, "late")
            except ApiNotFoundError:
                return True
            except ForbiddenError:  # the authorizer has not seen the pod yet
                return False
            raise AssertionError("it is not there")

        await eventually(absent)
        await admin.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="late"), data={"k": "v"}), namespace)
        await eventually(lambda: changes == [("ConfigMap", namespace, "late")])
        assert (await cache.get_config_map(namespace, "late")).data == {"k": "v"}


async def test_services_are_watched_in_the_namespaces_that_want_them(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    async with caching(node_client) as (cache, changes):
        cache.hold("p", namespace=namespace, services_of=[namespace])
        assert [s.metadata.name for s in await cache.services(namespace)] == []
        spec = ServiceSpec(ports=[ServicePort(port=80)])
        await admin.create(SERVICES, Service(metadata=ObjectMeta(name="web"), spec=spec), namespace)
        await eventually(lambda: changes == [("Service", namespace, "")])
        assert [s.metadata.name for s in await cache.services(namespace)] == ["web"]

"""Client, Informer and ReferenceCache against the dev cluster's faults: each is survived, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.contract.scenarios import eventually
from tests.contract.test_informer import Told, counted
from virtual_kubelet.devcluster import DevCluster, Fault
from virtual_kubelet.errors import (
    AlreadyExistsError,
    ApiConnectionError,
    ApiError,
    ApiTimeoutError,
    GoneError,
    ServerError,
)
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.client import ApiClient, PatchType
from virtual_kubelet.kube.informer import Informer
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import CONFIG_MAPS
from virtual_kubelet.objects.core_v1 import ConfigMap
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.telemetry.metrics import Metrics


@pytest.fixture
async def cluster() -> AsyncIterator[DevCluster]:
    async with DevCluster(scheduler=False) as cluster:
        yield cluster


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def client(cluster: DevCluster, tmp_path: Path, metrics: Metrics) -> AsyncIterator[ApiClient]:
    path = tmp_path / "kubeconfig"
    path.write_text(cluster.kubeconfig())
    async with ApiClient(load_kubeconfig(path), metrics=metrics) as client:
        yield client


async def create(client: ApiClient, name: str, **data: str) -> ConfigMap:
    return await client.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name=name), data=data), "default")


# Requests


@pytest.mark.parametrize("code", [429, 503])
async def test_a_server_that_says_when_to_come_again_is_asked_again(
    cluster: DevCluster, client: ApiClient, code: int
) -> None:
    fault = cluster.faults.add(Fault.status(code, retry_after=0), verb="create", resource="configmaps", times=3)
    await create(client, "c")
    assert fault.met == 3


async def test_an_internal_error_is_raised(cluster: DevCluster, client: ApiClient) -> None:
    cluster.faults.add(Fault.status(500, message="etcd is unhappy"), resource="configmaps")
    with pytest.raises(ServerError, match="etcd is unhappy"):
        await client.list(CONFIG_MAPS, "default")
    await client.list(CONFIG_MAPS, "default")


async def test_a_slow_answer_is_waited_for_and_a_missing_one_not_for_ever(
    cluster: DevCluster, client: ApiClient
) -> None:
    cluster.faults.add(Fault.delay(0.3), resource="configmaps")
    await client.list(CONFIG_MAPS, "default")
    with cluster.faults.during(Fault.stall(), resource="configmaps"):
        with pytest.raises(ApiTimeoutError):
            await client.list(CONFIG_MAPS, "default", timeout=0.3)
    await client.list(CONFIG_MAPS, "default")


async def test_an_answer_that_was_lost_is_asked_for_again_where_twice_is_the_same_as_once(
    cluster: DevCluster, client: ApiClient
) -> None:
    made = await create(client, "c", k="1")
    cluster.faults.add(Fault.lose_answer(), verb="patch", resource="configmaps")
    changed = await client.patch(CONFIG_MAPS, "c", {"data": {"k": "2"}}, "default", patch_type=PatchType.MERGE)
    assert changed.data == {"k": "2"}
    cluster.faults.add(Fault.lose_answer(), verb="create", resource="configmaps")
    with pytest.raises(ApiConnectionError):
        await create(client, "d")
    with pytest.raises(AlreadyExistsError):
        await create(client, "d")
    cluster.faults.add(Fault.drop(), verb="delete", resource="configmaps")
    await client.delete(CONFIG_MAPS, "c", "default", uid=made.metadata.uid)


async def test_an_answer_that_is_no_json_is_an_error(cluster: DevCluster, client: ApiClient) -> None:
    cluster.faults.add(Fault.malformed(), verb="list", resource="configmaps")
    with pytest.raises(ApiError, match="is not a"):
        await client.list(CONFIG_MAPS, "default")


async def test_gone_comes_as_a_status_and_as_an_event(cluster: DevCluster, client: ApiClient) -> None:
    for fault in (Fault.status(410), Fault.expire()):
        cluster.faults.add(fault, verb="watch", resource="configmaps")
        with pytest.raises(GoneError) as caught:
            await anext(client.watch(CONFIG_MAPS, "default", resource_version="1"))
        assert caught.value.code == 410


# The informer


@asynccontextmanager
async def informing(
    client: ApiClient, metrics: Metrics, **options: bool | float
) -> AsyncIterator[tuple[Informer[ConfigMap], Told]]:
    informer = Informer(
        client,
        CONFIG_MAPS,
        namespace="default",
        field_selector="metadata.name!=kube-root-ca.crt",
        backoff=Backoff(initial=0.02, cap=0.1),
        metrics=metrics,
        **options,  # type: ignore[arg-type]
    )
    told = Told()
    informer.add_handler(told)
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.wait_synced(), 30)
        yield informer, told
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("streaming", [True, False], ids=["streaming list", "pages"])
@pytest.mark.parametrize("trouble", ["drop", "expire", "malform", "410", "429", "500", "lost history"])
async def test_whatever_happens_to_a_watch_nothing_is_lost_or_told_twice(
    cluster: DevCluster, client: ApiClient, metrics: Metrics, trouble: str, streaming: bool
) -> None:
    await create(client, "a")
    await create(client, "b")
    faults = cluster.faults
    async with informing(client, metrics, streaming=streaming) as (informer, told):
        await told.hears("+a", "+b")
        await eventually(lambda: counted(metrics, "api_requests", verb="watch", resource="configmaps", code="200"))
        # No watch can be opened while things happen: they are missed, not just late.
        with faults.during(Fault.status(503), verb="watch", resource="configmaps"):
            faults.drop_watches("configmaps") if trouble != "expire" else faults.expire_watches("configmaps")
            await eventually(lambda: informer.failing)
            await client.delete(CONFIG_MAPS, "a", "default")
            await create(client, "c")
            if trouble == "lost history":
                faults.compact("configmaps")
        match trouble:
            case "malform":
                faults.add(Fault.malformed(), verb="watch", resource="configmaps")
            case "410":
                faults.add(Fault.status(410), verb="watch", resource="configmaps")
            case "429" | "500":
                faults.add(Fault.status(int(trouble), retry_after=0), verb="watch", resource="configmaps", times=2)
        await eventually(lambda: {"-a", "+c"} <= set(told.said))
        await create(client, "d")
        await told.hears("+a", "+b", "-a", "+c", "+d")
        assert {o.metadata.name for o in informer.values()} == {"b", "c", "d"}


async def test_a_stalled_watch_is_left_for_a_new_one(cluster: DevCluster, client: ApiClient, metrics: Metrics) -> None:
    async with informing(client, metrics, watch_seconds=1.0, silence=2.0) as (_, told):
        await eventually(lambda: cluster.faults.stall_watches("configmaps"))
        await create(client, "a")
        await told.hears("+a")
        assert counted(metrics, "watch_restarts", resource="configmaps", reason="broken") >= 1


async def test_a_list_whose_pages_expire_is_still_taken(
    cluster: DevCluster, client: ApiClient, metrics: Metrics
) -> None:
    for i in range(5):
        await create(client, f"c{i}")
    informer = Informer(client, CONFIG_MAPS, namespace="default", streaming=False, page_size=1)
    # The first page comes, the second is refused.
    cluster.faults.add(Fault.delay(0), verb="list", resource="configmaps")
    cluster.faults.add(Fault.status(410), verb="list", resource="configmaps")
    task = asyncio.create_task(informer.run())
    await asyncio.wait_for(informer.wait_synced(), 30)
    assert {f"c{i}" for i in range(5)} <= {o.metadata.name for o in informer.values()}
    assert counted(metrics, "watch_restarts", resource="configmaps", reason="expired") == 0
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

"""Informer over an API server: the pods of one node, through everything that a network and a server do to a watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.network import Network, network_before
from tests.contract.scenarios import eventually, pod_on
from virtual_kubelet.errors import ApiTimeoutError
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.informer import Informer
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import CONFIG_MAPS, EVENTS, PODS, Resource
from virtual_kubelet.objects.core_v1 import ConfigMap, Event, Node, ObjectReference
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.telemetry.metrics import Metrics


class Told:
    """A handler that writes down what it hears: ``+name``, ``~name``, ``-name``, with the objects."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, Any]] = []

    def on_add(self, obj: Any, /) -> None:
        self.changes.append((f"+{obj.metadata.name}", obj))

    def on_update(self, old: Any, new: Any, /) -> None:
        self.changes.append((f"~{new.metadata.name}", new))

    def on_delete(self, last_known: Any, /) -> None:
        self.changes.append((f"-{last_known.metadata.name}", last_known))

    @property
    def said(self) -> Sequence[str]:
        return [said for said, _ in self.changes]

    async def hears(self, *said: str) -> None:
        """Until exactly these were heard, but for updates, whose number is the server's."""
        await eventually(lambda: len([s for s in self.said if s[0] != "~"]) >= len(said), seconds=40)
        assert [s for s in self.said if s[0] != "~"] == list(said)


@asynccontextmanager
async def informing(
    client: ApiClient, resource: Resource[Any], **options: Any
) -> AsyncIterator[tuple[Informer[Any], Told]]:
    informer = Informer(client, resource, backoff=Backoff(initial=0.05, cap=0.5), **options)
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


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def through(
    api_server: ApiServer, node_name: str, kubeconfig_file: Callable[[str], Path], metrics: Metrics
) -> AsyncIterator[tuple[Network, ApiClient]]:
    """A network, and a client with the node's own identity behind it."""
    async with network_before(api_server.node_kubeconfig(node_name)) as (network, kubeconfig):
        async with ApiClient(load_kubeconfig(kubeconfig_file(kubeconfig)), metrics=metrics) as client:
            yield network, client


@pytest.fixture
async def admin_through(
    api_server: ApiServer, kubeconfig_file: Callable[[str], Path], metrics: Metrics
) -> AsyncIterator[tuple[Network, ApiClient]]:
    async with network_before(api_server.admin_kubeconfig()) as (network, kubeconfig):
        async with ApiClient(load_kubeconfig(kubeconfig_file(kubeconfig)), metrics=metrics) as client:
            yield network, client


def counted(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"virtual_kubelet_{name}_total", labels) or 0.0


def own_pods(node: Node) -> dict[str, str]:
    return {"field_selector": f"spec.nodeName={node.metadata.name}"}


async def test_a_node_knows_the_pods_that_are_bound_to_it_and_no_others(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    name = registered_node.metadata.name or ""
    await admin.create(PODS, pod_on(name, "there"), namespace)
    unbound = pod_on("", "elsewhere", scheduler_name="nobody")
    unbound.spec.node_name = None
    await admin.create(PODS, unbound, namespace)
    async with informing(node_client, PODS, **own_pods(registered_node)) as (informer, told):
        await told.hears("+there")
        await admin.create(PODS, pod_on(name, "new"), namespace)
        await told.hears("+there", "+new")
        await admin.send_patch(PODS, "new", {"status": {"phase": "Running"}}, namespace, subresource="status")
        await eventually(lambda: "~new" in told.said)
        await admin.delete(PODS, "new", namespace, grace_period_seconds=0)
        await told.hears("+there", "+new", "-new")
        assert told.changes[-1][1].status.phase == "Running", "a tombstone carries the last known object"
        assert [pod.metadata.name for pod in informer.values()] == ["there"]
        assert not informer.failing


async def test_after_the_network_broke_the_watch_goes_on_where_it_was(
    admin: ApiClient, through: tuple[Network, ApiClient], registered_node: Node, namespace: str, metrics: Metrics
) -> None:
    network, client = through
    name = registered_node.metadata.name or ""
    await admin.create(PODS, pod_on(name, "a"), namespace)
    await admin.create(PODS, pod_on(name, "b"), namespace)
    async with informing(client, PODS, **own_pods(registered_node), metrics=metrics) as (informer, told):
        lists = counted(metrics, "api_requests", verb="list", resource="pods", code="200")
        network.close()
        await admin.delete(PODS, "a", namespace, grace_period_seconds=0)
        await admin.create(PODS, pod_on(name, "c"), namespace)
        await eventually(lambda: informer.failing)
        assert informer.get(namespace, "a") is not None, "what was known stays until the server says otherwise"
        network.open()
        await told.hears("+a", "+b", "-a", "+c")
        assert counted(metrics, "api_requests", verb="list", resource="pods", code="200") == lists
        assert counted(metrics, "watch_restarts", resource="pods", reason="broken") >= 1


async def test_a_half_open_connection_is_noticed_and_left(
    admin: ApiClient, through: tuple[Network, ApiClient], registered_node: Node, namespace: str
) -> None:
    network, client = through
    options = {"watch_seconds": 2.0, "silence": 4.0, **own_pods(registered_node)}
    async with informing(client, PODS, **options) as (_, told):
        network.freeze()
        await admin.create(PODS, pod_on(registered_node.metadata.name or "", "a"), namespace)
        await told.hears("+a")


async def test_a_request_on_a_half_open_connection_ends_and_the_next_one_works(
    through: tuple[Network, ApiClient],
) -> None:
    network, client = through
    await client.server_version()
    network.freeze()
    with pytest.raises(ApiTimeoutError):
        await client.request("GET", "/version", timeout=0.5)
    before = network.connections
    await client.server_version()
    assert network.connections == before + 1


async def test_a_watch_that_its_server_ends_costs_no_list(
    admin: ApiClient, through: tuple[Network, ApiClient], registered_node: Node, namespace: str, metrics: Metrics
) -> None:
    _, client = through
    options = {"watch_seconds": 1.0, "silence": 30.0, **own_pods(registered_node)}
    async with informing(client, PODS, metrics=metrics, **options) as (_, told):
        lists = counted(metrics, "api_requests", verb="list", resource="pods", code="200")
        await eventually(lambda: counted(metrics, "watch_restarts", resource="pods", reason="ended") >= 2)
        await admin.create(PODS, pod_on(registered_node.metadata.name or "", "a"), namespace)
        await told.hears("+a")
        assert counted(metrics, "api_requests", verb="list", resource="pods", code="200") == lists


async def test_when_the_history_is_gone_a_list_says_what_was_missed(
    api_server: ApiServer, admin: ApiClient, admin_through: tuple[Network, ApiClient], namespace: str, metrics: Metrics
) -> None:
    """Of events, because a real server holds no watch cache of them: etcd's compaction is felt at once."""
    network, client = admin_through

    async def happens(name: str) -> None:
        involved = ObjectReference(kind="Pod", name="p", namespace=namespace)
        event = Event(metadata=ObjectMeta(name=name), involved_object=involved, reason="R", message=name, type="Normal")
        await admin.create(EVENTS, event, namespace)

    await happens("a")
    await happens("b")
    async with informing(client, EVENTS, namespace=namespace, metrics=metrics) as (informer, told):
        await told.hears("+a", "+b")
        network.close()
        await admin.delete(EVENTS, "a", namespace)
        for name in ("c", "d"):
            await happens(name)
        await api_server.forget_history()
        await eventually(lambda: informer.failing)
        network.open()
        await told.hears("+a", "+b", "-a", "+c", "+d")
        assert told.changes[2][1].message == "a", "the tombstone of what was missed carries the last known object"
        assert counted(metrics, "watch_restarts", resource="events", reason="expired") >= 1


async def test_a_list_in_pages_is_complete_before_anybody_hears_of_it(admin: ApiClient, namespace: str) -> None:
    for i in range(7):
        labels = {"of": "us"}
        await admin.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name=f"c{i}", labels=labels)), namespace)
    options = {"namespace": namespace, "label_selector": "of=us", "page_size": 3, "streaming": False}
    async with informing(admin, CONFIG_MAPS, **options) as (informer, told):
        assert len(informer) == 7
        assert told.said == [f"+c{i}" for i in range(7)]


async def test_what_an_old_server_lacks_is_noticed_once_and_done_without(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, caplog: pytest.LogCaptureFixture, metrics: Metrics
) -> None:
    """Streaming lists: there in the dev cluster, which is as 1.36; not there in 1.20, which refuses to be asked."""
    new = (await admin.server_version()).minor >= 34
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            async with informing(node_client, PODS, **own_pods(registered_node)):
                pass
    said = [r.getMessage() for r in caplog.records if "streaming lists" in r.getMessage()]
    assert len(said) == (0 if new else 1), said
    assert node_client.lacking == (set() if new else {"streaming lists"})

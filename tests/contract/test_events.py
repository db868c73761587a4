"""EventRecorder with the node's own identity: what users see in kubectl describe."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from tests.contract.scenarios import eventually, pod_on
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.events import EventRecorder, node_reference, pod_reference
from virtual_kubelet.kube.resources import EVENTS, PODS
from virtual_kubelet.objects.core_v1 import Event, Node


@asynccontextmanager
async def recording(client: ApiClient, host: str) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(client, component="virtual-kubelet", host=host)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def events_of(admin: ApiClient, uid: str, namespace: str) -> Sequence[Event]:
    return (await admin.list(EVENTS, namespace, field_selector=f"involvedObject.uid={uid}")).items


async def test_equal_events_are_one_with_a_count_and_similar_ones_are_combined(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    name = registered_node.metadata.name or ""
    pod = await admin.create(PODS, pod_on(name, "p"), namespace)
    uid = pod.metadata.uid or ""
    async with recording(node_client, name) as recorder:
        for _ in range(3):
            recorder.event(pod_reference(pod), "Warning", "BackOff", "again")
        for i in range(12):
            recorder.event(pod_reference(pod), "Warning", "Failed", f"for the reason {i}")

        async def written() -> bool:
            found = await events_of(admin, uid, namespace)
            return sum(event.count or 0 for event in found) == 15

        await eventually(written)
    found = await events_of(admin, uid, namespace)
    again = [event for event in found if event.reason == "BackOff"]
    assert [(event.count, event.message, event.type) for event in again] == [(3, "again", "Warning")]
    source = again[0].source
    assert source is not None
    assert (source.component, source.host) == ("virtual-kubelet", name)
    combined = [event for event in found if (event.message or "").startswith("(combined from similar events): ")]
    assert [(event.count, event.message) for event in combined] == [
        (3, "(combined from similar events): for the reason 11")
    ]
    assert len([event for event in found if event.reason == "Failed"]) == 10


async def test_an_event_that_somebody_deleted_is_written_anew_with_its_count(
    admin: ApiClient, node_client: ApiClient, registered_node: Node, namespace: str
) -> None:
    name = registered_node.metadata.name or ""
    pod = await admin.create(PODS, pod_on(name, "p"), namespace)
    uid = pod.metadata.uid or ""
    async with recording(node_client, name) as recorder:
        recorder.event(pod_reference(pod), "Warning", "BackOff", "again")
        first = await eventually(lambda: events_of(admin, uid, namespace))
        assert isinstance(first, list)
        await admin.delete(EVENTS, first[0].metadata.name, namespace)
        recorder.event(pod_reference(pod), "Warning", "BackOff", "again")
        second = await eventually(lambda: events_of(admin, uid, namespace))
        assert isinstance(second, list)
    assert [event.count for event in second] == [2]
    assert second[0].first_timestamp == first[0].first_timestamp


async def test_an_event_of_the_node_is_in_the_default_namespace(
    admin: ApiClient, node_client: ApiClient, registered_node: Node
) -> None:
    name = registered_node.metadata.name or ""
    uid = registered_node.metadata.uid or ""
    async with recording(node_client, name) as recorder:
        recorder.event(node_reference(name, uid), "Normal", "Starting", "it starts")

        async def ours() -> Sequence[Event]:
            return [event for event in await events_of(admin, uid, "default") if event.reason == "Starting"]

        found = await eventually(ours)
    assert isinstance(found, list)
    assert [(event.type, event.count, event.message) for event in found] == [("Normal", 1, "it starts")]

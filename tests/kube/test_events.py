"""EventRecorder: what is written, counted, combined, dropped, and that it never blocks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.kube.api_stand_in import ApiStandIn, answers, drops, hangs, refuses
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.events import EventRecorder, node_reference, pod_reference
from virtual_kubelet.objects.core_v1 import ObjectReference, Pod
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.telemetry.metrics import Metrics

POD = ObjectReference(api_version="v1", kind="Pod", namespace="ns", name="p", uid="u")


class HandClock:
    seconds = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def server(server: ApiStandIn) -> ApiStandIn:
    server.script = [answers(201, {})]
    return server


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(8):
        while not true():
            await asyncio.sleep(0.005)


def dropped(metrics: Metrics, reason: str) -> float:
    return metrics.registry.get_sample_value("virtual_kubelet_events_dropped_total", {"reason": reason}) or 0


def sent(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("virtual_kubelet_events_sent_total") or 0


@asynccontextmanager
async def running(
    client: ApiClient, clock: HandClock, metrics: Metrics, **options: Any
) -> AsyncIterator[EventRecorder]:
    recorder = EventRecorder(
        client, component="virtual-kubelet", host="node-1", clock=clock, metrics=metrics, **{"flush": 0.2, **options}
    )
    task = asyncio.create_task(recorder.run())
    await asyncio.sleep(0)
    try:
        yield recorder
        assert not task.done(), task
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_an_event_is_written_with_its_source_and_times(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    async with running(client, clock, metrics) as recorder:
        recorder.event(POD, "Normal", "Started", "it runs")
        await until(lambda: sent(metrics) == 1)
    assert (server.seen[0].method, server.seen[0].path) == ("POST", "/api/v1/namespaces/ns/events")
    event = json.loads(server.seen[0].body)
    assert event["metadata"]["name"].startswith("p.")
    assert event["metadata"]["namespace"] == "ns"
    assert event["involvedObject"] == {"apiVersion": "v1", "kind": "Pod", "namespace": "ns", "name": "p", "uid": "u"}
    assert event["source"] == {"component": "virtual-kubelet", "host": "node-1"}
    assert (event["reportingComponent"], event["reportingInstance"]) == ("virtual-kubelet", "node-1")
    assert (event["type"], event["reason"], event["message"], event["count"]) == ("Normal", "Started", "it runs", 1)
    assert event["firstTimestamp"] == event["lastTimestamp"] == "1970-01-01T00:16:40Z"


async def test_an_equal_event_is_counted_on_the_earlier_one(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    async with running(client, clock, metrics) as recorder:
        for _ in range(3):
            recorder.event(POD, "Warning", "Failed", "no")
            clock.seconds += 1
        await until(lambda: sent(metrics) == 3)
    assert [s.method for s in server.seen] == ["POST", "PATCH", "PATCH"]
    name = json.loads(server.seen[0].body)["metadata"]["name"]
    assert server.seen[2].path == f"/api/v1/namespaces/ns/events/{name}"
    assert json.loads(server.seen[2].body) == {"count": 3, "lastTimestamp": "1970-01-01T00:16:42Z", "message": "no"}


async def test_an_earlier_event_that_has_expired_is_written_anew(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    server.script = [answers(201, {}), refuses(404, "NotFound"), answers(201, {})]
    async with running(client, clock, metrics) as recorder:
        recorder.event(POD, "Warning", "Failed", "no")
        clock.seconds += 1
        recorder.event(POD, "Warning", "Failed", "no")
        await until(lambda: sent(metrics) == 2)
    assert [s.method for s in server.seen] == ["POST", "PATCH", "POST"]
    first, _, anew = (json.loads(s.body) for s in server.seen)
    assert anew["count"] == 2
    assert anew["firstTimestamp"] == first["firstTimestamp"] < anew["lastTimestamp"]


async def test_similar_events_are_combined(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    async with running(client, clock, metrics) as recorder:
        for i in range(12):
            recorder.event(POD, "Warning", "Failed", f"no {i}")
        await until(lambda: sent(metrics) == 12)
    assert [s.method for s in server.seen] == ["POST"] * 10 + ["PATCH"] * 2
    assert json.loads(server.seen[-1].body)["message"] == "(combined from similar events): no 11"


async def test_one_objects_spam_is_dropped_and_counted(client: ApiClient, clock: HandClock, metrics: Metrics) -> None:
    recorder = EventRecorder(client, component="c", clock=clock, metrics=metrics)
    for _ in range(30):
        recorder.event(POD, "Warning", "Failed", "no")
    assert dropped(metrics, "spam") == 5


async def test_what_was_dropped_as_spam_is_in_the_count_of_the_next_one(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    async with running(client, clock, metrics) as recorder:
        for _ in range(30):
            recorder.event(POD, "Warning", "Failed", "no")
        clock.seconds += 301
        recorder.event(POD, "Warning", "Failed", "no")
        await until(lambda: sent(metrics) == 26)
    assert json.loads(server.seen[-1].body)["count"] == 31


async def test_normal_events_share_a_budget_and_warnings_do_not(
    client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    recorder = EventRecorder(client, component="c", clock=clock, metrics=metrics, normal_rate=2, normal_burst=3)

    def tell(kind: str, times: int) -> None:
        for i in range(times):
            pod = ObjectReference(kind="Pod", namespace="ns", name=f"{kind}-{clock.seconds}-{i}")
            recorder.event(pod, kind, "R", "m")

    tell("Normal", 5)
    assert dropped(metrics, "budget") == 2
    tell("Warning", 50)
    assert dropped(metrics, "budget") == 2
    clock.seconds += 1
    tell("Normal", 3)
    assert dropped(metrics, "budget") == 3


async def test_a_full_queue_drops_and_does_not_block(client: ApiClient, clock: HandClock, metrics: Metrics) -> None:
    recorder = EventRecorder(client, component="c", clock=clock, metrics=metrics, queue=4, writers=2)
    for i in range(6):
        recorder.event(POD, "Warning", "Failed", f"no {i}")
    assert dropped(metrics, "queue") == 4, "one object's events wait for one writer"


@pytest.mark.parametrize("character", ["x", "é", "☃"])
async def test_a_long_message_is_cut_to_what_the_api_takes(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics, character: str
) -> None:
    async with running(client, clock, metrics) as recorder:
        recorder.event(POD, "Normal", "R", character * 1025)
        recorder.event(POD, "Normal", "S", "x" * 1024)
        await until(lambda: sent(metrics) == 2)
    messages = [json.loads(s.body)["message"] for s in server.seen]
    assert messages[0].endswith(character + "…")
    assert 1020 < len(messages[0].encode()) <= 1024
    assert messages[1] == "x" * 1024


async def test_a_long_name_still_gives_a_valid_name(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    pod = ObjectReference(kind="Pod", namespace="ns", name="a" * 235 + "." + "b" * 17)
    async with running(client, clock, metrics) as recorder:
        recorder.event(pod, "Normal", "R", "m")
        await until(lambda: sent(metrics) == 1)
    name = json.loads(server.seen[0].body)["metadata"]["name"]
    assert len(name) <= 253
    assert name.startswith("a" * 235 + ".")
    assert ".." not in name


async def test_an_event_of_a_node_is_written_to_the_default_namespace(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    async with running(client, clock, metrics) as recorder:
        recorder.event(node_reference("node-1", ""), "Normal", "Starting", "m")
        await until(lambda: sent(metrics) == 1)
    assert server.seen[0].path == "/api/v1/namespaces/default/events"
    involved = json.loads(server.seen[0].body)["involvedObject"]
    assert involved == {"apiVersion": "v1", "kind": "Node", "name": "node-1", "uid": "node-1"}


async def test_events_are_tried_again_under_the_same_name_while_the_server_is_away(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    server.script = [drops(), refuses(409, "AlreadyExists")]
    async with running(client, clock, metrics) as recorder:
        recorder.event(POD, "Normal", "R", "m")
        await until(lambda: sent(metrics) == 1)
        server.script = [answers(200, {})]
        recorder.event(POD, "Normal", "R", "m")
        await until(lambda: sent(metrics) == 2)
    names = [json.loads(s.body)["metadata"]["name"] for s in server.seen[:2]]
    assert names[0] == names[1]
    assert server.seen[2].path.endswith(names[0])


@pytest.mark.looptime
async def test_an_event_that_cannot_be_written_for_long_is_dropped(clock: HandClock, metrics: Metrics) -> None:
    from virtual_kubelet.errors import ServerError

    class Away:
        tries = 0

        async def send_create(self, *args: object) -> None:
            self.tries += 1
            raise ServerError(500, "", "away")

    away: Any = Away()
    async with running(away, clock, metrics) as recorder:
        recorder.event(POD, "Normal", "R", "m")
        await until(lambda: dropped(metrics, "unreachable") == 1)
    assert away.tries == 4


async def test_an_event_that_is_refused_is_dropped_at_once(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    server.script = [refuses(403, "Forbidden", "namespace is being terminated")]
    async with running(client, clock, metrics) as recorder:
        recorder.event(POD, "Normal", "R", "m")
        await until(lambda: dropped(metrics, "refused") == 1)
    assert len(server.seen) == 1


async def test_what_waits_is_written_after_cancellation_and_what_was_interrupted_too(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    server.script = [hangs(), answers(201, {})]
    async with running(client, clock, metrics, flush=5, writers=1) as recorder:
        for i in range(3):
            recorder.event(POD, "Normal", "R", f"m{i}")
        await until(lambda: len(server.seen) == 1)
    assert sent(metrics) == 3
    assert len({json.loads(s.body)["metadata"]["name"] for s in server.seen}) == 3


async def test_flushing_has_an_end(server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics) -> None:
    server.script = [hangs()]
    async with running(client, clock, metrics, flush=0.1, writers=1) as recorder:
        for i in range(3):
            recorder.event(POD, "Normal", "R", f"m{i}")
        await until(lambda: len(server.seen) == 1)
    assert dropped(metrics, "stopped") == 3


async def test_only_so_many_written_events_are_remembered(
    server: ApiStandIn, client: ApiClient, clock: HandClock, metrics: Metrics
) -> None:
    async with running(client, clock, metrics, remembered=1, writers=1) as recorder:
        for reason in ("A", "B", "A", "A"):
            recorder.event(POD, "Normal", reason, "m")
        await until(lambda: sent(metrics) == 4)
    assert [s.method for s in server.seen] == ["POST", "POST", "POST", "PATCH"]


def test_a_pod_reference_names_this_incarnation() -> None:
    pod = Pod(metadata=ObjectMeta(name="p", namespace="ns", uid="u", resource_version="7"))
    assert pod_reference(pod) == ObjectReference(
        api_version="v1", kind="Pod", namespace="ns", name="p", uid="u", resource_version="7"
    )

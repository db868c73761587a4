"""Watches: what they show, from where they begin, how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.devcluster.clients import Api, Watch, config_map, pod
from virtual_kubelet.devcluster import DevCluster

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
MINE = "labelSelector=mine"
TABLE = {"Accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}


def _map(name: str, **data: str) -> dict[str, Any]:
    return config_map(name, data, labels={"mine": "yes"})


def _shown(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]


async def _now(api: Api) -> str:
    return str((await api.get(f"{MAPS}?limit=1")).body["metadata"]["resourceVersion"])


@asynccontextmanager
async def _own_cluster(**options: Any) -> AsyncIterator[tuple[DevCluster, Api]]:
    async with DevCluster(scheduler=False, **options) as cluster, await Api.of(cluster) as api:
        yield cluster, api


class TestEvents:
    async def test_writes_in_their_order_as_objects_with_kind_and_version(self, api: Api) -> None:
        async with api.watch(f"{MAPS}?watch=1&{MINE}&resourceVersion={await _now(api)}") as watch:
            created = await api.create(MAPS, _map("a"))
            patched = (await api.patch(f"{MAPS}/a", {"data": {"x": "y"}})).body
            await api.delete(f"{MAPS}/a")
            events = await watch.take(3)
        assert _shown(events) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
        assert events[0]["object"] == created
        assert events[1]["object"] == patched
        versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
        assert versions == sorted(set(versions))
        assert {**events[2]["object"], "metadata": None} == {**patched, "metadata": None}

    async def test_it_resumes_after_a_revision_without_a_gap(self, api: Api) -> None:
        first = await api.create(MAPS, _map("a"))
        await api.create(MAPS, _map("b"))
        await api.delete(f"{MAPS}/a")
        since = first["metadata"]["resourceVersion"]
        async with api.watch(f"{MAPS}?watch=1&{MINE}&resourceVersion={since}") as watch:
            assert _shown(await watch.take(2)) == [("ADDED", "b"), ("DELETED", "a")]

    @pytest.mark.parametrize("revision", ["", "&resourceVersion=0"])
    async def test_without_a_revision_it_begins_with_what_there_is(self, api: Api, revision: str) -> None:
        for name in "ba":
            await api.create(MAPS, _map(name))
        async with api.watch(f"{MAPS}?watch=1&{MINE}{revision}") as watch:
            await api.create(MAPS, _map("c"))
            assert _shown(await watch.take(3)) == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]

    async def test_a_selection_that_an_object_enters_and_leaves(self, api: Api) -> None:
        await api.create(PODS, pod("p"))
        async with api.watch(
            f"/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn&resourceVersion={await _now(api)}"
        ) as watch:
            binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
            await api.post(f"{PODS}/p/binding", binding)
            await api.patch(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}})
            assert _shown(await watch.take(2)) == [("ADDED", "p"), ("MODIFIED", "p")]
        async with api.watch(f"{PODS}?watch=1&labelSelector=a%3Db&resourceVersion={await _now(api)}") as watch:
            left = (await api.patch(f"{PODS}/p", {"metadata": {"labels": {"a": "c"}}})).body
            await api.patch(f"{PODS}/p", {"metadata": {"labels": {"a": "b"}}})
            events = await watch.take(2)
        assert _shown(events) == [("DELETED", "p"), ("ADDED", "p")]
        # It is shown as it was last seen, with the revision of leaving.
        assert events[0]["object"]["metadata"]["labels"] == {"a": "b"}
        assert events[0]["object"]["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]

    async def test_one_object_by_its_path_or_its_name(self, api: Api) -> None:
        now = await _now(api)
        paths = (
            f"{MAPS}/a?watch=1&resourceVersion={now}",
            f"{MAPS}?watch=1&fieldSelector=metadata.name%3Da&resourceVersion={now}",
        )
        for name in "ab":
            await api.create(MAPS, _map(name))
        await api.delete(f"{MAPS}/a")
        for path in paths:
            async with api.watch(path) as watch:
                assert _shown(await watch.take(2)) == [("ADDED", "a"), ("DELETED", "a")]

    async def test_as_tables_with_columns_once(self, api: Api) -> None:
        for name in "ab":
            await api.create(MAPS, _map(name))
        answer = await api.get(f"{MAPS}?watch=1&{MINE}&timeoutSeconds=1", headers=TABLE)
        events = [json.loads(line) for line in str(answer.body).splitlines()]
        assert [event["object"]["rows"][0]["cells"][0] for event in events] == ["a", "b"]
        assert events[0]["object"]["columnDefinitions"]
        assert events[1]["object"]["columnDefinitions"] is None

    async def test_a_hundred_watchers_all_see_it(self, api: Api) -> None:
        path = f"{MAPS}?watch=1&{MINE}&resourceVersion={await _now(api)}"

        async def see(ready: asyncio.Semaphore) -> list[tuple[str, str]]:
            async with api.watch(path) as watch:
                ready.release()
                return _shown(await watch.take(1))

        ready = asyncio.Semaphore(0)
        async with asyncio.TaskGroup() as group:
            watchers = [group.create_task(see(ready)) for _ in range(100)]
            for _ in watchers:
                await ready.acquire()
            await api.create(MAPS, _map("a"))
        assert [task.result() for task in watchers] == [[("ADDED", "a")]] * 100


class TestBookmarks:
    async def test_they_come_when_asked_for_and_say_how_far_the_watch_is(self) -> None:
        async with _own_cluster(bookmark_interval=0.2) as (_, api):
            path = f"{MAPS}?watch=1&{MINE}&resourceVersion={await _now(api)}"
            async with api.watch(f"{path}&allowWatchBookmarks=true") as watch, api.watch(path) as other:
                first = (await watch.take(1))[0]
                assert (first["type"], first["object"]["kind"], first["object"]["apiVersion"]) == (
                    "BOOKMARK",
                    "ConfigMap",
                    "v1",
                )
                # A write of another kind moves it, too.
                lease = await api.create(
                    "/apis/coordination.k8s.io/v1/namespaces/default/leases", {"metadata": {"name": "l"}, "spec": {}}
                )
                moved = lease["metadata"]["resourceVersion"]
                while (await watch.take(1))[0]["object"]["metadata"]["resourceVersion"] != moved:
                    pass
                await api.create(MAPS, _map("a"))
                assert _shown(await other.take(1)) == [("ADDED", "a")]

    async def test_the_initial_events_end_in_one(self, api: Api) -> None:
        for name in "ba":
            await api.create(MAPS, _map(name))
        query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with api.watch(f"{MAPS}?{query}&{MINE}") as watch:
            *events, end = await watch.take(3)
            assert _shown(events) == [("ADDED", "a"), ("ADDED", "b")]
            assert (end["type"], end["object"]["metadata"]["annotations"]) == (
                "BOOKMARK",
                {"k8s.io/initial-events-end": "true"},
            )
            since = int(end["object"]["metadata"]["resourceVersion"])
            created = await api.create(MAPS, _map("c"))
            assert int(created["metadata"]["resourceVersion"]) > since
            assert _shown(await watch.take(1)) == [("ADDED", "c")]

    async def test_initial_events_may_be_declined(self, api: Api) -> None:
        await api.create(MAPS, _map("a"))
        query = "watch=1&sendInitialEvents=false&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        async with api.watch(f"{MAPS}?{query}&{MINE}") as watch:
            await api.create(MAPS, _map("b"))
            assert _shown(await watch.take(1)) == [("ADDED", "b")]

    @pytest.mark.parametrize(
        ("query", "reasons"),
        [
            ("sendInitialEvents=true", ["FieldValueForbidden"]),
            ("sendInitialEvents=true&resourceVersionMatch=Exact", ["FieldValueForbidden", "FieldValueNotSupported"]),
            ("resourceVersionMatch=Exact", ["FieldValueForbidden", "FieldValueNotSupported"]),
        ],
    )
    async def test_options_that_do_not_go_together_are_invalid(self, api: Api, query: str, reasons: list[str]) -> None:
        answer = await api.get(f"{MAPS}?watch=1&{query}")
        assert (answer.status, answer.causes) == (422, [("resourceVersionMatch", reason) for reason in reasons])


class TestEnds:
    async def test_at_its_time_out(self, api: Api) -> None:
        async with api.watch(f"{MAPS}?watch=1&{MINE}&timeoutSeconds=1&resourceVersion={await _now(api)}") as watch:
            assert await watch.rest() == []

    async def test_from_before_compaction_it_is_an_error_event_410(self, api: Api, cluster: DevCluster) -> None:
        since = await _now(api)
        await api.create(MAPS, _map("a"))
        cluster.faults.compact("configmaps")
        async with api.watch(f"{MAPS}?watch=1&resourceVersion={since}") as watch:
            (event,) = await watch.rest()
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert event["object"]["message"].startswith(f"too old resource version: {since} (")

    async def test_history_is_bounded(self) -> None:
        async with _own_cluster(history=10) as (_, api):
            created = await api.create(MAPS, _map("a"))
            for number in range(11):
                await api.patch(f"{MAPS}/a", {"data": {"n": str(number)}})
            async with api.watch(f"{MAPS}?watch=1&resourceVersion={created['metadata']['resourceVersion']}") as watch:
                assert (await watch.rest())[0]["object"]["code"] == 410

    async def test_of_the_future_it_waits_in_silence(self, api: Api) -> None:
        async with api.watch(f"{MAPS}?watch=1&resourceVersion=99999999&timeoutSeconds=1") as watch:
            await api.create(MAPS, _map("a"))
            assert await watch.rest() == []

    async def test_a_revision_that_is_no_number_fails_before_it_begins(self, api: Api) -> None:
        assert (await api.get(f"{MAPS}?watch=1&resourceVersion=abc")).status == 500

    async def test_one_that_never_reads_is_let_go_and_harms_nobody(self) -> None:
        async with _own_cluster(watch_buffer_bytes=256 * 1024) as (_, api):
            path = f"{MAPS}?watch=1&{MINE}&resourceVersion={await _now(api)}"
            async with api.watch(path) as lazy, api.watch(path) as eager:
                for number in range(120):
                    await api.create(MAPS, _map(f"m{number:03}", big="x" * 100_000))
                    # The other one is served as it goes.
                    assert _shown(await eager.take(1)) == [("ADDED", f"m{number:03}")]
                assert len(await _until_cut(lazy)) < 120

    async def test_when_the_cluster_stops(self) -> None:
        async with _own_cluster() as (cluster, api):
            async with api.watch(f"{MAPS}?watch=1&resourceVersion={await _now(api)}") as watch:
                stopping = asyncio.create_task(cluster.stop())
                assert await watch.rest() == []
                await stopping


async def _until_cut(watch: Watch) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    try:
        while True:
            events += await watch.take(1)
    except EOFError:
        return events

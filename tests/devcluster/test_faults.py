"""Faults on request: each does what it says, to whom it should, as often as it should, and to nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from tests.devcluster.clients import PATIENCE, Api, config_map
from virtual_kubelet.devcluster import DevCluster, Fault

MAPS = "/api/v1/namespaces/default/configmaps"
SECRETS = "/api/v1/namespaces/default/secrets"
MINE = "labelSelector=mine"


def _map(name: str) -> dict[str, Any]:
    return config_map(name, labels={"mine": "yes"})


async def _watched(api: Api) -> str:
    """A watch that shows nothing but what comes."""
    version = (await api.get(f"{MAPS}?limit=1")).body["metadata"]["resourceVersion"]
    return f"{MAPS}?watch=1&{MINE}&resourceVersion={version}"


class TestErrors:
    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            (401, "Unauthorized"),
            (403, "Forbidden"),
            (404, "NotFound"),
            (409, "Conflict"),
            (410, "Expired"),
            (429, "TooManyRequests"),
            (500, "InternalError"),
            (503, "ServiceUnavailable"),
            (504, "Timeout"),
        ],
    )
    async def test_an_error_instead_of_the_answer(self, api: Api, cluster: DevCluster, code: int, reason: str) -> None:
        cluster.faults.add(Fault.status(code, message="as asked"), verb="create", resource="configmaps")
        answer = await api.post(MAPS, _map("a"))
        assert (answer.status, answer.reason, answer.message) == (code, reason, "as asked")
        # It was not done, and the next request is served.
        assert (await api.get(f"{MAPS}/a")).status == 404
        assert (await api.post(MAPS, _map("a"))).status == 201

    async def test_when_to_come_again(self, api: Api, cluster: DevCluster) -> None:
        cluster.faults.add(Fault.status(429, retry_after=7))
        answer = await api.get(MAPS)
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        assert answer.body["details"]["retryAfterSeconds"] == 7


class TestMatching:
    async def test_so_many_times(self, api: Api, cluster: DevCluster) -> None:
        injected = cluster.faults.add(Fault.status(500), resource="configmaps", times=2)
        assert [(await api.get(MAPS)).status for _ in range(4)] == [500, 500, 200, 200]
        assert injected.met == 2

    async def test_one_verb_resource_namespace_and_name(self, api: Api, cluster: DevCluster) -> None:
        for name in "ab":
            await api.create(MAPS, _map(name))
        match = {"verb": "get", "resource": "configmaps", "namespace": "default", "name": "a"}
        with cluster.faults.during(Fault.status(500), **match) as injected:
            assert (await api.get(f"{MAPS}/a")).status == 500
            assert (await api.get(f"{MAPS}/b")).status == 200
            assert (await api.get(MAPS)).status == 200
            assert (await api.patch(f"{MAPS}/a", {})).status == 200
            assert (await api.get("/api/v1/namespaces/kube-system/configmaps/a")).status == 404
            assert (await api.get(f"{MAPS}/a")).status == 500
        assert injected.met == 2
        assert (await api.get(f"{MAPS}/a")).status == 200

    async def test_a_subresource_is_not_its_object(self, api: Api, cluster: DevCluster) -> None:
        await api.create("/api/v1/nodes", {"metadata": {"name": "n"}})
        with cluster.faults.during(Fault.status(500), resource="nodes/status"):
            assert (await api.patch("/api/v1/nodes/n", {})).status == 200
            assert (await api.patch("/api/v1/nodes/n/status", {})).status == 500

    async def test_one_user(self, api: Api, cluster: DevCluster) -> None:
        async with await Api.of(cluster, cluster.kubeconfig("jane")) as jane:
            with cluster.faults.during(Fault.status(500), user="jane"):
                assert (await api.get(MAPS)).status == 200
                assert (await jane.get(MAPS)).status == 500

    async def test_several_act_in_the_order_they_were_added(self, api: Api, cluster: DevCluster) -> None:
        cluster.faults.add(Fault.status(500))
        second = cluster.faults.add(Fault.status(503), times=None)
        assert [(await api.get(MAPS)).status for _ in range(3)] == [500, 503, 503]
        second.remove()
        second.remove()
        assert (await api.get(MAPS)).status == 200

    async def test_all_away(self, api: Api, cluster: DevCluster) -> None:
        cluster.faults.add(Fault.status(500), times=None)
        cluster.faults.clear()
        assert (await api.get(MAPS)).status == 200


class TestSlowness:
    async def test_a_slow_answer_comes_and_others_come_before_it(self, api: Api, cluster: DevCluster) -> None:
        injected = cluster.faults.add(Fault.delay(3600.0), verb="create", resource="configmaps", name="")
        slow = asyncio.create_task(api.post(MAPS, _map("slow")))
        async with asyncio.timeout(PATIENCE):
            while not injected.met:
                await asyncio.sleep(0.01)
        assert (await api.get(SECRETS)).status == 200
        assert not slow.done()
        slow.cancel()
        await asyncio.wait({slow})
        cluster.faults.add(Fault.delay(0.05), verb="create", resource="configmaps")
        assert (await api.post(MAPS, _map("less"))).status == 201

    async def test_a_request_that_is_never_answered(self, api: Api, cluster: DevCluster) -> None:
        injected = cluster.faults.add(Fault.stall(), verb="get")
        stalled = asyncio.create_task(api.get(f"{MAPS}/a"))
        async with asyncio.timeout(PATIENCE):
            while not injected.met:
                await asyncio.sleep(0.01)
        assert (await api.get(f"{MAPS}/a")).status == 404
        assert not stalled.done()
        stalled.cancel()
        await asyncio.wait({stalled})


class TestBrokenConnections:
    async def test_one_that_is_cut_before_the_answer(self, api: Api, cluster: DevCluster) -> None:
        cluster.faults.add(Fault.drop(), verb="create")
        with pytest.raises(aiohttp.ClientError):
            await api.post(MAPS, _map("a"))
        assert (await api.get(f"{MAPS}/a")).status == 404

    async def test_an_answer_that_is_lost_after_the_work_was_done(self, api: Api, cluster: DevCluster) -> None:
        cluster.faults.add(Fault.lose_answer(), verb="create")
        with pytest.raises(aiohttp.ClientError):
            await api.post(MAPS, _map("a"))
        assert (await api.get(f"{MAPS}/a")).status == 200

    async def test_an_answer_that_is_no_json(self, api: Api, cluster: DevCluster) -> None:
        cluster.faults.add(Fault.malformed(b"{"), verb="get")
        answer = await api.get(f"{MAPS}/a")
        assert (answer.status, answer.body) == (200, "{")


class TestWatches:
    async def test_one_that_is_dropped_ends_broken_and_a_new_one_goes_on(self, api: Api, cluster: DevCluster) -> None:
        path = await _watched(api)
        async with api.watch(path) as watch:
            await api.create(MAPS, _map("a"))
            await watch.take(1)
            assert cluster.faults.drop_watches("configmaps") == 1
            with pytest.raises(aiohttp.ClientError):
                await watch.rest()
        async with api.watch(path) as watch:
            await api.create(MAPS, _map("b"))
            assert [e["object"]["metadata"]["name"] for e in await watch.take(2)] == ["a", "b"]

    async def test_only_those_of_the_resource_are_dropped(self, api: Api, cluster: DevCluster) -> None:
        async with api.watch(await _watched(api)) as watch:
            assert cluster.faults.drop_watches("secrets") == 0
            await api.create(MAPS, _map("a"))
            assert len(await watch.take(1)) == 1
            assert cluster.faults.drop_watches() >= 1

    async def test_a_half_open_one_sends_nothing_and_stays_open(self, api: Api, cluster: DevCluster) -> None:
        path = await _watched(api)
        async with api.watch(path) as silent, api.watch(path) as other:
            assert cluster.faults.stall_watches("configmaps") == 2
            await api.create(MAPS, _map("a"))
            reading = [asyncio.create_task(watch.take(1)) for watch in (silent, other)]
            # One that is opened since is served: so would these have been.
            async with api.watch(path) as fresh:
                assert len(await fresh.take(1)) == 1
            assert not any(task.done() for task in reading)
            for task in reading:
                task.cancel()
            await asyncio.wait(reading)

    async def test_an_open_one_expires_in_an_error_event_410(self, api: Api, cluster: DevCluster) -> None:
        async with api.watch(await _watched(api)) as watch:
            assert cluster.faults.expire_watches("configmaps") == 1
            (event,) = await watch.rest()
        assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")

    async def test_a_line_that_is_no_json(self, api: Api, cluster: DevCluster) -> None:
        async with api.watch(await _watched(api)) as watch:
            assert cluster.faults.malform_watches("configmaps") == 1
            with pytest.raises(ValueError):
                await watch.take(1)

    async def test_a_new_one_meets_a_fault_too(self, api: Api, cluster: DevCluster) -> None:
        path = await _watched(api)
        cluster.faults.add(Fault.status(410, message="gone"), verb="watch")
        assert (await api.get(path)).status == 410
        cluster.faults.add(Fault.expire(), verb="watch")
        async with api.watch(path) as watch:
            assert (await watch.rest())[0]["object"]["code"] == 410
        cluster.faults.add(Fault.drop(), verb="watch")
        async with api.watch(path) as watch:
            with pytest.raises(aiohttp.ClientError):
                await watch.rest()
        cluster.faults.add(Fault.malformed(b"{"), verb="watch")
        async with api.watch(path) as watch:
            with pytest.raises(ValueError):
                await watch.take(1)

    async def test_history_that_is_forgotten(self, api: Api, cluster: DevCluster) -> None:
        path = await _watched(api)
        await api.create(MAPS, _map("a"))
        cluster.faults.compact("secrets")
        async with api.watch(path) as watch:
            assert (await watch.take(1))[0]["type"] == "ADDED"
        cluster.faults.compact("configmaps")
        async with api.watch(path) as watch:
            assert (await watch.rest())[0]["object"]["code"] == 410


async def test_a_cluster_with_stalled_requests_and_watches_stops(cluster: DevCluster) -> None:
    async with await Api.of(cluster) as api:
        path = await _watched(api)
        injected = cluster.faults.add(Fault.stall(), verb="get")
        stalled = asyncio.create_task(api.get(f"{MAPS}/a"))
        async with asyncio.timeout(PATIENCE):
            while not injected.met:
                await asyncio.sleep(0.01)
        async with api.watch(path):
            cluster.faults.stall_watches()
            async with asyncio.timeout(PATIENCE):
                await cluster.stop()
        stalled.cancel()
        await asyncio.wait({stalled})

"""ReferenceCache: what pods refer to is watched while they do, by name, together, and within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.kube.api_stand_in import ApiStandIn, answers, config_map, event, listed, refuses, status
from virtual_kubelet.errors import ApiNotFoundError, ForbiddenError
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.references import ReferenceCache


class Namespace:
    """ConfigMaps, Secrets and Services that a test changes; lists and watches of them answer accordingly."""

    def __init__(self, server: ApiStandIn) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.watchers: list[tuple[str, str, asyncio.Queue[bytes]]] = []
        self.forbidden = False
        self.unwatchable = False
        self.hang_lists = False
        self.requests: list[str] = []
        self._version = 10
        server.script = [self._answer]

    def put(self, plural: str, name: str, **data: str) -> None:
        self._version += 1
        kind = "MODIFIED" if (plural, name) in self.objects else "ADDED"
        obj = self.objects[plural, name] = {**config_map(name, str(self._version)), "data": data}
        if plural == "services":
            del obj["data"]
        self._tell(plural, name, event(kind, obj))

    def remove(self, plural: str, name: str) -> None:
        self._tell(plural, name, event("DELETED", self.objects.pop((plural, name))))

    def _tell(self, plural: str, name: str, line: bytes) -> None:
        for watched, only, queue in self.watchers:
            if watched == plural and only in ("", name):
                queue.put_nowait(line)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        plural, _, name = request.path.removeprefix("/api/v1/namespaces/ns/").partition("/")
        only = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        verb = "get" if name else "watch" if "watch" in request.query else "list"
        self.requests.append(f"{verb} {plural}/{name or only}")
        if self.forbidden or (self.unwatchable and verb != "get"):
            return await refuses(403, "Forbidden", "no relationship found")(request)
        if verb == "get":
            found = self.objects.get((plural, name))
            return await (answers(200, found) if found else refuses(404, "NotFound", "gone"))(request)
        if verb == "list":
            if self.hang_lists:
                await asyncio.sleep(3600)
            found_all = [o for (p, n), o in self.objects.items() if p == plural and only in ("", n)]
            return await answers(200, listed(*found_all, version=str(self._version)))(request)
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        entry = (plural, only, queue)
        self.watchers.append(entry)
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(await queue.get())
        finally:
            self.watchers.remove(entry)

    def end_watches(self) -> None:
        """And let nobody watch again; reading one by one is still allowed."""
        self.unwatchable = True
        for _, _, queue in self.watchers:
            queue.put_nowait(event("ERROR", status(403, "Forbidden", "no relationship found")))

    @property
    def watched(self) -> list[str]:
        return sorted(f"{plural}/{name}" for plural, name, _ in self.watchers)


@pytest.fixture
def namespace(server: ApiStandIn) -> Namespace:
    return Namespace(server)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(
    client: ApiClient, **options: Any
) -> AsyncIterator[tuple[ReferenceCache, list[tuple[str, str, str]]]]:
    changes: list[tuple[str, str, str]] = []
    options.setdefault("linger", 0.02)
    cache = ReferenceCache(client, on_change=lambda *change: changes.append(change), **options)
    task = asyncio.create_task(cache.run())
    await asyncio.sleep(0)
    try:
        yield cache, changes
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_held_is_watched_by_name_and_read_from_the_cache(namespace: Namespace, client: ApiClient) -> None:
    namespace.put("configmaps", "c", k="v")
    namespace.put("secrets", "s")
    namespace.put("services", "svc")
    namespace.objects["secrets", "s"]["data"] = {"k": "dg=="}
    async with running(client) as (cache, changes):
        cache.hold("pod", namespace="ns", config_maps=["c"], secrets=["s"], services_of=["ns"])
        assert (await cache.get_config_map("ns", "c")).data == {"k": "v"}
        assert (await cache.get_secret("ns", "s")).data
        assert [s.metadata.name for s in await cache.services("ns")] == ["svc"]
        await until(lambda: namespace.watched == ["configmaps/c", "secrets/s", "services/"])
        before = len(namespace.requests)
        await cache.get_config_map("ns", "c")
        await cache.services("ns")
        assert len(namespace.requests) == before
        await until(lambda: set(changes) == {("ConfigMap", "ns", "c"), ("Secret", "ns", "s"), ("Service", "ns", "")})


async def test_an_absent_object_is_watched_until_it_appears(namespace: Namespace, client: ApiClient) -> None:
    async with running(client) as (cache, changes):
        cache.hold("pod", namespace="ns", config_maps=["c"])
        with pytest.raises(ApiNotFoundError, match='configmaps "c" not found'):
            await cache.get_config_map("ns", "c")
        await until(lambda: namespace.watched == ["configmaps/c"])
        namespace.put("configmaps", "c", k="v")
        await until(lambda: changes == [("ConfigMap", "ns", "c")])
        assert (await cache.get_config_map("ns", "c")).data == {"k": "v"}
        namespace.put("configmaps", "c", k="w")
        namespace.remove("configmaps", "c")
        await until(lambda: len(changes) == 3)
        with pytest.raises(ApiNotFoundError):
            await cache.get_config_map("ns", "c")


async def test_pods_share_a_watch_and_the_last_one_closes_it(namespace: Namespace, client: ApiClient) -> None:
    async with running(client) as (cache, _):
        cache.hold("one", namespace="ns", config_maps=["c"])
        cache.hold("two", namespace="ns", config_maps=["c"])
        assert cache.holders("ConfigMap", "ns", "c") == {"one", "two"}
        await until(lambda: namespace.watched == ["configmaps/c"])
        cache.release("one")
        await asyncio.sleep(0.05)
        assert namespace.watched == ["configmaps/c"]
        cache.release("two")
        cache.release("two")
        await until(lambda: namespace.watched == [])
        assert cache.holders("ConfigMap", "ns", "c") == frozenset()
        assert namespace.requests.count("watch configmaps/c") == 1


async def test_a_watch_lingers_for_the_next_pod(namespace: Namespace, client: ApiClient) -> None:
    async with running(client, linger=5) as (cache, _):
        cache.hold("one", namespace="ns", config_maps=["c"])
        await until(lambda: namespace.watched == ["configmaps/c"])
        cache.release("one")
        cache.hold("two", namespace="ns", config_maps=["c"])
        await asyncio.sleep(0.02)
        assert namespace.requests.count("watch configmaps/c") == 1
        assert cache.holders("ConfigMap", "ns", "c") == {"two"}


async def test_holding_again_replaces_what_was_held(namespace: Namespace, client: ApiClient) -> None:
    async with running(client) as (cache, _):
        cache.hold("pod", namespace="ns", config_maps=["a", "b"])
        await until(lambda: namespace.watched == ["configmaps/a", "configmaps/b"])
        cache.hold("pod", namespace="ns", config_maps=["b"], secrets=["a"])
        await until(lambda: namespace.watched == ["configmaps/b", "secrets/a"])
        cache.hold("pod", namespace="ns")
        await until(lambda: namespace.watched == [])


async def test_a_service_is_held_with_its_namespace(namespace: Namespace, client: ApiClient) -> None:
    async with running(client) as (cache, _):
        cache.hold("pod", namespace="ns", services_of=["ns"])
        assert cache.holders("Service", "ns", "any") == {"pod"}


async def test_what_is_not_held_is_read_directly(namespace: Namespace, client: ApiClient) -> None:
    namespace.put("configmaps", "c", k="v")
    namespace.put("services", "svc")
    async with running(client) as (cache, _):
        assert (await cache.get_config_map("ns", "c")).data == {"k": "v"}
        assert len(await cache.services("ns")) == 1
        assert namespace.requests == ["get configmaps/c", "list services/"]


async def test_a_refused_watch_says_why_and_is_tried_again(namespace: Namespace, client: ApiClient) -> None:
    namespace.put("configmaps", "c", k="v")
    namespace.forbidden = True
    async with running(client, first_answer=0.02) as (cache, changes):
        cache.hold("pod", namespace="ns", config_maps=["c"])
        with pytest.raises(ForbiddenError, match="no relationship found"):
            await cache.get_config_map("ns", "c")
        namespace.forbidden = False
        await until(lambda: changes == [("ConfigMap", "ns", "c")])
        assert (await cache.get_config_map("ns", "c")).data == {"k": "v"}


async def test_while_its_watch_fails_an_object_is_read_directly_and_not_from_what_may_be_old(
    namespace: Namespace, client: ApiClient
) -> None:
    namespace.put("configmaps", "c", k="v")
    async with running(client) as (cache, changes):
        cache.hold("pod", namespace="ns", config_maps=["c"])
        await until(lambda: namespace.watched == ["configmaps/c"])
        namespace.end_watches()
        await until(lambda: namespace.watched == [])
        namespace.put("configmaps", "c", k="w")
        await until(lambda: namespace.requests.count("list configmaps/c") > 1)
        assert (await cache.get_config_map("ns", "c")).data == {"k": "w"}
        assert changes == [("ConfigMap", "ns", "c")]
        namespace.unwatchable = False
        await until(lambda: len(changes) == 2)


async def test_a_new_holder_does_not_wait_for_the_back_off_of_an_earlier_refusal(
    namespace: Namespace, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtual_kubelet.kube.references.Backoff", lambda **_: Backoff(initial=3600, cap=3600))
    namespace.put("configmaps", "c", k="v")
    namespace.forbidden = True
    async with running(client, first_answer=0.02) as (cache, changes):
        cache.hold("early", namespace="ns", config_maps=["c"])
        await until(lambda: "list configmaps/c" in namespace.requests)
        with pytest.raises(ForbiddenError):
            await cache.get_config_map("ns", "c")
        namespace.forbidden = False
        cache.hold("new", namespace="ns", config_maps=["c"])
        await until(lambda: changes == [("ConfigMap", "ns", "c")])
        await until(lambda: namespace.watched == ["configmaps/c"])


async def test_a_slow_watch_is_not_waited_for(namespace: Namespace, client: ApiClient) -> None:
    namespace.put("configmaps", "c", k="v")
    namespace.hang_lists = True
    async with running(client, first_answer=0.02) as (cache, _):
        cache.hold("pod", namespace="ns", config_maps=["c"])
        assert (await cache.get_config_map("ns", "c")).data == {"k": "v"}


async def test_over_the_bound_objects_are_read_directly_until_a_watch_is_free(
    namespace: Namespace, client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    namespace.put("configmaps", "c", k="v")
    async with running(client, watches=2) as (cache, _):
        cache.hold("one", namespace="ns", config_maps=["a", "b"])
        await until(lambda: namespace.watched == ["configmaps/a", "configmaps/b"])
        cache.hold("two", namespace="ns", config_maps=["c"])
        cache.hold("three", namespace="ns", config_maps=["d"])
        cache.release("three")
        assert (await cache.get_config_map("ns", "c")).data == {"k": "v"}
        assert namespace.requests[-1] == "get configmaps/c"
        await asyncio.sleep(0.05)
        assert namespace.watched == ["configmaps/a", "configmaps/b"]
        cache.release("one")
        await until(lambda: namespace.watched == ["configmaps/c"])
    assert len([r for r in caplog.records if "not all are watched" in r.getMessage()]) == 1


async def test_what_was_held_before_run_is_watched_then(namespace: Namespace, client: ApiClient) -> None:
    namespace.put("configmaps", "c", k="v")
    changes: list[tuple[str, str, str]] = []
    cache = ReferenceCache(client, on_change=lambda *change: changes.append(change))
    cache.hold("pod", namespace="ns", config_maps=["c"])
    assert (await cache.get_config_map("ns", "c")).data == {"k": "v"}
    assert namespace.requests == ["get configmaps/c"]
    task = asyncio.create_task(cache.run())
    await until(lambda: changes == [("ConfigMap", "ns", "c")])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: namespace.watched == [])
    cache.hold("pod", namespace="ns", config_maps=["d"])
    with pytest.raises(ApiNotFoundError):
        await cache.get_config_map("ns", "d")
    cache.release("pod")


async def test_what_on_change_raises_leaves_run(namespace: Namespace, client: ApiClient) -> None:
    namespace.put("configmaps", "c")

    def broken(*change: str) -> None:
        raise LookupError("a bug")

    cache = ReferenceCache(client, on_change=broken)
    cache.hold("pod", namespace="ns", config_maps=["c"])
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(cache.run(), 5)
    assert caught.group_contains(LookupError)


async def test_a_holder_is_told_of_changes_of_what_it_holds_and_of_nothing_else(
    namespace: Namespace, client: ApiClient
) -> None:
    told: list[str] = []
    async with running(client) as (cache, _):
        cache.hold("one", namespace="ns", config_maps=["c"], changed=lambda: told.append("one"))
        cache.hold("two", namespace="ns", config_maps=["c"], secrets=["s"], changed=lambda: told.append("two"))
        cache.hold("three", namespace="ns", config_maps=["c"])
        await until(lambda: namespace.watched == ["configmaps/c", "secrets/s"])
        namespace.put("configmaps", "c", k="v")
        await until(lambda: sorted(told) == ["one", "two"])
        told.clear()
        namespace.put("secrets", "s")
        await until(lambda: told == ["two"])
        told.clear()
        cache.hold("two", namespace="ns", config_maps=["c"], changed=lambda: told.append("two again"))
        cache.release("one")
        namespace.put("configmaps", "c", k="w")
        await until(lambda: told == ["two again"])
        namespace.remove("configmaps", "c")
        await until(lambda: told == ["two again"] * 2)


async def test_an_immutable_object_is_kept_and_not_watched(namespace: Namespace, client: ApiClient) -> None:
    namespace.put("configmaps", "c", k="v")
    namespace.objects["configmaps", "c"]["immutable"] = True
    namespace.put("configmaps", "d", k="v")
    async with running(client) as (cache, changes):
        cache.hold("pod", namespace="ns", config_maps=["c", "d"])
        assert (await cache.get_config_map("ns", "c")).data == {"k": "v"}
        await until(lambda: namespace.watched == ["configmaps/d"])
        before = len(namespace.requests)
        namespace.remove("configmaps", "c")
        cache.hold("other", namespace="ns", config_maps=["c"])
        assert (await cache.get_config_map("ns", "c")).data == {"k": "v"}
        assert len(namespace.requests) == before
        # One that becomes so is told, and let go.
        namespace.objects["configmaps", "d"]["data"] = {"k": "last"}
        sealed = namespace.objects["configmaps", "d"] = {**namespace.objects["configmaps", "d"], "immutable": True}
        namespace._tell("configmaps", "d", event("MODIFIED", sealed))
        await until(lambda: namespace.watched == [])
        assert changes.count(("ConfigMap", "ns", "d")) == 2
        assert (await cache.get_config_map("ns", "d")).data == {"k": "last"}
        # The last holder takes it along: a new one sees what there is then.
        cache.release("pod")
        cache.release("other")
        await until(
            lambda: not cache.holders("ConfigMap", "ns", "c") and ("ConfigMap", "ns", "c") not in cache._watched
        )
        with pytest.raises(ApiNotFoundError):
            await cache.get_config_map("ns", "c")


async def test_an_immutable_object_leaves_its_watch_to_others(namespace: Namespace, client: ApiClient) -> None:
    namespace.put("configmaps", "c", k="v")
    namespace.objects["configmaps", "c"]["immutable"] = True
    async with running(client, watches=1) as (cache, _):
        cache.hold("one", namespace="ns", config_maps=["c"])
        cache.hold("two", namespace="ns", config_maps=["d"])
        await until(lambda: namespace.watched == ["configmaps/d"])
        assert (await cache.get_config_map("ns", "c")).data == {"k": "v"}

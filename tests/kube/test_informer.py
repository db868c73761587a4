"""Informer against a scripted API server: what it believes, what it tells, and what it survives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.kube.api_stand_in import (
    Answer,
    ApiStandIn,
    answers,
    config_map,
    drops,
    event,
    listed,
    refuses,
    status,
    streams,
)
from tests.kube.conftest import NewClient
from virtual_kubelet.errors import CredentialsError
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.client import ApiClient, ObjectList
from virtual_kubelet.kube.informer import Informer
from virtual_kubelet.kube.resources import CONFIG_MAPS
from virtual_kubelet.objects.core_v1 import ConfigMap
from virtual_kubelet.telemetry.metrics import Metrics

A, B = config_map("a", "1"), config_map("b", "2")
IDLE = streams(end="hang")


class Told:
    """A handler that writes down what it hears, as ``+name``, ``~name``, ``-name`` with the version."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self._more = asyncio.Event()

    def _say(self, change: str) -> None:
        self.changes.append(change)
        self._more.set()

    def on_add(self, obj: ConfigMap, /) -> None:
        self._say(f"+{obj.metadata.name}@{obj.metadata.resource_version}")

    def on_update(self, old: ConfigMap, new: ConfigMap, /) -> None:
        self._say(f"~{new.metadata.name}@{old.metadata.resource_version}>{new.metadata.resource_version}")

    def on_delete(self, last_known: ConfigMap, /) -> None:
        self._say(f"-{last_known.metadata.name}@{last_known.metadata.resource_version}")

    async def hears(self, *changes: str) -> None:
        """Until exactly these have been heard."""
        async with asyncio.timeout(60):
            while len(self.changes) < len(changes):
                self._more.clear()
                await self._more.wait()
        assert self.changes == list(changes)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(client: ApiClient, **options: Any) -> AsyncIterator[tuple[Informer[ConfigMap], Told]]:
    given: dict[str, Any] = {"streaming": False, "backoff": Backoff(initial=0.01, cap=0.02), **options}
    informer = Informer(client, CONFIG_MAPS, namespace="ns", **given)
    told = Told()
    informer.add_handler(told)
    task = asyncio.create_task(informer.run())
    try:
        yield informer, told
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def lists(*objects: Any, **more: Any) -> Answer:
    return answers(200, listed(*objects, **more))


# Believing


async def test_the_store_is_the_list_then_what_the_watch_says(server: ApiStandIn, client: ApiClient) -> None:
    changed = config_map("a", "11", data={"k": "v"})
    server.script = [
        lists(A, B, version="10"),
        streams(
            event("MODIFIED", changed), event("DELETED", config_map("b", "12")),
            event("ADDED", config_map("c", "13")), end="hang"
        ),
    ]  # fmt: skip
    async with running(client) as (informer, told):
        await told.hears("+a@1", "+b@2", "~a@1>11", "-b@12", "+c@13")
        assert informer.synced
        assert {o.metadata.name for o in informer.values()} == {"a", "c"}
        assert len(informer) == 2
        found = informer.get("ns", "a")
        assert found is not None
        assert found.data == {"k": "v"}
        assert informer.get("ns", "b") is None
        assert informer.resource_version == "13"
    assert server.seen[1].query["resourceVersion"] == "10"


async def test_synced_only_when_the_first_list_is_complete(server: ApiStandIn, client: ApiClient) -> None:
    go = asyncio.Event()

    async def second(request: Any) -> Any:
        await go.wait()
        return await lists(B)(request)

    server.script = [lists(A, continue_="t"), second, IDLE]
    async with running(client, page_size=1) as (informer, told):
        await until(lambda: len(server.seen) == 2)
        assert not informer.synced
        assert (len(informer), told.changes) == (0, [])
        go.set()
        await asyncio.wait_for(informer.wait_synced(), 5)
        await told.hears("+a@1", "+b@2")
    assert [s.query.get("continue") for s in server.seen[:2]] == [None, "t"]


async def test_a_handler_that_comes_late_is_told_of_what_is_there(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [lists(A), IDLE]
    async with running(client) as (informer, _):
        await informer.wait_synced()
        late = Told()
        informer.add_handler(late)
        await late.hears("+a@1")


async def test_an_object_replaced_under_one_name_in_a_watch_is_a_deletion_and_an_addition(
    server: ApiStandIn, client: ApiClient
) -> None:
    server.script = [lists(A), streams(event("MODIFIED", config_map("a", "20", uid="other")), end="hang")]
    async with running(client) as (_, told):
        await told.hears("+a@1", "-a@1", "+a@20")


# Beginning again


async def test_a_watch_that_ends_is_begun_again_from_the_last_version_without_a_list(
    server: ApiStandIn, client: ApiClient
) -> None:
    bookmark = event("BOOKMARK", {"metadata": {"resourceVersion": "50"}})
    server.script = [lists(A), streams(bookmark), streams(event("ADDED", config_map("b", "51")), end="hang")]
    async with running(client) as (_, told):
        await told.hears("+a@1", "+b@51")
    assert [s.query.get("watch") for s in server.seen] == [None, "1", "1"]
    assert server.seen[2].query["resourceVersion"] == "50"


async def test_a_watch_that_breaks_off_is_begun_again_from_the_last_version(
    server: ApiStandIn, client: ApiClient
) -> None:
    metrics = Metrics()
    server.script = [
        lists(A),
        streams(event("ADDED", config_map("b", "11")), b'{"type":"DEL', 0.05, end="abort"),
        drops(),
        streams(event("ADDED", config_map("c", "12")), end="hang"),
    ]
    async with running(client, metrics=metrics) as (_, told):
        await told.hears("+a@1", "+b@11", "+c@12")
    assert [s.query.get("resourceVersion") for s in server.seen] == [None, "10", "11", "11"]
    assert 'watch_restarts_total{reason="broken",resource="configmaps"} 2.0' in metrics.exposition().decode()


async def test_a_half_open_connection_is_noticed(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [lists(A), streams(end="hang"), streams(event("ADDED", config_map("b", "11")), end="hang")]
    async with running(client, watch_seconds=0.1, silence=0.2) as (_, told):
        await told.hears("+a@1", "+b@11")


@pytest.mark.parametrize(
    "overloaded",
    [refuses(429, "TooManyRequests", headers={"Retry-After": "0"}), refuses(500, "InternalError", "leader changed"),
     refuses(503, "ServiceUnavailable"), streams(event("ERROR", status(500, "InternalError", "?")))],
    ids=["429", "500", "503", "500 in the stream"],
)  # fmt: skip
async def test_a_watch_that_an_overloaded_server_refuses_goes_on_where_it_was_without_a_list(
    server: ApiStandIn, client: ApiClient, overloaded: Answer
) -> None:
    server.script = [lists(A), overloaded, overloaded, streams(event("ADDED", config_map("b", "11")), end="hang")]
    async with running(client) as (_, told):
        await told.hears("+a@1", "+b@11")
    assert [s.query.get("resourceVersion") for s in server.seen] == [None, "10", "10", "10"]


async def test_a_watch_that_is_refused_again_and_again_is_begun_again_with_a_list(
    server: ApiStandIn, client: ApiClient
) -> None:
    refused = refuses(500, "InternalError", "a bug of this version")
    server.script = [lists(A), refused, refused, refused, lists(A, B, version="20"), IDLE]
    async with running(client) as (_, told):
        await told.hears("+a@1", "+b@2")
        await until(lambda: len(server.seen) == 6)
    assert [s.query.get("resourceVersion") for s in server.seen] == [None, "10", "10", "10", None, "20"]


async def test_a_back_off_can_be_cut_short_and_what_is_held_meanwhile_is_known_to_be_old(
    server: ApiStandIn, client: ApiClient
) -> None:
    server.script = [refuses(403, "Forbidden"), lists(A), refuses(403, "Forbidden"), lists(A, B), IDLE]
    slow = Backoff(initial=3600, cap=3600)
    async with running(client, backoff=slow) as (informer, told):
        await until(lambda: len(server.seen) == 1)
        assert (informer.synced, informer.failing) == (False, True)
        await until_waiting(informer)
        informer.hurry()
        await told.hears("+a@1")
        await until(lambda: len(server.seen) == 3)
        await until_waiting(informer)
        assert (informer.synced, informer.failing) == (True, True)
        informer.hurry()
        await told.hears("+a@1", "+b@2")
        assert not informer.failing


async def until_waiting(informer: Informer[Any]) -> None:
    """Until it is in its back-off, so that it can be hurried out of it."""
    await until(lambda: informer.waiting)


@pytest.mark.parametrize(
    "gone",
    [refuses(410, "Expired"), refuses(410, "Gone"), streams(event("ERROR", status(410, "Expired", "too old"))),
     refuses(500, "InternalError", "Too large resource version"), refuses(403, "Forbidden"),
     streams(event("ERROR", {"code": "?"}))],
    ids=["410 Expired", "410 Gone", "410 in the stream", "too large", "403", "unreadable error"],
)  # fmt: skip
async def test_when_the_watch_is_refused_a_list_says_what_was_missed(
    server: ApiStandIn, client: ApiClient, gone: Answer
) -> None:
    server.script = [
        lists(A, B),
        gone,
        lists(config_map("a", "30", uid="other"), config_map("c", "31"), version="40"),
        IDLE,
    ]
    async with running(client) as (informer, told):
        await told.hears("+a@1", "+b@2", "-a@1", "-b@2", "+a@30", "+c@31")
        assert len(informer) == 2
        await until(lambda: len(server.seen) == 4)
    assert server.seen[3].query["resourceVersion"] == "40"


async def test_what_has_not_changed_between_two_lists_is_not_told(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [lists(A, B), refuses(410, "Expired"), lists(A, config_map("b", "9")), IDLE]
    async with running(client) as (_, told):
        await told.hears("+a@1", "+b@2", "~b@2>9")


async def test_the_store_stays_while_the_server_is_away(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [
        lists(A), refuses(410, "Expired"), drops(), drops(), refuses(500, "InternalError"), answers(200, b"<html>"),
        answers(302, b"", {"Location": "/"}), refuses(401, "Unauthorized"),
    ]  # fmt: skip
    async with running(client) as (informer, told):
        await until(lambda: len(server.seen) > 12)
        assert informer.get("ns", "a") is not None
        assert informer.synced
        assert told.changes == ["+a@1"]


async def test_after_a_continue_token_that_expires_the_list_is_taken_in_one_piece(
    server: ApiStandIn, client: ApiClient
) -> None:
    server.script = [
        lists(A, continue_="t"), refuses(410, "Expired", "The provided continue parameter is too old"),
        lists(B), IDLE,
    ]  # fmt: skip
    async with running(client, page_size=1) as (_, told):
        await told.hears("+b@2")
    assert [(s.query.get("limit"), s.query.get("continue")) for s in server.seen[:3]] == [
        ("1", None), ("1", "t"), (None, None),
    ]  # fmt: skip


async def test_a_server_that_cannot_be_reached_at_first_is_tried_again(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [drops(), drops(), drops(), drops(), lists(A), IDLE]
    async with running(client) as (_, told):
        await told.hears("+a@1")


async def test_credentials_that_cannot_be_had_for_a_while_are_survived(
    server: ApiStandIn, new_client: NewClient
) -> None:
    class Flaky:
        asked = 0

        async def authorization(self) -> str | None:
            self.asked += 1
            if self.asked in (1, 3):
                raise CredentialsError("the plugin failed")
            return "Bearer t"

        def reject(self, used: str | None) -> None: ...

    server.script = [lists(A), streams(event("ADDED", B), end="hang")]
    async with running(new_client(config=server.config(Flaky()))) as (_, told):
        await told.hears("+a@1", "+b@2")


@pytest.mark.looptime
async def test_a_watch_that_always_ends_at_once_is_no_busy_loop() -> None:
    class Empty:
        watches = 0

        async def list(self, *args: object, **options: object) -> Any:
            return ObjectList([], "1", "", None)

        async def watch(self, *args: object, **options: object) -> AsyncIterator[Any]:
            self.watches += 1
            if self.watches < 0:
                yield None

    api: Any = Empty()
    informer = Informer(api, CONFIG_MAPS, streaming=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(300):
            await informer.run()
    assert 8 < api.watches < 40


async def test_it_can_be_cancelled_while_it_waits(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [refuses(403, "Forbidden")]
    informer = Informer(client, CONFIG_MAPS, streaming=False, backoff=Backoff(initial=3600, cap=3600))
    task = asyncio.create_task(informer.run())
    await until(lambda: len(server.seen) == 1)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 1)


async def test_what_a_handler_raises_leaves_run(server: ApiStandIn, client: ApiClient) -> None:
    class Broken(Told):
        def on_add(self, obj: ConfigMap, /) -> None:
            raise LookupError("a bug")

    for streaming in (False, True):
        end = event(
            "BOOKMARK", {"metadata": {"resourceVersion": "5", "annotations": {"k8s.io/initial-events-end": "true"}}}
        )
        server.script = [streams(event("ADDED", A), end, end="hang")] if streaming else [lists(A)]
        informer = Informer(client, CONFIG_MAPS, streaming=streaming)
        informer.add_handler(Broken())
        with pytest.raises(LookupError, match="a bug"):
            await asyncio.wait_for(informer.run(), 5)


def test_silence_must_be_longer_than_a_watch(client: ApiClient) -> None:
    with pytest.raises(ValueError, match="silence"):
        Informer(client, CONFIG_MAPS, watch_seconds=30, silence=33)


async def test_a_watch_is_asked_for_about_as_long_as_told(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [lists(A), IDLE]
    async with running(client):
        await until(lambda: len(server.seen) == 2)
    assert 25 <= int(server.seen[1].query["timeoutSeconds"]) <= 31


# What cannot be read


def unreadable(name: str, version: str) -> dict[str, Any]:
    return {**config_map(name, version), "data": 3}


async def test_an_object_that_cannot_be_read_is_said_once_and_stays_as_last_known(
    server: ApiStandIn, client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [
        lists(A, B, unreadable("never", "3")),
        streams(event("MODIFIED", unreadable("a", "20")), event("ADDED", config_map("c", "21")), 0.01),
        refuses(410, "Expired"),
        lists(unreadable("a", "20"), config_map("d", "22")),
        IDLE,
    ]
    metrics = Metrics()
    with caplog.at_level(logging.INFO):
        async with running(client, metrics=metrics) as (informer, told):
            await told.hears("+a@1", "+b@2", "+c@21", "-b@2", "-c@21", "+d@22")
            assert informer.get("ns", "a") is not None
    assert [r.getMessage() for r in caplog.records if "cannot be read" in r.getMessage()] == [
        "an object among configmaps cannot be read (ns/never): it stays as last known; more are not reported"
    ]
    assert 'malformed_objects_total{resource="configmaps"} 3.0' in metrics.exposition().decode()


async def test_nothing_is_taken_for_deleted_if_a_list_holds_an_object_without_a_name(
    server: ApiStandIn, client: ApiClient
) -> None:
    server.script = [lists(A, B), refuses(410, "Expired"), lists(B, {"metadata": 3}), IDLE]
    async with running(client) as (informer, told):
        await until(lambda: len(server.seen) == 4)
        assert told.changes == ["+a@1", "+b@2"]
        assert len(informer) == 2


async def test_an_object_that_cannot_be_read_can_be_deleted(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [lists(A), streams(event("DELETED", unreadable("a", "20")), end="hang")]
    async with running(client) as (informer, told):
        await told.hears("+a@1", "-a@1")
        assert informer.resource_version == "20"


async def test_a_deletion_of_what_is_not_known_is_not_told(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [lists(A), streams(event("DELETED", config_map("x", "20")), event("ADDED", B), end="hang")]
    async with running(client) as (_, told):
        await told.hears("+a@1", "+b@2")


# Streaming lists

END = event("BOOKMARK", {"metadata": {"resourceVersion": "5", "annotations": {"k8s.io/initial-events-end": "true"}}})


async def test_a_streaming_list_is_one_request_for_list_and_watch(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [streams(event("ADDED", A), END, event("ADDED", config_map("b", "6")), end="hang")]
    async with running(client, streaming=True) as (informer, told):
        await told.hears("+a@1", "+b@6")
        assert informer.synced
    assert len(server.seen) == 1
    assert server.seen[0].query["sendInitialEvents"] == "true"


async def test_after_a_streaming_list_the_watch_goes_on_from_its_version(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [streams(event("ADDED", A), END), IDLE]
    async with running(client, streaming=True):
        await until(lambda: len(server.seen) == 2)
    assert server.seen[1].query["resourceVersion"] == "5"
    assert "sendInitialEvents" not in server.seen[1].query


@pytest.mark.parametrize(
    "old",
    [refuses(400, "BadRequest", "no"), refuses(422, "Invalid", "sendInitialEvents is forbidden"),
     streams(event("ADDED", A), event("MODIFIED", A), end="hang"),
     streams(event("ADDED", A), event("BOOKMARK", {"metadata": {"resourceVersion": "3"}}), end="hang")],
    ids=["400", "422", "an ordinary watch", "an ordinary bookmark"],
)  # fmt: skip
async def test_a_server_without_streaming_lists_is_asked_for_pages_and_that_is_said_once(
    server: ApiStandIn, client: ApiClient, caplog: pytest.LogCaptureFixture, old: Answer
) -> None:
    server.script = [old, lists(A), refuses(410, "Expired"), lists(A, B), IDLE]
    with caplog.at_level(logging.INFO):
        async with running(client, streaming=True) as (_, told):
            await told.hears("+a@1", "+b@2")
    assert len([r for r in caplog.records if "no streaming lists" in r.getMessage()]) == 1
    assert ["sendInitialEvents" in s.query for s in server.seen[:4]] == [True, False, False, False]


@pytest.mark.parametrize(
    "slow", [streams(event("ADDED", A)), streams(event("ADDED", A), end="hang")], ids=["ends", "silence"]
)
async def test_a_server_that_does_not_end_a_streaming_list_is_asked_for_pages_this_time(
    server: ApiStandIn, client: ApiClient, slow: Answer
) -> None:
    streamed = streams(event("ADDED", A), event("ADDED", B), END, end="hang")
    server.script = [slow, lists(A), refuses(410, "Expired"), streamed]
    async with running(client, streaming=True, streaming_patience=0.1) as (_, told):
        await told.hears("+a@1", "+b@2")
    assert ["sendInitialEvents" in s.query for s in server.seen] == [True, False, False, True]
    assert not client.lacking


async def test_trouble_is_said_once_and_that_it_is_over(
    server: ApiStandIn, client: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    away = refuses(403, "Forbidden", "not yet")
    server.script = [away, away, away, refuses(403, "Forbidden", "never"), lists(A), IDLE]
    with caplog.at_level(logging.INFO):
        async with running(client) as (_, told):
            await told.hears("+a@1")
    said = [r for r in caplog.records if r.name.startswith("virtual_kubelet")]
    assert [(r.levelname, r.getMessage()) for r in said] == [
        ("WARNING", "cannot watch configmaps, trying again: not yet"),
        ("WARNING", "cannot watch configmaps, trying again: never"),
        ("INFO", "the watch of configmaps works again"),
    ]


async def test_what_one_informer_found_lacking_no_other_of_the_client_tries(
    server: ApiStandIn, client: ApiClient
) -> None:
    server.script = [refuses(422, "Invalid"), lists(A), IDLE]
    async with running(client, streaming=True) as (_, told):
        await told.hears("+a@1")
    server.script = [lists(A), IDLE]
    async with running(client, streaming=True) as (_, told):
        await told.hears("+a@1")
    assert ["sendInitialEvents" in s.query for s in server.seen].count(True) == 1


async def test_a_streaming_list_that_breaks_off_is_not_taken_for_the_truth(
    server: ApiStandIn, client: ApiClient
) -> None:
    server.script = [
        streams(event("ADDED", A), event("ADDED", B), END),
        refuses(410, "Expired"),
        streams(event("ADDED", A), 0.02, end="abort"),
        streams(event("ADDED", A), event("ADDED", config_map("b", "3")), END, end="hang"),
    ]
    async with running(client, streaming=True) as (_, told):
        await told.hears("+a@1", "+b@2", "~b@2>3")

"""Writes to the API about pods when the API server says no: what is tried again, what is not, and what never waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.node.pod_api import STARTED, NotifyingProvider, PodApi, pod, running
from tests.node.test_pod_controller import controlled, until
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiError,
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
    ServerError,
    TooManyRequestsError,
)
from virtual_kubelet.objects.core_v1 import PodCondition

pytestmark = pytest.mark.looptime

KEY = PodKey("default", "p", "uid-p")


def patches(api: PodApi) -> int:
    return len([write for write in api.writes if write[0] == "patch"])


@pytest.mark.parametrize(
    "error",
    [
        ForbiddenError(403, "Forbidden", "a policy denies it"),
        ServerError(500, "InternalError", "failed calling webhook"),
        InvalidObjectError(422, "Invalid", "bad time"),
        ApiError(413, "RequestEntityTooLarge", "too large"),
    ],
)
async def test_a_status_that_cannot_be_written_does_not_stand_in_the_way_of_a_deletion(error: Exception) -> None:
    """virtual-kubelet#938."""
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.refuse = lambda verb, name: error if verb == "patch" else None
        api.user_deletes("p")
        await until(lambda: not api.has("p"), 60)
        assert provider.pods == {}


async def test_a_refused_status_is_told_on_the_pod_by_a_controller_of_its_own_too() -> None:
    api, provider = PodApi(), NotifyingProvider()
    api.refuse = lambda verb, name: InvalidObjectError(422, "Invalid", "bad time") if verb == "patch" else None
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: "InvalidPodStatus" in api.reasons())
        assert [event.message for event in api.events if event.reason == "InvalidPodStatus"] == ["bad time"]


@pytest.mark.parametrize(
    "error",
    [
        ConflictError(409, "Conflict", "the object has been modified; please apply your changes to the latest version"),
        ServerError(500, "InternalError", "etcd"),
        ApiConnectionError("refused"),
    ],
)
async def test_a_status_that_failed_for_a_moment_is_written_later(error: Exception) -> None:
    """A 409 that is not about the UID: the server's own patch lost a race, again and again."""
    api, provider = PodApi(), NotifyingProvider()
    left = [error, error]
    api.refuse = lambda verb, name: left.pop() if verb == "patch" and left else None
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")


#: Of 1.20 and of 1.36 (recorded).
OTHER_UID = [
    "Precondition failed: UID in precondition: uid-p, UID in object meta: uid-2",
    'Operation cannot be fulfilled on Pod "p": the UID in the precondition (uid-p) does not match the UID in record '
    "(uid-2). The object might have been deleted and then recreated",
]


@pytest.mark.parametrize("message", OTHER_UID)
@pytest.mark.parametrize("verb", ["patch", "delete"])
async def test_a_write_that_meets_another_pod_of_the_name_is_not_made_again(verb: str, message: str) -> None:
    """virtual-kubelet#1157."""
    api, provider = PodApi(), NotifyingProvider()
    api.refuse = lambda done, name: ConflictError(409, "Conflict", message) if done == verb else None
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: provider.count("create", "p") == 1)
        api.user_deletes("p")
        await until(lambda: any(write[0] == verb for write in api.writes))
        await asyncio.sleep(600)
        made = [write[2] for write in api.writes if write[0] == verb]
        assert len(made) <= 2, "one for each status, or the one deletion"
        assert len({repr(write) for write in made}) == len(made)


async def test_a_deletion_that_lost_a_race_is_tried_again() -> None:
    api, provider = PodApi(), NotifyingProvider()
    left = [ConflictError(409, "Conflict", "the object has been modified")] * 2
    api.refuse = lambda verb, name: left.pop() if verb == "delete" and left else None
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.user_deletes("p")
        await until(lambda: not api.has("p"))


async def test_news_during_an_outage_wait_for_the_back_off_and_only_the_newest_is_written() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        before = patches(api)
        api.refuse = lambda verb, name: ServerError(503, "ServiceUnavailable", "down")
        for second in range(600):
            provider.report(KEY, running(provider.pods[KEY], message=f"second {second}"))
            await asyncio.sleep(1)
        assert patches(api) - before < 40
        api.refuse = lambda verb, name: None
        await until(lambda: api.status("p").message == "second 599", 60)


async def test_news_do_not_shorten_what_the_server_asked_to_wait() -> None:
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        before = patches(api)
        busy = [TooManyRequestsError(429, "TooManyRequests", "later", retry_after=120)]
        api.refuse = lambda verb, name: busy.pop() if busy else None
        for second in range(110):
            provider.report(KEY, running(provider.pods[KEY], message=f"second {second}"))
            await asyncio.sleep(1)
        assert patches(api) - before == 1
        await until(lambda: api.status("p").message == "second 109", 60)


async def test_a_clock_that_is_wrong_does_not_cut_a_grace_period_short() -> None:
    """deletionTimestamp is by the API server's clock: one that is a minute behind ours would leave nothing of 30 s."""
    api, provider = PodApi(), NotifyingProvider()
    provider.ends_on_delete = False
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        before = asyncio.get_running_loop().time()
        api.user_deletes("p", 30, now="2025-12-31T23:59:00Z")
        await until(lambda: not api.has("p"))
        assert asyncio.get_running_loop().time() - before >= 30, "virtual seconds"


async def test_a_status_that_comes_while_an_older_one_is_written_is_written_before_the_deletion() -> None:
    """Else the last word on a pod is "Running": it ends, and goes, while the write before is under way."""
    api, provider = PodApi(), NotifyingProvider()
    send, sent = api.send_patch, asyncio.Event()

    async def slow(*args: Any, **options: Any) -> None:
        sent.set()
        await asyncio.sleep(1)
        await send(*args, **options)

    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        api.send_patch = slow  # type: ignore[method-assign]
        provider.report(KEY, running(provider.pods[KEY], message="older"))
        await sent.wait()
        api.user_deletes("p")
        await until(lambda: not api.has("p"))
        finals = [write[2]["status"].get("phase") for write in api.writes if write[0] == "patch"]
        assert finals[-1] == "Succeeded"


async def test_two_statuses_are_not_mixed_though_the_first_one_s_echo_is_late() -> None:
    """Ready, and not Ready again before the watch has brought the first: the second is written whole."""
    api, provider = PodApi(), NotifyingProvider()
    async with controlled(api, provider):
        api.put_pod(pod("p"))
        await until(lambda: api.status("p").phase == "Running")
        held: list[Any] = []
        tell = api._tell
        api._tell = lambda *event: held.append(event)  # type: ignore[method-assign]
        one = pod("p")
        provider.notify(KEY, running(one, message="first", conditions=[ready("False")]))
        await until(lambda: api.status("p").message == "first")
        provider.notify(KEY, running(one, message="second", conditions=[ready("True")]))
        await until(lambda: api.status("p").message == "second")
        assert [c.status for c in api.status("p").conditions or ()] == ["True"]
        written = patches(api)
        for event in held:
            tell(*event)
        await asyncio.sleep(5)
        assert patches(api) == written, "the late echoes are no reason to write"


def ready(status: str) -> PodCondition:
    return PodCondition(type="Ready", status=status, last_transition_time=STARTED)

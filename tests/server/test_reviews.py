"""Answers are kept for a while, questions asked once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tests.server.review_server import ReviewServer
from virtual_kubelet.errors import ApiConnectionError, ForbiddenError, ServerError, TooManyRequestsError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import TOKEN_REVIEWS
from virtual_kubelet.objects.authentication_v1 import TokenReview, TokenReviewSpec
from virtual_kubelet.server.reviews import ReviewCache, ReviewClient, submit

REVIEW = TokenReview(spec=TokenReviewSpec(token="t"))


def fits(client: ApiClient) -> ReviewClient:
    """For mypy: the real client has the shape that reviews ask for."""
    return client


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.moment = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(1_800_000_000 + self.moment, UTC)

    def monotonic(self) -> float:
        return self.moment


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


async def test_an_answer_is_kept_for_its_own_time(clock: HandClock) -> None:
    cache: ReviewCache[int] = ReviewCache(10, clock)
    asked = 0

    async def ask() -> tuple[int, float]:
        nonlocal asked
        asked += 1
        return asked, 10.0

    assert await cache.get(b"k", ask) == 1
    clock.moment = 9.9
    assert await cache.get(b"k", ask) == 1
    clock.moment = 10.0
    assert await cache.get(b"k", ask) == 2


async def test_an_answer_for_no_time_is_not_kept(clock: HandClock) -> None:
    cache: ReviewCache[int] = ReviewCache(10, clock)

    async def ask() -> tuple[int, float]:
        return 1, 0.0

    await cache.get(b"k", ask)
    assert len(cache) == 0


async def test_the_answer_unused_for_longest_goes_when_the_cache_is_full(clock: HandClock) -> None:
    cache: ReviewCache[str] = ReviewCache(2, clock)
    asked: list[bytes] = []

    async def get(key: bytes) -> None:
        async def ask() -> tuple[str, float]:
            asked.append(key)
            return "x", 60.0

        await cache.get(key, ask)

    for key in (b"a", b"b", b"a", b"c", b"a", b"b"):
        await get(key)
    assert asked == [b"a", b"b", b"c", b"b"]
    assert len(cache) == 2


async def test_callers_with_one_question_wait_for_one_answer(clock: HandClock) -> None:
    cache: ReviewCache[int] = ReviewCache(10, clock)
    release, asked = asyncio.Event(), 0

    async def ask() -> tuple[int, float]:
        nonlocal asked
        asked += 1
        await release.wait()
        return 7, 0.0

    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(cache.get(b"k", ask)) for _ in range(5)]
        await asyncio.sleep(0)
        release.set()
    assert [task.result() for task in waiting] == [7] * 5
    assert asked == 1


async def test_a_failure_is_told_to_all_who_wait_and_not_kept(clock: HandClock) -> None:
    cache: ReviewCache[int] = ReviewCache(10, clock)
    release, answers = asyncio.Event(), [ApiConnectionError("down"), None]

    async def ask() -> tuple[int, float]:
        await release.wait()
        if (failure := answers.pop(0)) is not None:
            raise failure
        return 1, 60.0

    waiting = [asyncio.create_task(cache.get(b"k", ask)) for _ in range(2)]
    await asyncio.sleep(0)
    release.set()
    for task in waiting:
        with pytest.raises(ApiConnectionError):
            await task
    assert await cache.get(b"k", ask) == 1


async def test_when_the_one_who_asks_leaves_another_asks_again(clock: HandClock) -> None:
    cache: ReviewCache[int] = ReviewCache(10, clock)
    release, asked = asyncio.Event(), 0

    async def ask() -> tuple[int, float]:
        nonlocal asked
        asked += 1
        await release.wait()
        return asked, 60.0

    first = asyncio.create_task(cache.get(b"k", ask))
    await asyncio.sleep(0)
    second = asyncio.create_task(cache.get(b"k", ask))
    await asyncio.sleep(0)
    first.cancel()
    release.set()
    assert await second == 2
    assert first.cancelled()


async def test_no_more_questions_than_allowed_are_asked_at_one_time(clock: HandClock) -> None:
    cache: ReviewCache[int] = ReviewCache(100, clock, max_in_flight=3)
    running = most = 0

    async def ask() -> tuple[int, float]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return 1, 60.0

    async with asyncio.TaskGroup() as group:
        for number in range(20):
            group.create_task(cache.get(b"%d" % number, ask))
    assert most == 3


@pytest.mark.parametrize(
    "failure",
    [
        ApiConnectionError("refused"),
        ServerError(500, "InternalError", "x"),
        TooManyRequestsError(429, "TooManyRequests", "x"),
    ],
)
async def test_what_may_pass_is_tried_again(failure: Exception) -> None:
    server = ReviewServer()
    server.failures = [failure, failure]
    answer = await submit(server, TOKEN_REVIEWS, REVIEW, timeout=5, retries=(0, 0))
    assert answer.status.error == "invalid bearer token"
    assert len(server.asked) == 3


async def test_what_stays_is_raised() -> None:
    server = ReviewServer()
    server.failures = [ApiConnectionError("refused")] * 3
    with pytest.raises(ApiConnectionError):
        await submit(server, TOKEN_REVIEWS, REVIEW, timeout=5, retries=(0, 0))
    server.failures = [ForbiddenError(403, "Forbidden", "x")]
    with pytest.raises(ForbiddenError):
        await submit(server, TOKEN_REVIEWS, REVIEW, timeout=5, retries=(0, 0))
    assert len(server.asked) == 4


@pytest.mark.looptime
async def test_all_attempts_share_one_time_out() -> None:
    server = ReviewServer()
    server.hold = asyncio.Event()
    started = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await submit(server, TOKEN_REVIEWS, REVIEW, timeout=10)
    assert asyncio.get_running_loop().time() - started == pytest.approx(10)

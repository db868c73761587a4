"""Questions to the API server about a caller, asked once, kept for a while: TokenReview and SubjectAccessReview."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from virtual_kubelet.clock import Clock
from virtual_kubelet.errors import ApiConnectionError, ServerError, TooManyRequestsError
from virtual_kubelet.kube.resources import Resource

__all__ = ["DEFAULT_RETRIES", "ReviewCache", "ReviewClient", "submit"]

T = TypeVar("T", bound=msgspec.Struct)
V = TypeVar("V")

#: Seconds to wait before each further attempt: client-go's webhook back-off (0.5 s, factor 1.5, 5 attempts).
DEFAULT_RETRIES: tuple[float, ...] = (0.5, 0.75, 1.125, 1.6875)


class ReviewClient(Protocol):
    """What is needed of ``ApiClient``."""

    async def create(
        self, resource: Resource[T], obj: msgspec.Struct, namespace: str | None = None, *, timeout: float | None = None
    ) -> T: ...


async def submit(
    client: ReviewClient,
    resource: Resource[T],
    review: T,
    *,
    timeout: float,
    retries: Sequence[float] = DEFAULT_RETRIES,
) -> T:
    """Post ``review`` and return the answer.

    Network errors, 429 and 5xx are tried again, all within ``timeout`` seconds. Raises ``ApiError``,
    ``ApiConnectionError`` or ``TimeoutError``.
    """
    async with asyncio.timeout(timeout):
        for delay in retries:
            try:
                return await client.create(resource, review, timeout=timeout)
            except (ApiConnectionError, ServerError, TooManyRequestsError):
                await asyncio.sleep(delay)
        return await client.create(resource, review, timeout=timeout)


class ReviewCache(Generic[V]):
    """Answers by key, each for its own time; at most ``size``, the one unused for longest goes first.

    Many callers with one key at one time wait for one question. Errors are told to all of them and not kept. If the one
    who asks is cancelled, one of the others asks again.
    """

    def __init__(self, size: int, clock: Clock, *, max_in_flight: int = 32) -> None:
        """
        Args:
            size: number of answers kept.
            clock: its monotonic time ages them.
            max_in_flight: questions asked at one time; a flood of unknown tokens must not become one at the API server.
        """
        self._size = size
        self._clock = clock
        self._answers: OrderedDict[bytes, tuple[float, V]] = OrderedDict()
        self._flights: dict[bytes, asyncio.Future[V]] = {}
        self._turn = asyncio.Semaphore(max_in_flight)

    def __len__(self) -> int:
        return len(self._answers)

    async def get(self, key: bytes, ask: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        """The answer for ``key``; if it is not here, ``ask`` returns it and the seconds that it may be kept."""
        while True:
            kept = self._answers.get(key)
            if kept is not None:
                if self._clock.monotonic() < kept[0]:
                    self._answers.move_to_end(key)
                    return kept[1]
                del self._answers[key]
            flight = self._flights.get(key)
            if flight is None:
                return await self._ask(key, ask)
            await asyncio.wait({flight})
            if not flight.cancelled():
                return flight.result()

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[tuple[V, float]]]) -> V:
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        try:
            async with self._turn:
                answer, seconds = await ask()
        except asyncio.CancelledError:
            flight.cancel()
            raise
        except Exception as error:
            flight.set_exception(error)
            flight.exception()  # perhaps nobody else waits: it is raised here
            raise
        else:
            self._keep(key, answer, seconds)
            flight.set_result(answer)
            return answer
        finally:
            del self._flights[key]

    def _keep(self, key: bytes, answer: V, seconds: float) -> None:
        if seconds <= 0 or self._size <= 0:
            return
        self._answers[key] = (self._clock.monotonic() + seconds, answer)
        while len(self._answers) > self._size:
            self._answers.popitem(last=False)

"""A cache of one resource, kept true by list and watch: one copy of each object, and handlers that hear of changes.

The loop: list (by a streaming watch where the server can, else page by page), replace the store as a whole and tell what
changed, watch from there; begin again from the last resourceVersion when the watch ends, and with a list when that has
expired. Nothing partial is ever taken for the truth: deletions follow from complete lists and DELETED events only.

Modelled on client-go's reflector (tools/cache/reflector.go): back-off 0.8 s doubling to 30 s with jitter, reset after two
healthy minutes. One difference: a watch is asked for half a minute only, not for five to ten. The server ends it with a
bookmark and the connection is used again, which costs next to nothing; so silence beyond that is a half-open connection,
noticed within 40 s, without a probe (kubernetes/kubernetes#87615 took hours).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import Any, Final, Generic, TypeVar

import msgspec

from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiError,
    BadRequestError,
    GoneError,
    InvalidObjectError,
    ServerError,
    TooManyRequestsError,
)
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.client import ApiClient, ObjectList
from virtual_kubelet.kube.object_store import InformerHandler, ObjectStore, StoreKey, key_of
from virtual_kubelet.kube.resources import Resource
from virtual_kubelet.kube.watch import Identity, WatchEvent
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.telemetry.metrics import Metrics

__all__ = ["Informer", "InformerHandler"]

log = get_logger(__name__)

#: Kubernetes 1.32 and later.
_STREAMING: Final = "streaming lists"
#: A watch that is refused so often in a row, by a server that is overloaded or broken, is begun again with a list.
_REFUSALS: Final = 3

T = TypeVar("T", bound=msgspec.Struct)


class Informer(Generic[T]):
    """See the module's docstring.

    Args:
        client: whose identity must have list and watch on ``resource`` with these selectors.
        page_size: objects a page where the server has no streaming lists.
        streaming: try a streaming list first (Kubernetes 1.32 and later); done without where it is refused, by this and
            all other informers of the client.
        watch_seconds: how long one watch is asked for; a tenth less or more by chance, so that many do not meet.
        silence: seconds without a byte after which the connection counts as half-open; more than ``watch_seconds``.
        shortest_watch: a watch that ends without an event in fewer seconds counts as a failure (client-go: 1).
        streaming_patience: seconds without an event or the final bookmark after which a streaming list is given up.
        metrics: counts watches begun again and objects that cannot be read.
        warn: whether trouble is a warning in the log; of many informers that have one trouble it is enough that one says so.
    """

    def __init__(
        self,
        client: ApiClient,
        resource: Resource[T],
        *,
        namespace: str | None = None,
        field_selector: str = "",
        label_selector: str = "",
        page_size: int = 500,
        streaming: bool = True,
        watch_seconds: float = 28.0,
        silence: float = 38.0,
        shortest_watch: float = 1.0,
        streaming_patience: float = 5.0,
        backoff: Backoff | None = None,
        metrics: Metrics | None = None,
        warn: bool = True,
    ) -> None:
        self._client = client
        self._resource = resource
        self._namespace = namespace
        self._field_selector = field_selector
        self._label_selector = label_selector
        self._page_size = page_size
        self._streaming = streaming
        if silence <= watch_seconds * 1.1:
            raise ValueError("silence must be longer than a watch lasts")
        self._watch_seconds = watch_seconds
        self._silence = silence
        self._shortest_watch = shortest_watch
        self._streaming_patience = streaming_patience
        self._backoff = backoff or Backoff(initial=0.8, factor=2.0, cap=30.0, reset_after=120.0)
        self._metrics = metrics
        self._store: ObjectStore[T] = ObjectStore()
        self._synced = asyncio.Event()
        self._malformed_said = False
        self._warn = warn
        self._complained: str | None = None
        self._refusals = 0
        self._failing = True
        self._hurried = asyncio.Event()
        self._waiting = False
        self.resource_version = ""

    def add_handler(self, handler: InformerHandler[T]) -> None:
        """Tell ``handler`` of every change from now on; of what is in the store already, as additions, at once."""
        self._store.add_handler(handler)

    def get(self, namespace: str | None, name: str) -> T | None:
        """The object as last seen, or None."""
        return self._store.get((namespace or "", name))

    def values(self) -> Collection[T]:
        """All objects."""
        return self._store.values()

    def __len__(self) -> int:
        return len(self._store)

    @property
    def synced(self) -> bool:
        """Whether a complete list has been taken."""
        return self._synced.is_set()

    @property
    def failing(self) -> bool:
        """Whether what is in the store may be old: the last list or watch failed, and none has worked since."""
        return self._failing

    def hurry(self) -> None:
        """Do not wait for the end of a back-off: what made the last try fail may be over.

        While a try is under way: should it fail, the next one follows at once.
        """
        self._hurried.set()

    @property
    def waiting(self) -> bool:
        """Whether it is in a back-off."""
        return self._waiting

    async def wait_synced(self) -> None:
        """Until the first complete list is in the store."""
        await self._synced.wait()

    async def run(self) -> None:
        """Keep the cache true until cancelled. Raises only what a handler raised."""
        while True:
            try:
                if not self.resource_version:
                    await self._list()
                if await self._watch():
                    self._restarted("ended")
                    self._backoff.healthy()
                    continue
                # Something between us and the server ends every watch at once: asking on would be a busy loop.
                self._complain("the watch of %s ended at once, trying again%s", "")
                self._restarted("short")
                delay = self._backoff.next()
            except GoneError:
                self.resource_version = ""
                self._restarted("expired")
                delay = self._backoff.next()
            except ApiError as error:
                if not self._may_resume(error):
                    self.resource_version = ""
                self._complain("cannot watch %s, trying again: %s", error)
                self._restarted("refused")
                delay = max(self._backoff.next(), error.retry_after or 0.0)
            except ApiConnectionError as error:
                self._complain("the watch of %s broke off, trying again: %s", error)
                self._restarted("broken")
                delay = self._backoff.next()
            self._failing = True
            await self._pause(delay)

    def _may_resume(self, error: ApiError) -> bool:
        """Whether to go on from the last version. An overloaded server is not asked for a list on top (client-go).

        "Too large resource version", after a failover, does not pass by itself for hours (kubernetes/kubernetes#91073).
        """
        self._refusals += 1
        if "Too large resource version" in error.message or self._refusals >= _REFUSALS:
            return False
        return isinstance(error, (TooManyRequestsError, ServerError))

    async def _pause(self, delay: float) -> None:
        self._waiting = True
        try:
            async with asyncio.timeout(delay):
                await self._hurried.wait()
        except TimeoutError:
            return
        finally:
            self._waiting = False
            self._hurried.clear()

    def _complain(self, what: str, error: object) -> None:
        """Say what is wrong, once until it works again or something else is wrong."""
        level = logging.WARNING if self._warn and str(error) != self._complained else logging.DEBUG
        self._complained = str(error)
        log.log(level, what, self._resource.plural, error)

    def _works(self) -> None:
        if self._complained is not None and self._warn:
            log.info("the watch of %s works again", self._resource.plural)
        self._complained = None
        self._failing = False
        self._refusals = 0
        self._hurried.clear()

    def _restarted(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.watch_restarts.labels(self._resource.plural, reason).inc()

    def _malformed(self, identity: Identity | None) -> None:
        if self._metrics is not None:
            self._metrics.malformed_objects.labels(self._resource.plural).inc()
        if self._malformed_said:
            return
        self._malformed_said = True
        which = f"{identity.namespace}/{identity.name}" if identity is not None else "one without a name"
        log.error(
            "an object among %s cannot be read (%s): it stays as last known; more are not reported",
            self._resource.plural,
            which,
        )

    # Watching

    def _open(self, **options: Any) -> AsyncGenerator[WatchEvent[T], None]:
        return self._client.watch(
            self._resource,
            self._namespace,
            timeout_seconds=max(1, round(self._watch_seconds * random.uniform(0.9, 1.1))),
            inactivity=self._silence,
            field_selector=self._field_selector,
            label_selector=self._label_selector,
            **options,
        )

    async def _watch(self) -> bool:
        """Until the watch ends; whether it was one that is worth to be begun again at once."""
        loop = asyncio.get_running_loop()
        started, heard = loop.time(), False
        async with aclosing(self._open(resource_version=self.resource_version)) as events:
            async for event in events:
                heard = True
                self._works()
                self._apply(event)
        heard = heard or loop.time() - started >= self._shortest_watch
        if heard:
            self._works()
        return heard

    def _apply(self, event: WatchEvent[T]) -> None:
        obj = event.object
        if obj is None:
            if event.resource_version:
                self.resource_version = event.resource_version
            if event.type == "MALFORMED":
                self._malformed(event.identity)
                if event.deleted and event.identity is not None:
                    self._store.remove((event.identity.namespace, event.identity.name), None)
            return
        if event.type == "DELETED":
            self._store.remove(key_of(obj), obj)
        else:
            self._store.put(obj)
        version: str | None = obj.metadata.resource_version  # type: ignore[attr-defined]
        self.resource_version = version or self.resource_version

    # Lists

    async def _list(self) -> None:
        if self._streaming and _STREAMING not in self._client.lacking:
            try:
                await self._list_streaming()
                return
            except (BadRequestError, InvalidObjectError, _NoStreamingListError) as error:
                self._client.do_without(_STREAMING, str(error))
            except _NoAnswerError as error:
                log.info("%s: no streaming list this time, using pages: %s", self._resource.plural, error)
        await self._list_pages()

    async def _list_streaming(self) -> None:
        fresh: dict[StoreKey, T] = {}
        malformed: list[Identity | None] = []
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._streaming_patience) as limit:
                async with aclosing(self._open(send_initial_events=True)) as events:
                    async for event in events:
                        if self.resource_version:
                            self._apply(event)
                        elif event.initial_end:
                            limit.reschedule(None)
                            self._replace(fresh, event.resource_version, malformed)
                        elif event.type == "ADDED" and event.object is not None:
                            limit.reschedule(loop.time() + self._streaming_patience)
                            fresh[key_of(event.object)] = event.object
                        elif event.type == "MALFORMED":
                            malformed.append(event.identity)
                        else:
                            # A server that does not know the parameter ignores it: no bookmark ends its initial events.
                            raise _NoStreamingListError(f"{event.type} among the initial events")
        except TimeoutError:
            if not limit.expired():
                raise  # a handler's own
            raise _NoAnswerError("the initial events stopped before their end") from None
        if not self.resource_version:
            raise _NoAnswerError("the server ended it before the end of the initial events")

    async def _list_pages(self) -> None:
        fresh: dict[StoreKey, T] = {}
        malformed: list[Identity | None] = []
        continue_ = ""
        while True:
            try:
                page = await self._page(self._page_size, continue_)
            except GoneError:
                if not continue_:
                    raise
                # So many objects, or so slow a server, that the history went while they were read: all in one answer.
                fresh, malformed = {}, []
                page = await self._page(0, "")
            fresh.update((key_of(obj), obj) for obj in page.items)
            malformed += page.malformed
            continue_ = page.continue_
            if not continue_:
                break
        self._replace(fresh, page.resource_version, malformed)

    async def _page(self, limit: int, continue_: str) -> ObjectList[T]:
        # A resourceVersion of "" asks for the newest state: no stale list from a server that lags behind.
        return await self._client.list(
            self._resource,
            self._namespace,
            limit=limit,
            continue_=continue_,
            field_selector=self._field_selector,
            label_selector=self._label_selector,
        )

    def _replace(self, fresh: dict[StoreKey, T], resource_version: str, malformed: Sequence[Identity | None]) -> None:
        """Take a complete list for the truth; what could not be read of it is there, so it stays as last known."""
        self._works()
        for identity in malformed:
            self._malformed(identity)
        self.resource_version = resource_version
        unread = {(i.namespace, i.name) for i in malformed if i is not None}
        self._store.replace(fresh, None if None in malformed else unread)
        self._synced.set()


class _NoStreamingListError(Exception):
    """The server answers ``sendInitialEvents`` with an ordinary watch."""


class _NoAnswerError(Exception):
    """The server, overloaded or on its way out, does not end a streaming list; another time it may."""

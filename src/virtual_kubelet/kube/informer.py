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
import random
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from virtual_kubelet.errors import ApiConnectionError, ApiError, BadRequestError, GoneError, InvalidObjectError
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import Resource
from virtual_kubelet.kube.watch import WatchEvent
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.telemetry.metrics import Metrics

__all__ = ["Informer", "InformerHandler"]

log = get_logger(__name__)

T = TypeVar("T", bound=msgspec.Struct)
T_contra = TypeVar("T_contra", contravariant=True)


class InformerHandler(Protocol[T_contra]):
    """Hears of changes, in the loop's thread, in order; must not block. An exception ends ``Informer.run`` with it."""

    def on_add(self, obj: T_contra, /) -> None: ...

    def on_update(self, old: T_contra, new: T_contra, /) -> None: ...

    def on_delete(self, last_known: T_contra, /) -> None: ...


class Informer(Generic[T]):
    """See the module's docstring.

    Args:
        client: whose identity must have list and watch on ``resource`` with these selectors.
        page_size: objects a page where the server has no streaming lists.
        streaming: try a streaming list first (Kubernetes 1.32 and later); done without where it is refused.
        watch_seconds: how long one watch is asked for; a tenth less or more by chance, so that many do not meet.
        silence: seconds without a byte after which the connection counts as half-open; more than ``watch_seconds``.
        metrics: counts watches begun again.
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
        backoff: Backoff | None = None,
        metrics: Metrics | None = None,
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
        self._backoff = backoff or Backoff(initial=0.8, factor=2.0, cap=30.0, reset_after=120.0)
        self._metrics = metrics
        self._handlers: list[InformerHandler[T]] = []
        self._store: dict[tuple[str, str], T] = {}
        self._synced = asyncio.Event()
        self._malformed_said = False
        self.resource_version = ""

    def add_handler(self, handler: InformerHandler[T]) -> None:
        """Tell ``handler`` of every change from now on; of what is in the store already, as additions, at once."""
        self._handlers.append(handler)
        for obj in list(self._store.values()):
            handler.on_add(obj)

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

    async def wait_synced(self) -> None:
        """Until the first complete list is in the store."""
        await self._synced.wait()

    async def run(self) -> None:
        """Keep the cache true until cancelled. Raises only what a handler raised."""
        while True:
            try:
                if not self.resource_version:
                    await self._list()
                await self._watch()
                self._restarted("ended")
                self._backoff.healthy()
                continue
            except GoneError:
                self.resource_version = ""
                self._restarted("expired")
                delay = self._backoff.next()
            except ApiError as error:
                # Such as "Too large resource version" after a failover: only a fresh list gets out of it.
                self.resource_version = ""
                log.warning("cannot watch %s, trying again: %s", self._resource.plural, error)
                self._restarted("refused")
                delay = max(self._backoff.next(), error.retry_after or 0.0)
            except ApiConnectionError as error:
                log.warning("the watch of %s broke off, trying again: %s", self._resource.plural, error)
                self._restarted("broken")
                delay = self._backoff.next()
            await asyncio.sleep(delay)

    def _restarted(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.watch_restarts.labels(self._resource.plural, reason).inc()

    def _malformed(self, count: int) -> None:
        if count and not self._malformed_said:
            self._malformed_said = True
            log.error("an object among %s could not be read and is left out", self._resource.plural)

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

    async def _watch(self) -> None:
        async with aclosing(self._open(resource_version=self.resource_version)) as events:
            async for event in events:
                self._apply(event)

    def _apply(self, event: WatchEvent[T]) -> None:
        obj = event.object
        if obj is None:
            if event.resource_version:
                self.resource_version = event.resource_version
            elif event.type == "MALFORMED":
                self._malformed(1)
            return
        meta = _meta(obj)
        key = (meta.namespace or "", meta.name or "")
        known = self._store.get(key)
        if event.type == "DELETED":
            if known is not None:
                del self._store[key]
                for handler in self._handlers:
                    handler.on_delete(obj)
        else:
            self._store[key] = obj
            if known is None:
                for handler in self._handlers:
                    handler.on_add(obj)
            elif _meta(known).uid != meta.uid:
                for handler in self._handlers:
                    handler.on_delete(known)
                    handler.on_add(obj)
            else:
                for handler in self._handlers:
                    handler.on_update(known, obj)
        self.resource_version = meta.resource_version or self.resource_version

    # Lists

    async def _list(self) -> None:
        if self._streaming:
            try:
                await self._list_streaming()
                return
            except (BadRequestError, InvalidObjectError, _NoStreamingListError) as error:
                self._streaming = False
                log.info("%s: the server has no streaming lists, using pages (%s)", self._resource.plural, error)
        await self._list_pages()

    async def _list_streaming(self) -> None:
        fresh: dict[tuple[str, str], T] = {}
        async with aclosing(self._open(send_initial_events=True)) as events:
            async for event in events:
                if self.resource_version:
                    self._apply(event)
                elif event.initial_end:
                    self._replace(fresh, event.resource_version)
                elif event.type == "ADDED" and event.object is not None:
                    fresh[_key(event.object)] = event.object
                elif event.type == "MALFORMED":
                    self._malformed(1)
                else:
                    # A server that does not know the parameter ignores it: no bookmark ends its initial events.
                    raise _NoStreamingListError(f"{event.type} among the initial events")
        if not self.resource_version:
            raise _NoStreamingListError("no bookmark ended the initial events")

    async def _list_pages(self) -> None:
        fresh: dict[tuple[str, str], T] = {}
        continue_ = ""
        while True:
            # A resourceVersion of "" asks for the newest state: no stale list from a server that lags behind.
            page = await self._client.list(
                self._resource,
                self._namespace,
                limit=self._page_size,
                continue_=continue_,
                field_selector=self._field_selector,
                label_selector=self._label_selector,
            )
            fresh.update((_key(obj), obj) for obj in page.items)
            self._malformed(page.malformed)
            continue_ = page.continue_
            if not continue_:
                break
        self._replace(fresh, page.resource_version)

    def _replace(self, fresh: dict[tuple[str, str], T], resource_version: str) -> None:
        old, self._store = self._store, fresh
        self.resource_version = resource_version
        for key, obj in old.items():
            new = fresh.get(key)
            if new is None or _meta(new).uid != _meta(obj).uid:
                for handler in self._handlers:
                    handler.on_delete(obj)
        for key, obj in fresh.items():
            known = old.get(key)
            if known is None or _meta(known).uid != _meta(obj).uid:
                for handler in self._handlers:
                    handler.on_add(obj)
            elif _meta(known).resource_version != _meta(obj).resource_version:
                for handler in self._handlers:
                    handler.on_update(known, obj)
        self._synced.set()


class _NoStreamingListError(Exception):
    """The server answers ``sendInitialEvents`` with an ordinary watch."""


def _key(obj: Any) -> tuple[str, str]:
    return obj.metadata.namespace or "", obj.metadata.name or ""


def _meta(obj: Any) -> ObjectMeta:
    meta: ObjectMeta = obj.metadata
    return meta

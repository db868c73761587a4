"""ConfigMaps and Secrets that pods refer to, and Services of their namespaces: read and watched only while needed.

A node's own identity may read a ConfigMap or Secret only by its name, and only while a pod bound to the node refers to it
(the node authorizer). So each is a watch of its own with a field selector on its name, shared by all pods that refer to
it, and closed when the last has gone. Each watch is a TLS connection: some 0.3 MB; over a bound, what is held is read
when it is asked for, and its changes are not heard of until a watch is free.

An object that says ``immutable`` is kept as it was first seen, and not watched any more, as by a kubelet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Any, Final, Generic, NamedTuple, TypeVar

from virtual_kubelet.errors import ApiNotFoundError
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.informer import Informer
from virtual_kubelet.kube.resources import CONFIG_MAPS, SECRETS, SERVICES, Resource
from virtual_kubelet.objects.core_v1 import ConfigMap, Secret, Service
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.telemetry.metrics import Metrics

__all__ = ["ReferenceCache"]

log = get_logger(__name__)

T = TypeVar("T")

_KINDS: Final[dict[str, Resource[Any]]] = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS, "Service": SERVICES}


class _Reference(NamedTuple):
    kind: str
    namespace: str
    name: str  # empty: all of the namespace


class _Watched:
    """One reference, and who holds it. Handles its own informer's events."""

    def __init__(self, reference: _Reference, informer: Informer[Any], changed: Callable[[_Reference], None]) -> None:
        self.reference = reference
        self.informer = informer
        self.holders: set[Hashable] = set()
        self.task: asyncio.Task[None] | None = None
        self.closing: asyncio.TimerHandle | None = None
        self.immutable: Any = None  # the object, once it says that it will never change
        self._changed = changed
        informer.add_handler(self)

    def on_add(self, obj: Any, /) -> None:
        self._seen(obj)

    def on_update(self, old: Any, new: Any, /) -> None:
        self._seen(new)

    def _seen(self, obj: Any) -> None:
        if getattr(obj, "immutable", None):
            self.immutable = obj
        self._changed(self.reference)

    def on_delete(self, last_known: Any, /) -> None:
        self._changed(self.reference)


class ObjectsOf(Generic[T]):
    """One kind of object, as ``get`` gives it."""

    def __init__(self, get: Callable[[str, str], Awaitable[T]]) -> None:
        self._get = get

    async def get(self, namespace: str, name: str) -> T:
        """Raises ``ApiNotFoundError`` if it is not there, other ``ApiError`` if it cannot be read."""
        return await self._get(namespace, name)


class ReferenceCache:
    """See the module's docstring. ``run`` owns the watches; ``hold`` and ``release`` may be called at any time.

    Args:
        on_change: told of kind, namespace and name of what appeared, changed or went; must not block.
        linger: seconds a watch is kept after its last holder has gone: pods of one Job come and go.
        first_answer: seconds ``get_…`` waits for a watch's first list before it asks directly.
        watches: at most so many at once.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        on_change: Callable[[str, str, str], None],
        linger: float = 10.0,
        first_answer: float = 2.0,
        watches: int = 1000,
        metrics: Metrics | None = None,
    ) -> None:
        self._client = client
        self._on_change = on_change
        self._linger = linger
        self._first_answer = first_answer
        self._watches = watches
        self._bound_said = False
        self._metrics = metrics
        self._watched: dict[_Reference, _Watched] = {}
        self._waiting: dict[_Reference, _Watched] = {}  # for ``run``, or for a free watch
        self._running = 0
        self._held: dict[Hashable, frozenset[_Reference]] = {}
        self._told: dict[Hashable, Callable[[], None]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Watch what is held, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                try:
                    self._start_watches()
                    await asyncio.get_running_loop().create_future()
                finally:
                    self._tasks = None  # it takes no more tasks
        finally:
            self._running = 0
            for watched in list(self._watched.values()):
                watched.task = None
                if watched.immutable is None:
                    self._waiting[watched.reference] = watched
                if watched.closing is not None:
                    watched.closing.cancel()
                    self._close(watched)

    def hold(
        self,
        holder: Hashable,
        *,
        namespace: str,
        config_maps: Iterable[str] = (),
        secrets: Iterable[str] = (),
        services_of: Iterable[str] = (),
        changed: Callable[[], None] | None = None,
    ) -> None:
        """Watch these for ``holder``, in place of what it held; ``changed`` as in ``contracts.context.ReferenceWatcher``."""
        wanted = frozenset(
            [_Reference("ConfigMap", namespace, name) for name in config_maps]
            + [_Reference("Secret", namespace, name) for name in secrets]
            + [_Reference("Service", other, "") for other in services_of]
        )
        before = self._held.pop(holder, frozenset())
        self._told.pop(holder, None)
        if wanted and changed is not None:
            self._told[holder] = changed
        for reference in wanted - before:
            self._watch(reference).holders.add(holder)
        for reference in before - wanted:
            self._drop(reference, holder)
        if wanted:
            self._held[holder] = wanted

    def release(self, holder: Hashable) -> None:
        """``holder`` needs nothing any more."""
        self._told.pop(holder, None)
        for reference in self._held.pop(holder, ()):
            self._drop(reference, holder)

    def holders(self, kind: str, namespace: str, name: str) -> frozenset[Hashable]:
        """Who holds an object; the holders of a namespace's Services for any of them."""
        watched = self._watched.get(_Reference(kind, namespace, "" if kind == "Service" else name))
        return frozenset(watched.holders) if watched is not None else frozenset()

    async def get_config_map(self, namespace: str, name: str) -> ConfigMap:
        """Raises ``ApiNotFoundError`` if it is not there, other ``ApiError`` if it cannot be read."""
        found: ConfigMap = await self._get("ConfigMap", namespace, name)
        return found

    async def get_secret(self, namespace: str, name: str) -> Secret:
        """Raises ``ApiNotFoundError`` if it is not there, other ``ApiError`` if it cannot be read."""
        found: Secret = await self._get("Secret", namespace, name)
        return found

    @property
    def config_maps(self) -> ObjectsOf[ConfigMap]:
        """A ``contracts.context.ObjectReader``."""
        return ObjectsOf(self.get_config_map)

    @property
    def secrets(self) -> ObjectsOf[Secret]:
        """A ``contracts.context.ObjectReader``."""
        return ObjectsOf(self.get_secret)

    async def services(self, namespace: str) -> Sequence[Service]:
        """The Services of a namespace."""
        watched = self._watched.get(_Reference("Service", namespace, ""))
        if watched is not None and await self._answered(watched):
            return list(watched.informer.values())
        return (await self._client.list(SERVICES, namespace)).items

    async def _get(self, kind: str, namespace: str, name: str) -> Any:
        watched = self._watched.get(_Reference(kind, namespace, name))
        if watched is not None and watched.immutable is not None:
            return watched.immutable
        if watched is None or not await self._answered(watched):
            # Not watched, or the watch is refused or slow: the direct answer says why.
            return await self._client.get(_KINDS[kind], name, namespace)
        found = watched.informer.get(namespace, name)
        if found is None:
            raise ApiNotFoundError(404, "NotFound", f'{kind.lower()}s "{name}" not found')
        return found

    async def _answered(self, watched: _Watched) -> bool:
        if watched.task is None:
            return False  # not watched, or no more: the store may be old
        if watched.informer.synced:
            return not watched.informer.failing  # else the store may be old, and the direct answer is right
        try:
            async with asyncio.timeout(self._first_answer):
                await watched.informer.wait_synced()
        except TimeoutError:
            return False
        return True

    def _watch(self, reference: _Reference) -> _Watched:
        watched = self._watched.get(reference)
        if watched is None:
            selector = f"metadata.name={reference.name}" if reference.name else ""
            informer: Informer[Any] = Informer(
                self._client,
                _KINDS[reference.kind],
                namespace=reference.namespace,
                field_selector=selector,
                streaming=False,
                # The node authorizer learns of a pod a moment after we may have.
                backoff=Backoff(initial=0.1, cap=30.0),
                metrics=self._metrics,
                warn=False,  # who reads one that cannot be watched is told why
            )
            watched = self._watched[reference] = _Watched(reference, informer, self._changed)
            self._waiting[reference] = watched
            self._start_watches()
            return watched
        if watched.closing is not None:
            watched.closing.cancel()
            watched.closing = None
        if watched.informer.failing:
            watched.informer.hurry()  # what was forbidden may be allowed now, for this pod
        return watched

    def _drop(self, reference: _Reference, holder: Hashable) -> None:
        watched = self._watched[reference]
        watched.holders.discard(holder)
        if not watched.holders:
            loop = asyncio.get_running_loop()
            watched.closing = loop.call_later(self._linger, self._close, watched)

    def _close(self, watched: _Watched) -> None:
        del self._watched[watched.reference]
        self._stop(watched)

    def _stop(self, watched: _Watched) -> None:
        self._waiting.pop(watched.reference, None)
        if watched.task is not None:
            watched.task.cancel()
            watched.task = None
            self._running -= 1
            self._start_watches()

    def _start_watches(self) -> None:
        """As many as may be, those that wait longest first."""
        while self._tasks is not None and self._waiting:
            if self._running >= self._watches:
                if not self._bound_said:
                    self._bound_said = True
                    log.warning(
                        "over %d ConfigMaps, Secrets and namespaces are in use: not all are watched", self._watches
                    )
                return
            watched = self._waiting.pop(next(iter(self._waiting)))
            watched.task = self._tasks.create_task(watched.informer.run())
            self._running += 1

    def _changed(self, reference: _Reference) -> None:
        watched = self._watched.get(reference)
        if watched is not None and watched.immutable is not None:
            # Not from here: this is the watch's own task, in the midst of its work.
            asyncio.get_running_loop().call_soon(self._stop, watched)
        self._on_change(reference.kind, reference.namespace, reference.name)
        for holder in tuple(watched.holders) if watched is not None else ():
            told = self._told.get(holder)
            if told is not None:
                told()

"""Kubernetes events: recorded at once, written in the background, aggregated and limited as client-go's are.

Success gives way under load: ``Normal`` events of the whole process share a budget; what is over it is dropped and
counted. ``Warning`` events are limited for each object only.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Final, NamedTuple

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.errors import ApiConnectionError, ApiError, ApiNotFoundError, ServerError, TooManyRequestsError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.event_correlation import EventCorrelator
from virtual_kubelet.kube.resources import EVENTS
from virtual_kubelet.objects.core_v1 import Event, EventSource, ObjectReference, Pod
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.telemetry.metrics import Metrics

__all__ = ["EventRecorder", "node_reference", "pod_reference"]

log = get_logger(__name__)

#: The API's limit on an event's message (validation of core/v1 events).
_LONGEST_MESSAGE: Final = 1024
_TRIES: Final = 4


def pod_reference(pod: Pod) -> ObjectReference:
    """What an event on this pod involves."""
    meta = pod.metadata
    return ObjectReference(
        api_version="v1",
        kind="Pod",
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resource_version,
    )


def node_reference(name: str, uid: str) -> ObjectReference:
    """What an event on this Node involves; as the kubelet does, by its name where there is no UID."""
    return ObjectReference(api_version="v1", kind="Node", name=name, uid=uid or name)


class _Pending(NamedTuple):
    key: tuple[str, ...]
    involved: ObjectReference
    event_type: str
    reason: str
    message: str
    at: str


class _Written(NamedTuple):
    namespace: str
    name: str
    times: int


class EventRecorder:
    """Records events; ``run`` writes them.

    Args:
        component, host: the event's source.
        normal_rate, normal_burst: budget of ``Normal`` events, a second and at once, for this recorder.
        queue: events that may wait; more are dropped.
        writers: requests at once.
        flush: seconds that ``run`` goes on writing what waits after it was cancelled.
        remembered: written events whose count can still go up.
    """

    def __init__(
        self,
        client: ApiClient,
        *,
        component: str,
        host: str = "",
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        normal_rate: float = 10.0,
        normal_burst: int = 50,
        queue: int = 1000,
        writers: int = 2,
        flush: float = 2.0,
        remembered: int = 4096,
    ) -> None:
        self._client = client
        self._component = component
        self._host = host
        self._metrics = metrics
        self._clock = clock or SystemClock()
        self._rate, self._burst = normal_rate, normal_burst
        self._tokens, self._tokens_at = float(normal_burst), float("-inf")
        self._queue: asyncio.Queue[_Pending] = asyncio.Queue(queue)
        self._writers = writers
        self._flush = flush
        self._remembered = remembered
        self._correlator = EventCorrelator()
        self._written: OrderedDict[tuple[str, ...], _Written] = OrderedDict()

    def event(self, involved: ObjectReference, event_type: str, reason: str, message: str) -> None:
        """Record an event; never blocks, never fails. No secret and no value of a variable may be in ``message``."""
        now = self._clock.monotonic()
        if event_type == "Normal" and not self._within_budget(now):
            self._dropped("budget")
            return
        if len(message) > _LONGEST_MESSAGE:
            message = message[: _LONGEST_MESSAGE - 1] + "…"
        correlated = self._correlator.correlate(involved, event_type, reason, message, now)
        if correlated is None:
            self._dropped("spam")
            return
        pending = _Pending(
            correlated.key, involved, event_type, reason, correlated.message, format_time(self._clock.now())
        )
        try:
            self._queue.put_nowait(pending)
        except asyncio.QueueFull:
            self._dropped("queue")

    async def run(self) -> None:
        """Write until cancelled; then write what waits, for a moment."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._writers):
                    tasks.create_task(self._write_forever())
        finally:
            if not self._queue.empty():
                try:
                    async with asyncio.timeout(self._flush):
                        while not self._queue.empty():
                            await self._write(self._queue.get_nowait())
                except TimeoutError:
                    for _ in range(self._queue.qsize()):
                        self._dropped("stopped")

    def _within_budget(self, now: float) -> bool:
        if self._tokens_at > float("-inf"):
            self._tokens = min(self._burst, self._tokens + (now - self._tokens_at) * self._rate)
        self._tokens_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def _write_forever(self) -> None:
        while True:
            await self._write(await self._queue.get())

    async def _write(self, pending: _Pending) -> None:
        for attempt in range(_TRIES):
            try:
                await self._write_once(pending)
            except (ApiConnectionError, ServerError, TooManyRequestsError) as error:
                if attempt == _TRIES - 1:
                    log.warning("an event was not written: %s", error)
                    self._dropped("unreachable")
                    return
                await asyncio.sleep(2**attempt)
            except ApiError as error:
                # Such as a namespace that is being deleted: saying it again would not help.
                log.debug("an event was refused: %s", error)
                self._dropped("refused")
                return
            else:
                if self._metrics is not None:
                    self._metrics.events_sent.inc()
                return

    async def _write_once(self, pending: _Pending) -> None:
        earlier = self._written.get(pending.key)
        if earlier is not None:
            patch = {"count": earlier.times + 1, "lastTimestamp": pending.at, "message": pending.message}
            try:
                await self._client.send_patch(EVENTS, earlier.name, patch, earlier.namespace)
            except ApiNotFoundError:  # events expire after an hour
                del self._written[pending.key]
            else:
                self._written[pending.key] = earlier._replace(times=earlier.times + 1)
                self._written.move_to_end(pending.key)
                return
        involved = pending.involved
        namespace = involved.namespace or "default"
        name = f"{involved.name}.{time.time_ns():x}"
        event = Event(
            metadata=ObjectMeta(name=name, namespace=namespace),
            involved_object=involved,
            reason=pending.reason,
            message=pending.message,
            type=pending.event_type,
            source=EventSource(component=self._component, host=self._host or None),
            reporting_component=self._component,
            reporting_instance=self._host,
            first_timestamp=pending.at,
            last_timestamp=pending.at,
            count=1,
        )
        await self._client.send_create(EVENTS, event, namespace)
        self._written[pending.key] = _Written(namespace, name, 1)
        if len(self._written) > self._remembered:
            self._written.popitem(last=False)

    def _dropped(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.events_dropped.labels(reason).inc()

"""Kubernetes events: recorded at once, written in the background, aggregated and limited as client-go's are.

Success gives way under load: ``Normal`` events of the whole process share a budget; what is over it is dropped and
counted. ``Warning`` events are limited for each object only.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections import OrderedDict
from typing import Final, NamedTuple

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.errors import (
    AlreadyExistsError,
    ApiConnectionError,
    ApiError,
    ApiNotFoundError,
    ServerError,
    TooManyRequestsError,
)
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

#: The API's limit on an event's message in bytes (events.k8s.io/v1, noteLengthLimit), and on an object's name.
_LONGEST_MESSAGE: Final = 1024
_LONGEST_NAME: Final = 253
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
    name: str
    key: tuple[str, ...]
    involved: ObjectReference
    event_type: str
    reason: str
    message: str
    at: str
    times: int


class _Written(NamedTuple):
    namespace: str
    name: str
    first_at: str


class EventRecorder:
    """Records events; ``run`` writes them.

    Args:
        component, host: the event's source.
        normal_rate, normal_burst: budget of ``Normal`` events, a second and at once, for this recorder.
        queue: events that may wait, shared out among the writers; more are dropped.
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
        # One for each writer, an object's events always in the same: they are written in order, and counted right.
        self._queues: list[asyncio.Queue[_Pending]] = [asyncio.Queue(max(1, queue // writers)) for _ in range(writers)]
        self._interrupted: list[_Pending] = []
        self._last_name = 0
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
        correlated = self._correlator.correlate(involved, event_type, reason, message, now)
        if correlated is None:
            self._dropped("spam")
            return
        # As client-go names them. The name is given here, so that a try that got through unnoticed is found again.
        self._last_name = max(self._last_name + 1, time.time_ns())
        suffix = f".{self._last_name:x}"
        pending = _Pending(
            (involved.name or "")[: _LONGEST_NAME - len(suffix)].rstrip("-.") + suffix,
            correlated.key,
            involved,
            event_type,
            reason,
            _shortened(correlated.message),
            format_time(self._clock.now()),
            correlated.times,
        )
        subject = f"{involved.namespace}/{involved.name}/{involved.uid}"
        try:
            self._queues[zlib.crc32(subject.encode()) % len(self._queues)].put_nowait(pending)
        except asyncio.QueueFull:
            self._dropped("queue")

    async def run(self) -> None:
        """Write until cancelled; then write what waits, for a moment."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for queue in self._queues:
                    tasks.create_task(self._write_forever(queue))
        finally:
            await self._write_the_rest()

    async def _write_the_rest(self) -> None:
        rest, self._interrupted = self._interrupted, []
        for queue in self._queues:
            while not queue.empty():
                rest.append(queue.get_nowait())
        written = 0
        try:
            async with asyncio.timeout(self._flush):
                for pending in rest:
                    await self._write(pending)
                    written += 1
        except TimeoutError:
            log.debug("stopped before %d events were written", len(rest) - written)
        finally:
            for _ in rest[written:]:
                self._dropped("stopped")

    def _within_budget(self, now: float) -> bool:
        if self._tokens_at > float("-inf"):
            self._tokens = min(self._burst, self._tokens + (now - self._tokens_at) * self._rate)
        self._tokens_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    async def _write_forever(self, queue: asyncio.Queue[_Pending]) -> None:
        while True:
            pending = await queue.get()
            try:
                await self._write(pending)
            except asyncio.CancelledError:
                self._interrupted.append(pending)
                raise

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
            patch = {"count": pending.times, "lastTimestamp": pending.at, "message": pending.message}
            try:
                await self._client.send_patch(EVENTS, earlier.name, patch, earlier.namespace)
            except ApiNotFoundError:  # events expire after an hour
                self._written.pop(pending.key, None)
            else:
                self._written.move_to_end(pending.key)
                return
        involved = pending.involved
        namespace = involved.namespace or "default"
        event = Event(
            metadata=ObjectMeta(name=pending.name, namespace=namespace),
            involved_object=involved,
            reason=pending.reason,
            message=pending.message,
            type=pending.event_type,
            source=EventSource(component=self._component, host=self._host or None),
            reporting_component=self._component,
            reporting_instance=self._host,
            first_timestamp=earlier.first_at if earlier is not None else pending.at,
            last_timestamp=pending.at,
            count=pending.times,
        )
        try:
            await self._client.send_create(EVENTS, event, namespace)
        except AlreadyExistsError:
            log.debug("an event had been written by a try that seemed to fail")
        self._written[pending.key] = _Written(namespace, pending.name, event.first_timestamp or "")
        if len(self._written) > self._remembered:
            self._written.popitem(last=False)

    def _dropped(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.events_dropped.labels(reason).inc()


def _shortened(message: str) -> str:
    encoded = message.encode()
    if len(encoded) <= _LONGEST_MESSAGE:
        return message
    return encoded[: _LONGEST_MESSAGE - 3].decode(errors="ignore") + "…"

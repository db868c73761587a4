"""Writes to the API about pods: status patches, coalesced (the newest wins), and the final deletion after them.

One writer a pod at a time. A status that changes while it is written is written again; one that the API server calls
invalid is not sent again until it changes, and never stands in the way of a deletion.
"""

from __future__ import annotations

import asyncio

from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiError,
    ApiNotFoundError,
    BadRequestError,
    ConflictError,
    InvalidObjectError,
)
from virtual_kubelet.kube.events import pod_reference
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.node.pod_records import PodRecords
from virtual_kubelet.node.pod_status_patch import status_patch
from virtual_kubelet.node.retries import retry_delay
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.telemetry.logs import bind, get_logger

__all__ = ["StatusWriter"]

log = get_logger(__name__)


class StatusWriter:
    """``submit`` a record; one of the tasks in ``run`` writes what it has to say."""

    def __init__(self, config: PodControllerConfig, records: PodRecords) -> None:
        self._config = config
        self._client = config.client
        self._records = records
        self._queue: asyncio.Queue[PodRecord] = asyncio.Queue()
        self._failures: dict[str, int] = {}
        writes = config.metrics.status_writes
        self._written, self._unchanged = writes.labels("written"), writes.labels("unchanged")
        self._refused, self._failed = writes.labels("refused"), writes.labels("failed")

    def submit(self, record: PodRecord) -> None:
        """The record's status, or its end, is to be written."""
        if not record.write_queued:
            record.write_queued = True
            if not record.writing:
                self._queue.put_nowait(record)

    async def run(self) -> None:
        """One writer, until cancelled."""
        while True:
            record = await self._queue.get()
            record.write_queued = False
            record.writing = True
            try:
                await self._write(record)
            finally:
                record.writing = False
            if record.write_queued:
                self._queue.put_nowait(record)

    async def _write(self, record: PodRecord) -> None:
        try:
            await self._write_status(record)
            if record.evicting:
                await self._evict(record)
            if record.finishing:
                await self._finish(record)
        except (ApiError, ApiConnectionError) as error:
            self._failed.inc()
            tries = self._failures[record.key.uid] = self._failures.get(record.key.uid, 0) + 1
            delay = retry_delay(tries, self._config.retry_initial, self._config.retry_cap)
            if isinstance(error, ApiError) and error.retry_after is not None:
                delay = max(delay, error.retry_after)
            with bind(**record.log_fields):
                log.warning("a pod's status could not be written, trying again in %.1f s: %s", delay, error)
            asyncio.get_running_loop().call_later(delay, self.submit, record)
        else:
            if self._failures:
                self._failures.pop(record.key.uid, None)

    async def _write_status(self, record: PodRecord) -> None:
        pod, status = record.pod, record.status
        if pod is None or status is None or status is record.refused:
            return
        patch = status_patch(
            record.key.uid,
            pod.status,
            status,
            generation=pod.metadata.generation,
            now=format_time(self._config.clock.now()),
        )
        if patch is None or patch == record.last_patch:
            self._unchanged.inc()
            return
        key = record.key
        try:
            await self._client.send_patch(PODS, key.name, patch, key.namespace, subresource="status")
        except ApiNotFoundError:
            return  # the informer tells the rest
        except (InvalidObjectError, ConflictError, BadRequestError) as error:
            self._refused.inc()
            if any(field == "metadata.uid" for field, _, _ in error.causes) or isinstance(error, ConflictError):
                log.info("another pod has this name now: its predecessor's status is dropped", extra={"uid": key.uid})
            else:
                with bind(**record.log_fields):
                    log.error("the API server refuses this status; it waits until it changes: %s", error)
                self._on_refused(record, error)
            record.refused = status
            return
        record.last_patch = patch
        self._written.inc()

    async def _evict(self, record: PodRecord) -> None:
        key = record.key
        if record.pod is not None and record.pod.metadata.deletion_timestamp is None:
            try:
                await self._client.delete(PODS, key.name, key.namespace, uid=key.uid)
            except (ApiNotFoundError, ConflictError):
                log.debug("a pod that the backend ends is gone already")
        record.evicting = False

    async def _finish(self, record: PodRecord) -> None:
        key = record.key
        try:
            await self._client.delete(PODS, key.name, key.namespace, uid=key.uid, grace_period_seconds=0)
        except (ApiNotFoundError, ConflictError):
            log.debug("the API object is gone already")
        record.finishing = False
        record.finished = True

    def _on_refused(self, record: PodRecord, error: ApiError) -> None:
        recorder = self._config.event_recorder
        if recorder is not None and record.pod is not None:
            recorder.event(pod_reference(record.pod.decode()), "Warning", "InvalidPodStatus", str(error))

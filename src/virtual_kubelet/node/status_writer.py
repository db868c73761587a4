"""Writes to the API about pods: status patches, coalesced (the newest wins), and the final deletion after them.

One writer a pod at a time. A status that changes while it is written is written again; one that the API server calls
invalid is not sent again until it changes, and never stands in the way of a deletion.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

import msgspec

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiError,
    ApiNotFoundError,
    BadRequestError,
    ConflictError,
    InvalidObjectError,
)
from virtual_kubelet.kube.events import EventRecorder, pod_reference
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.node.pod_status_patch import patched_status, status_patch, with_pending_resize
from virtual_kubelet.node.retries import retry_delay
from virtual_kubelet.objects.core_v1 import Pod, PodStatus
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.telemetry.logs import bind, get_logger

__all__ = ["StatusWriter"]

log = get_logger(__name__)

#: How servers old and new say that a UID precondition failed.
_OTHER_UID: Final = re.compile(r"\bUID in (the )?precondition\b")
#: Failed writes of a status after which a deletion does not wait for it any longer (virtual-kubelet#938).
_TRIES_BEFORE_DELETION: Final = 3
#: Seconds between two tries of a write, at most: an API server that is back shall soon hear what happened meanwhile.
_LONGEST_BACK_OFF: Final = 30.0


class StatusWriter:
    """``submit`` a record; one of the tasks in ``run`` writes what it has to say."""

    def __init__(self, config: PodControllerConfig, recorder: EventRecorder) -> None:
        self._config = config
        self._recorder = recorder
        self._client = config.client
        self._queue: asyncio.Queue[PodRecord] = asyncio.Queue()
        self._failures: dict[str, int] = {}
        self._retries: dict[str, asyncio.TimerHandle] = {}
        writes = config.metrics.status_writes
        self._written, self._unchanged = writes.labels("written"), writes.labels("unchanged")
        self._refused, self._failed = writes.labels("refused"), writes.labels("failed")

    def submit(self, record: PodRecord) -> None:
        """The record's status, or its end, is to be written. After a failure not before its back-off is over."""
        if self._retries and record.key.uid in self._retries:
            return
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
                record.write_queued = False
                self.submit(record)

    async def _write(self, record: PodRecord) -> None:
        try:
            try:
                await self._write_status(record)
            except ApiError as error:
                if not record.finishing or self._failures.get(record.key.uid, 0) < _TRIES_BEFORE_DELETION:
                    raise
                with bind(**record.log_fields):
                    log.error("the last status of a pod that is deleted is given up: %s", error)
            if record.evicting:
                await self._evict(record)
            # What came meanwhile is written first: nothing is written of a pod that is gone.
            if record.finishing and not record.write_queued:
                await self._finish(record)
        except (ApiError, ApiConnectionError) as error:
            self._failed.inc()
            tries = self._failures[record.key.uid] = self._failures.get(record.key.uid, 0) + 1
            delay = retry_delay(tries, self._config.retry_initial, min(self._config.retry_cap, _LONGEST_BACK_OFF))
            if isinstance(error, ApiError) and error.retry_after is not None:
                delay = max(delay, error.retry_after)
            with bind(**record.log_fields):
                log.warning("a pod's status could not be written, trying again in %.1f s: %s", delay, error)
            loop = asyncio.get_running_loop()
            self._retries[record.key.uid] = loop.call_later(delay, self._retry, record)
        else:
            if self._failures:
                self._failures.pop(record.key.uid, None)

    def _retry(self, record: PodRecord) -> None:
        del self._retries[record.key.uid]
        self.submit(record)

    async def _write_status(self, record: PodRecord) -> None:
        pod, given = record.pod, record.status
        if pod is None or given is None or given is record.refused:
            return
        # What was written a moment ago and has not come back yet is there: else two statuses would be mixed.
        status = with_pending_resize(given, record.pending_resize)
        current = record.written if record.written is not None and record.written_on is pod else pod.status
        try:
            patch = status_patch(
                record.key.uid,
                current,
                status,
                generation=pod.metadata.generation,
                now=format_time(self._config.clock.now()),
            )
        except (TypeError, ValueError, OverflowError, msgspec.MsgspecError) as error:
            self._refuse(record, given, f"the provider's status cannot be written as JSON: {error}")
            return
        if patch is None or patch == record.last_patch:
            self._unchanged.inc()
            return
        key = record.key
        try:
            await self._client.send_patch(PODS, key.name, patch, key.namespace, subresource="status")
        except ApiNotFoundError:
            return  # the informer tells the rest
        except ApiError as error:
            if _is_of_another_pod(error):
                self._refused.inc()
                log.info("another pod has this name now: its predecessor's status is dropped", extra={"uid": key.uid})
                record.refused = given
            elif isinstance(error, (InvalidObjectError, BadRequestError)) or error.code == 413:
                self._refuse(record, given, str(error))
            else:
                raise
            return
        record.last_patch = patch
        record.written, record.written_on = patched_status(current, status), pod
        self._written.inc()

    async def _evict(self, record: PodRecord) -> None:
        key = record.key
        if record.pod is not None and record.pod.metadata.deletion_timestamp is None:
            await self._delete(key)
        record.evicting = False

    async def _finish(self, record: PodRecord) -> None:
        key = record.key
        await self._delete(key, grace_period_seconds=0)
        record.finishing = False
        record.finished = True

    async def _delete(self, key: PodKey, grace_period_seconds: int | None = None) -> None:
        try:
            await self._client.delete(
                PODS, key.name, key.namespace, uid=key.uid, grace_period_seconds=grace_period_seconds
            )
        except ApiNotFoundError:
            log.debug("the API object is gone already")
        except ConflictError as error:
            if not _is_of_another_pod(error):
                raise
            log.debug("the API object is gone already, and its name is another's")

    def _refuse(self, record: PodRecord, status: PodStatus, why: str) -> None:
        self._refused.inc()
        with bind(**record.log_fields):
            log.error("this status is refused; it waits until it changes: %s", why)
        if record.pod is not None:
            involved = pod_reference(Pod(metadata=record.pod.metadata))
            self._recorder.event(involved, "Warning", "InvalidPodStatus", why)
        record.refused = status


def _is_of_another_pod(error: ApiError) -> bool:
    """422 of newer servers, 409 of older ones; a 409 without that is a race of patches, and worth another try."""
    if isinstance(error, ConflictError):
        return _OTHER_UID.search(error.message) is not None
    return any(field == "metadata.uid" for field, _, _ in error.causes)

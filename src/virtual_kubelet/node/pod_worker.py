"""Workers: each takes a record from the queue, asks what is to be done, does it, and asks again until nothing is.

Waiting (for a back-off, a grace period, a missing ConfigMap) never holds a worker: a timer puts the record back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from virtual_kubelet.contracts.pods import PodKey, RerunSafe
from virtual_kubelet.errors import NotFoundError, PermanentError, TransientError
from virtual_kubelet.kube.events import EventRecorder, pod_reference
from virtual_kubelet.node.cached_pod import CachedPod
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_decision import Action, Facts, decide
from virtual_kubelet.node.pod_difference import differs
from virtual_kubelet.node.pod_draining import wait_until_drained
from virtual_kubelet.node.pod_environment import EnvironmentNotReadyError, PodEnvironment
from virtual_kubelet.node.pod_record import Applied, PodRecord
from virtual_kubelet.node.pod_records import PodRecords
from virtual_kubelet.node.pod_status_patch import had_run, is_terminal, no_container_runs
from virtual_kubelet.node.provider_failures import failed_status, lost_status, pending_status
from virtual_kubelet.node.retries import retry_delay
from virtual_kubelet.node.status_writer import StatusWriter
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.objects.times import parse_time
from virtual_kubelet.telemetry.logs import bind, get_logger
from virtual_kubelet.telemetry.tracing import span

__all__ = ["PodWorker"]

log = get_logger(__name__)

T = TypeVar("T")
#: More steps than any pod needs; a provider whose answers make no sense ends here instead of in a loop.
_MOST_STEPS: Final = 10
#: Seconds beyond the grace period that a provider has to end a pod, and to say so.
_DRAIN_MARGIN: Final = 10.0


class PodWorker:
    """``submit`` records; ``run`` several times at once."""

    def __init__(
        self, config: PodControllerConfig, records: PodRecords, writer: StatusWriter, recorder: EventRecorder
    ) -> None:
        self._config = config
        self._provider = config.provider
        self._records = records
        self._writer = writer
        self._recorder = recorder
        self._environment = PodEnvironment(config, recorder)
        self._rerun_is_safe = isinstance(config.provider, RerunSafe) and config.provider.rerun_is_safe
        self._queue: asyncio.Queue[tuple[PodRecord, float]] = asyncio.Queue()  # with the time of its coming
        self._waiting_for_references: set[str] = set()
        self._draining = False
        metrics = config.metrics
        metrics.pod_queue_depth.set_function(self._queue.qsize)
        self._queue_seconds, self._syncing, self._retries = (
            metrics.pod_queue_seconds,
            metrics.pods_syncing,
            metrics.pod_sync_retries,
        )
        self._sync_ok, self._sync_failed = (
            metrics.pod_sync_seconds.labels("ok"),
            metrics.pod_sync_seconds.labels("failed"),
        )
        self._calls: dict[tuple[str, str], Any] = {}

    def submit(self, record: PodRecord) -> None:
        """Look at this record as soon as a worker is free; at once, whatever it waits for."""
        if record.forgotten:
            return
        if record.timer is not None:
            record.timer.cancel()
            record.timer = None
        if record.busy:
            record.again = True
        elif not record.queued:
            record.queued = True
            self._queue.put_nowait((record, time.perf_counter()))

    def reference_changed(self, key: PodKey) -> None:
        """A pod that waits for a ConfigMap, Secret or Service tries again now."""
        record = self._records.get(key.uid)
        if record is not None and key.uid in self._waiting_for_references:
            record.attempts = 0
            self.submit(record)

    async def drain(self, grace: float) -> None:
        """Have the provider end every pod, and wait until it says so or ``grace`` seconds (and a little) are over.

        A pod that is bound meanwhile is not begun.
        """
        self._draining = True
        for record in self._records:
            if record.in_provider is not False:
                record.draining = int(grace)
                self.submit(record)
        await wait_until_drained(
            self._records, self._known, self._writer.submit, clock=self._config.clock, limit=grace + _DRAIN_MARGIN
        )

    async def run(self) -> None:
        """One worker, until cancelled."""
        while True:
            record, queued = await self._queue.get()
            record.queued, record.busy, record.again = False, True, False
            self._syncing.inc()
            started = time.perf_counter()
            self._queue_seconds.observe(started - queued)
            try:
                with bind(**record.log_fields), span("sync pod", namespace=record.key.namespace, pod=record.key.name):
                    succeeded = await self._sync(record)
            finally:
                record.busy = False
                self._syncing.dec()
            (self._sync_ok if succeeded else self._sync_failed).observe(time.perf_counter() - started)
            if record.again:
                self.submit(record)

    async def _sync(self, record: PodRecord) -> bool:
        """Steps until there is nothing to do. Gives whether all went well; a failure has set a timer."""
        try:
            if record.draining is not None or self._draining:
                await self._drain_one(record)
                return True
            for _ in range(_MOST_STEPS):
                action = decide(self._facts(record))
                if action is Action.NOTHING or action is Action.WAIT_FOR_NAME:
                    return True
                if action is Action.FORGET:
                    self._records.forget(record)
                    self._environment.release(record)
                    return True
                if action is Action.FINISH:
                    self._finish(record)
                    return True
                if action is Action.FAIL_AS_LOST:
                    assert record.pod is not None
                    record.status = lost_status(record.pod.status, self._config.clock.now())
                    self._writer.submit(record)
                elif action is Action.CREATE:
                    await self._create(record)
                elif action is Action.UPDATE:
                    await self._update(record)
                else:
                    await self._delete(record)
            raise RuntimeError("the provider's answers lead nowhere")
        except EnvironmentNotReadyError as error:
            self._waiting_for_references.add(record.key.uid)
            record.status = error.status
            self._writer.submit(record)
            self._try_later(record, error, None)
        except _ProviderFailedError as error:
            self._failed(record, error)
        return False

    def _facts(self, record: PodRecord) -> Facts:
        pod = record.pod
        if pod is None:
            return Facts(in_api=False, in_provider=record.in_provider)
        newest = record.status or pod.status
        deleting = pod.metadata.deletion_timestamp is not None
        return Facts(
            in_api=True,
            deleting=deleting,
            terminal=is_terminal(pod.status) or is_terminal(newest),
            containers_ended=record.status is not None and no_container_runs(record.status),
            in_provider=record.in_provider,
            delete_accepted=record.delete_grace is not None
            and record.delete_grace <= (pod.metadata.deletion_grace_period_seconds or 0),
            grace_over=record.grace_over,
            had_run=not record.created and had_run(pod.status),
            rerun_is_safe=self._rerun_is_safe,
            changed=bool(record.in_provider) and not deleting and self._changed(record, pod),
            name_taken=self._records.name_taken(record),
        )

    def _changed(self, record: PodRecord, pod: CachedPod) -> bool:
        if record.applied is None:
            # Adopted: the one chance to compare with what the provider was given by an earlier process.
            found, record.found = record.found, None
            if found is None or not differs(pod.decode(), found):
                record.applied = Applied.of(pod)
                return False
            return True
        return record.applied != Applied.of(pod)

    # Steps

    async def _create(self, record: PodRecord) -> None:
        assert record.pod is not None
        if record.in_provider is None or record.attempts:
            # The outcome of an earlier try, of this process or of one before, is not known.
            if await self._known(record):
                await self._found_after_all(record)
                return
            record.in_provider = False
            if had_run(record.pod.status) and not record.created:
                return
        pod, applied = record.pod.decode(), Applied.of(record.pod)
        resolved = await self._environment.resolve(record, pod)
        self._waiting_for_references.discard(record.key.uid)
        record.in_provider = None  # until the call has returned, nobody knows
        record.created = True
        record.status_is_ours = True
        await self._call("create_pod", self._provider.create_pod(resolved))
        record.in_provider, record.applied, record.attempts = True, applied, 0
        self._event(record, "Normal", "ProviderCreateSuccess", "Create pod in provider successfully")

    async def _found_after_all(self, record: PodRecord) -> None:
        assert record.pod is not None
        record.in_provider, record.attempts = True, 0
        if record.applied is None:
            record.applied = Applied.of(record.pod)
        if record.status_is_ours:
            # What we said of it while it seemed to fail is not true; the provider said its part before that.
            status = await self._call("get_pod_status", self._provider.get_pod_status(record.key))
            if status is not None:
                self._records.status_from_provider(record.key, status)

    async def _update(self, record: PodRecord) -> None:
        assert record.pod is not None
        pod, applied = record.pod.decode(), Applied.of(record.pod)
        resolved = await self._environment.resolve(record, pod)
        try:
            await self._call("update_pod", self._provider.update_pod(resolved))
        except NotFoundError:
            record.in_provider = False
            return
        record.applied, record.attempts = applied, 0
        self._event(record, "Normal", "ProviderUpdateSuccess", "Update pod in provider successfully")

    async def _delete(self, record: PodRecord) -> None:
        pod = record.pod.decode() if record.pod is not None else record.last_decoded
        assert pod is not None
        grace = pod.metadata.deletion_grace_period_seconds
        if record.pod is None:
            # Gone from the API (forced, or while we did not look): what is left of its grace period is nothing.
            pod.metadata.deletion_grace_period_seconds = grace = 0
        try:
            await self._call("delete_pod", self._provider.delete_pod(pod))
        except NotFoundError:
            record.in_provider = False
            return
        first = record.delete_grace is None
        record.delete_grace, record.attempts = grace or 0, 0
        if first:
            self._event(record, "Normal", "ProviderDeleteSuccess", "Delete pod in provider successfully")
        if record.pod is None:
            if not await self._known(record):
                record.in_provider = False
                return
            raise _StillThereError("the provider still has the pod")
        self._start_grace(record, grace or 0)

    async def _drain_one(self, record: PodRecord) -> None:
        if record.draining is None:  # bound since the node drains
            return
        pod = record.pod.decode() if record.pod is not None else record.last_decoded
        assert pod is not None
        if pod.metadata.deletion_grace_period_seconds is None:
            own = pod.spec.termination_grace_period_seconds
            pod.metadata.deletion_grace_period_seconds = min(record.draining, 30 if own is None else own)
        try:
            await self._call("delete_pod", self._provider.delete_pod(pod))
        except NotFoundError:
            record.in_provider = False
            return
        record.delete_grace = pod.metadata.deletion_grace_period_seconds

    def _start_grace(self, record: PodRecord, grace: int) -> None:
        assert record.pod is not None
        # deletionTimestamp is when the grace period ends; counted from now where that is less.
        left = float(grace)
        stamp = record.pod.metadata.deletion_timestamp
        if stamp is not None:
            left = min(left, (parse_time(stamp) - self._config.clock.now()).total_seconds())
        if record.timer is not None:
            record.timer.cancel()
        record.timer = asyncio.get_running_loop().call_later(max(0.0, left), self._grace_is_over, record)

    def _grace_is_over(self, record: PodRecord) -> None:
        record.grace_over = True
        record.timer = None
        self.submit(record)

    def _finish(self, record: PodRecord) -> None:
        if not record.finished:
            record.finishing = True
            self._writer.submit(record)

    async def _known(self, record: PodRecord) -> bool:
        try:
            return await self._call("get_pod", self._provider.get_pod(record.key)) is not None
        except NotFoundError:
            return False

    # Calls and failures

    async def _call(self, name: str, call: Awaitable[T]) -> T:
        started = time.perf_counter()
        result = "error"
        try:
            with span(name):
                async with asyncio.timeout(self._config.provider_call_timeout):
                    answer = await call
            result = "ok"
            return answer
        except NotFoundError:
            result = "not_found"
            raise
        except TimeoutError as error:
            raise _ProviderFailedError(name, error) from error
        except Exception as error:
            # Whatever a provider raises is its answer: sorted by kind in _failed, told and tried again, never swallowed.
            raise _ProviderFailedError(name, error) from error
        finally:
            timer = self._calls.get((name, result))
            if timer is None:
                timer = self._config.metrics.provider_call_seconds.labels(name, result)
                self._calls[name, result] = timer
            timer.observe(time.perf_counter() - started)

    def _failed(self, record: PodRecord, failure: _ProviderFailedError) -> None:
        error, call = failure.error, failure.call
        log.warning("%s failed: %s", call, failure, exc_info=error if not isinstance(error, PermanentError) else None)
        reason = {
            "create_pod": "ProviderCreateFailed",
            "update_pod": "ProviderUpdateFailed",
            "delete_pod": "ProviderDeleteFailed",
        }
        if call in reason:
            self._event(record, "Warning", reason[call], str(failure))
        pod = record.pod
        if pod is not None and pod.metadata.deletion_timestamp is None and call in ("create_pod", "update_pod"):
            if isinstance(error, PermanentError) and call == "create_pod":
                record.in_provider = False
                record.status = failed_status(pod.status, error.reason, str(error))
                self._writer.submit(record)
                return
            if call == "create_pod" and (record.status is None or record.status_is_ours):
                record.status, record.status_is_ours = pending_status(pod.status, "ProviderFailed", str(failure)), True
                self._writer.submit(record)
        self._try_later(record, failure, error.retry_after if isinstance(error, TransientError) else None)

    def _try_later(self, record: PodRecord, why: Exception, at_least: float | None) -> None:
        record.attempts += 1
        self._retries.inc()
        delay = max(retry_delay(record.attempts, self._config.retry_initial, self._config.retry_cap), at_least or 0.0)
        log.debug("trying again in %.1f s: %s", delay, why)
        if record.timer is not None:
            record.timer.cancel()
        record.timer = asyncio.get_running_loop().call_later(delay, self.submit, record)

    def _event(self, record: PodRecord, event_type: str, reason: str, message: str) -> None:
        pod = record.pod
        if pod is not None:
            involved = pod_reference(Pod(metadata=pod.metadata))
        elif record.last_decoded is not None:
            involved = pod_reference(record.last_decoded)
        else:
            return
        self._recorder.event(involved, event_type, reason, message)


class _ProviderFailedError(Exception):
    """A call to the provider raised ``error``."""

    def __init__(self, call: str, error: Exception) -> None:
        super().__init__(str(error) or type(error).__name__)
        self.call = call
        self.error = error


class _StillThereError(_ProviderFailedError):
    def __init__(self, message: str) -> None:
        super().__init__("delete_pod", TransientError(message))

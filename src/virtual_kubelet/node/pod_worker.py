"""Workers: each takes a record from the queue, asks what is to be done, does it, and asks again until nothing is.

Waiting (for a back-off, a grace period, a missing ConfigMap) never holds a worker: a timer puts the record back.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec

from virtual_kubelet.contracts.pods import PodKey, RerunSafe
from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiError,
    InvalidInputError,
    NotFoundError,
    TransientError,
)
from virtual_kubelet.kube.events import EventRecorder
from virtual_kubelet.node.cached_pod import CachedPod
from virtual_kubelet.node.configuration_watch import ConfigurationWatch
from virtual_kubelet.node.pod_admission import PodAdmission
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_decision import Action, Facts, decide
from virtual_kubelet.node.pod_difference import differs
from virtual_kubelet.node.pod_draining import drain_pod, wait_until_drained
from virtual_kubelet.node.pod_environment import EnvironmentNotReadyError, PodEnvironment
from virtual_kubelet.node.pod_outcomes import PodOutcomes
from virtual_kubelet.node.pod_record import Applied, PodRecord
from virtual_kubelet.node.pod_records import PodRecords
from virtual_kubelet.node.pod_status_patch import had_run, is_terminal, no_container_runs
from virtual_kubelet.node.provider_calls import ProviderCallError, ProviderCalls
from virtual_kubelet.node.provider_failures import (
    lost_status,
    rejected_status,
    terminated_status,
)
from virtual_kubelet.node.status_writer import StatusWriter
from virtual_kubelet.objects.core_v1 import Pod, PodStatus
from virtual_kubelet.telemetry.logs import bind, get_logger
from virtual_kubelet.telemetry.tracing import span

__all__ = ["PodWorker"]

log = get_logger(__name__)

#: More steps than any pod needs; a provider whose answers make no sense ends here instead of in a loop.
_MOST_STEPS: Final = 10
#: Seconds between questions at most, for a pod that waits for its own address: nobody tells when it is there.
_ADDRESS_RETRY: Final = 5.0
#: Seconds beyond the grace period that a provider has to end a pod, and to say so.
_DRAIN_MARGIN: Final = 10.0


class PodWorker:
    """``submit`` records; ``run`` several times at once."""

    def __init__(
        self,
        config: PodControllerConfig,
        calls: ProviderCalls,
        records: PodRecords,
        writer: StatusWriter,
        recorder: EventRecorder,
    ) -> None:
        self._config = config
        self._calls = calls
        self._records = records
        self._writer = writer
        self._outcomes = PodOutcomes(config, recorder, writer.submit, self.submit)
        self._environment = PodEnvironment(config, calls, recorder)
        self._admission = PodAdmission(config, records)
        self._configuration = ConfigurationWatch(config, calls, self.submit)
        self._rerun_is_safe = isinstance(config.provider, RerunSafe) and config.provider.rerun_is_safe
        self._queue: asyncio.Queue[tuple[PodRecord, float]] = asyncio.Queue()  # with the time of its coming
        self._draining = False
        metrics = config.metrics
        metrics.pod_queue_depth.set_function(self._queue.qsize)
        self._queue_seconds, self._syncing = metrics.pod_queue_seconds, metrics.pods_syncing
        self._sync_ok, self._sync_failed = (
            metrics.pod_sync_seconds.labels("ok"),
            metrics.pod_sync_seconds.labels("failed"),
        )

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
        # One that is being resolved may have looked for it just before.
        if record is not None and (record.waits_for_reference or (record.busy and record.applied is None)):
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
            self._records, self._calls, self._writer.submit, clock=self._config.clock, limit=grace + _DRAIN_MARGIN
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
                await drain_pod(record, self._calls)
                return True
            for _ in range(_MOST_STEPS):
                action = decide(self._facts(record))
                if action is Action.NOTHING or action is Action.WAIT_FOR_NAME:
                    return True
                if action is Action.FORGET:
                    self._records.forget(record)
                    self._environment.release(record)
                    self._admission.release(record)
                    self._configuration.release(record)
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
                elif action is Action.CONFIGURE:
                    await self._configure(record)
                else:
                    await self._delete(record)
            raise ProviderCallError("sync", TransientError("the provider's answers lead nowhere"))
        except EnvironmentNotReadyError as error:
            record.waits_for_reference = True
            if record.in_provider:  # what runs goes on as it was
                self._outcomes.event(record, "Warning", "ProviderUpdateFailed", str(error))
            else:
                record.status, record.status_is_ours = error.status, True
                self._writer.submit(record)
            self._outcomes.try_later(record, error, None, at_most=_ADDRESS_RETRY if error.waits_for_address else None)
        except ProviderCallError as error:
            self._outcomes.failed(record, error)
        except (ApiError, ApiConnectionError) as error:
            log.warning("the pod cannot be judged before this node has read its Node: %s", error)
            self._outcomes.try_later(record, error, None)
        except msgspec.DecodeError as error:
            # Of a server much newer than we are, say. One such pod must not end the node; a changed one is looked at again.
            log.error("the pod's spec cannot be read: %s", error)
            self._outcomes.event(
                record, "Warning", "UnreadablePodSpec", f"this node cannot read the pod's spec: {error}"
            )
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
            had_run=not record.created and (had_run(pod.status) or had_run(newest)),
            rerun_is_safe=self._rerun_is_safe,
            changed=bool(record.in_provider) and not deleting and self._changed(record, pod),
            configuration_due=self._configuration.is_due(record),
            name_taken=self._records.name_taken(record),
        )

    def _changed(self, record: PodRecord, pod: CachedPod) -> bool:
        if record.applied is None:
            # Adopted: compare with what the provider was given by an earlier process.
            if record.found is not None:
                wanted = pod.decode()
                if record.settled is None:
                    self._environment.adopt(record, wanted, record.found)
                if differs(wanted, record.found):
                    return True
            record.applied, record.found = Applied.of(pod), None
            return False
        return record.applied != Applied.of(pod)

    # Steps

    async def _create(self, record: PodRecord) -> None:
        assert record.pod is not None
        if record.in_provider is None or record.attempts:
            # The outcome of an earlier try, of this process or of one before, is not known.
            if await self._calls.knows(record.key):
                await self._found_after_all(record)
                return
            record.in_provider = False
            if had_run(record.pod.status) and not record.created and not self._rerun_is_safe:
                return
        pod, applied = record.pod.decode(), Applied.of(record.pod)  # what cannot be read is not judged either
        if not await self._admitted(record):
            return
        resolved = await self._resolve(record, pod, "create_pod")
        await self._configuration.before_creation(record, pod)
        record.in_provider = None  # until the call has returned, nobody knows
        record.created = True
        record.status_is_ours = True
        await self._calls.create_pod(resolved)
        record.in_provider, record.applied, record.attempts = True, applied, 0
        record.created_at = self._config.clock.monotonic()
        self._outcomes.event(record, "Normal", "ProviderCreateSuccess", "Create pod in provider successfully")

    async def _admitted(self, record: PodRecord) -> bool:
        """Whether the node takes it; if not, that is told."""
        rejection = await self._admission.admit(record)
        if rejection is None:
            return True
        assert record.pod is not None
        log.warning("the pod is rejected: %s", rejection.message)
        record.in_provider = False
        now = self._config.clock.now()
        record.status = rejected_status(record.pod.status, rejection.reason, rejection.status_message, now)
        record.status_is_ours = True
        self._writer.submit(record)
        self._outcomes.event(record, "Warning", rejection.reason, rejection.message)
        return False

    async def _resolve(self, record: PodRecord, pod: Pod, call: str) -> Pod:
        record.waits_for_reference = False
        try:
            return await self._environment.resolve(record, pod)
        except InvalidInputError as error:
            raise ProviderCallError(call, error) from error

    async def _found_after_all(self, record: PodRecord) -> None:
        assert record.pod is not None
        if record.status_is_ours:
            # What we said of it while it seemed to fail is not true; the provider said its part before that.
            status = await self._calls.get_pod_status(record.key)
            if status is not None:
                self._take_status(record, status)
        record.in_provider, record.attempts = True, 0
        self._admission.recount(record)
        if record.applied is None:
            record.applied = Applied.of(record.pod)

    def _take_status(self, record: PodRecord, status: PodStatus) -> None:
        try:
            self._records.status_from_provider(record.key, status)
        except ValueError as error:
            raise ProviderCallError("get_pod_status", error) from error

    async def _update(self, record: PodRecord) -> None:
        assert record.pod is not None
        pod, applied = record.pod.decode(), Applied.of(record.pod)
        resolved = await self._resolve(record, pod, "update_pod")
        try:
            await self._calls.update_pod(resolved)
        except NotFoundError:
            # It had it: what ran there is lost, and running it again is not for us to decide.
            record.in_provider = record.created = False
            return
        record.applied, record.found, record.attempts = applied, None, 0
        self._admission.recount(record)
        self._configuration.metadata_changed(record)
        self._outcomes.event(record, "Normal", "ProviderUpdateSuccess", "Update pod in provider successfully")

    async def _configure(self, record: PodRecord) -> None:
        assert record.pod is not None
        try:
            await self._configuration.update(record, record.pod.decode())
        except NotFoundError:
            record.in_provider = record.created = False
            return
        record.attempts = 0

    async def _delete(self, record: PodRecord) -> None:
        pod = record.pod.decode_or_bare() if record.pod is not None else record.last_decoded
        assert pod is not None
        grace = pod.metadata.deletion_grace_period_seconds
        if record.pod is None:
            # Gone from the API (forced, or while we did not look): what is left of its grace period is nothing.
            pod.metadata.deletion_grace_period_seconds = grace = 0
        try:
            await self._calls.delete_pod(pod)
        except NotFoundError:
            record.in_provider = False
            return
        first = record.delete_grace is None
        record.delete_grace, record.attempts = grace or 0, 0
        if first:
            self._outcomes.event(record, "Normal", "ProviderDeleteSuccess", "Delete pod in provider successfully")
        if record.pod is None:
            if not await self._calls.knows(record.key):
                record.in_provider = False
                return
            raise ProviderCallError("delete_pod", TransientError("the provider still has the pod"))
        self._start_grace(record, grace or 0)
        if not (record.status is not None and no_container_runs(record.status)) and not await self._calls.knows(
            record.key
        ):
            # Gone without a word. One that takes its time is still known, and says so when it has ended.
            record.in_provider = False
            record.status = terminated_status(record.pod.status, self._config.clock.now())
            self._writer.submit(record)

    def _start_grace(self, record: PodRecord, grace: int) -> None:
        # As a kubelet, from when it begins to end the pod; deletionTimestamp is by another machine's clock.
        if record.timer is not None:
            record.timer.cancel()
        record.timer = asyncio.get_running_loop().call_later(grace, self._grace_is_over, record)

    def _grace_is_over(self, record: PodRecord) -> None:
        record.grace_over = True
        record.timer = None
        self.submit(record)

    def _finish(self, record: PodRecord) -> None:
        if not record.finished:
            record.finishing = True
            self._writer.submit(record)

"""Workers: each takes a record from the queue, asks what is to be done, does it, and asks again until nothing is.

Waiting (for a back-off, a grace period, a missing ConfigMap) never holds a worker: a timer puts the record back.
"""

from __future__ import annotations

import time
from typing import Final, NamedTuple

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.kube.events import EventRecorder
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_draining import wait_until_drained
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.node.pod_records import PodRecords
from virtual_kubelet.node.pod_sync import PodSync
from virtual_kubelet.node.provider_calls import ProviderCalls
from virtual_kubelet.node.status_writer import StatusWriter
from virtual_kubelet.node.worker_pool import WorkerPool
from virtual_kubelet.telemetry.logs import bind, get_logger
from virtual_kubelet.telemetry.tracing import span

__all__ = ["PodWorker"]

log = get_logger(__name__)

#: Seconds beyond the grace period that a provider has to end a pod, and to say so.
_DRAIN_MARGIN: Final = 10.0


class _Queued(NamedTuple):
    """``since``: when it came."""

    record: PodRecord
    since: float


class PodWorker:
    """``submit`` records; ``run`` once."""

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
        self._sync = PodSync(config, calls, records, writer, recorder, self.submit)
        self._pool = WorkerPool(
            self._work,
            workers=config.workers,
            slow_after=config.slow_after,
            most_slow=config.most_slow,
            on_slow=self._slow,
        )
        self._draining = False
        metrics = config.metrics
        metrics.pod_queue_depth.set_function(self._pool.waiting)
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
            self._pool.put(_Queued(record, time.perf_counter()))

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
        """All workers, until cancelled."""
        await self._pool.run()

    async def _work(self, queued: _Queued) -> None:
        record = queued.record
        record.queued, record.busy, record.again = False, True, False
        self._syncing.inc()
        started = time.perf_counter()
        self._queue_seconds.observe(started - queued.since)
        try:
            with bind(**record.log_fields), span("sync pod", namespace=record.key.namespace, pod=record.key.name):
                succeeded = await self._sync.sync(record, draining=self._draining)
        finally:
            record.busy = False
            self._syncing.dec()
        (self._sync_ok if succeeded else self._sync_failed).observe(time.perf_counter() - started)
        if record.again:
            self.submit(record)

    def _slow(self, queued: _Queued) -> None:
        seconds = self._config.slow_after
        log.warning(
            "the provider works on this pod for more than %g s: others do not wait for it",
            seconds,
            extra=queued.record.log_fields,
        )

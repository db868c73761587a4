"""Status rounds for a provider that does not notify: one batch call a round where it has one, else a call a pod."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from virtual_kubelet.contracts.pods import PodStatusBatch
from virtual_kubelet.node.cached_pod import CachedPod
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.node.pod_records import PodRecords
from virtual_kubelet.node.pod_status_patch import is_terminal
from virtual_kubelet.node.provider_calls import ProviderCallError, ProviderCalls
from virtual_kubelet.node.provider_failures import lost_status, terminated_status
from virtual_kubelet.objects.core_v1 import PodStatus
from virtual_kubelet.objects.times import parse_time
from virtual_kubelet.telemetry.logs import bind, get_logger

__all__ = ["PodPoller"]

log = get_logger(__name__)

#: A pod this young that the provider does not know yet is not lost (node/sync.go, which counts from the API object's
#: creation: a pod that could not be created for a while is lost there at once).
_YOUNG: Final = timedelta(minutes=1)


class PodPoller:
    """Asks for the status of every pod that has been created and has not ended."""

    def __init__(self, config: PodControllerConfig, calls: ProviderCalls, records: PodRecords) -> None:
        self._config = config
        self._calls = calls
        self._records = records

    async def run(self) -> None:
        """A round, then a pause; until cancelled."""
        while True:
            await asyncio.sleep(self._config.poll_interval)
            await self.round()

    async def round(self) -> None:
        """Ask once for all."""
        asked = [r for r in self._records if r.in_provider and r.pod is not None and not is_terminal(r.pod.status)]
        if not asked:
            return
        if isinstance(self._config.provider, PodStatusBatch):
            try:
                answers = await self._calls.get_pod_statuses([record.key for record in asked])
            except ProviderCallError as error:
                log.warning("the provider did not give its pods' statuses: %s", error, exc_info=error)
                return
            for record in asked:
                if record.key in answers:
                    self._take(record, answers[record.key])
            return
        limit = asyncio.Semaphore(self._config.workers)

        async def ask(record: PodRecord) -> None:
            async with limit:
                try:
                    status = await self._calls.get_pod_status(record.key)
                except ProviderCallError as error:
                    with bind(**record.log_fields):
                        log.warning("the provider did not give the pod's status: %s", error, exc_info=error)
                    return
                self._take(record, status)

        async with asyncio.TaskGroup() as tasks:
            for record in asked:
                tasks.create_task(ask(record))

    def _take(self, record: PodRecord, status: PodStatus | None) -> None:
        pod = record.pod
        if pod is None:
            return
        now = self._config.clock.now()
        if status is None:
            if record.delete_grace is not None:
                status = terminated_status(pod.status, now)
            elif pod.status.phase != "Running" and self._is_young(record, pod):
                return
            else:
                status = lost_status(pod.status, now)
        try:
            self._records.status_from_provider(record.key, status)
        except ValueError as error:
            with bind(**record.log_fields):
                log.error("%s", error)

    def _is_young(self, record: PodRecord, pod: CachedPod) -> bool:
        clock = self._config.clock
        if record.created_at is not None:
            return clock.monotonic() - record.created_at < _YOUNG.total_seconds()
        stamp = pod.metadata.creation_timestamp
        return stamp is not None and clock.now() - parse_time(stamp) < _YOUNG

"""What becomes of a step of a pod's worker: events, statuses that the node itself writes, and the next try."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from virtual_kubelet.errors import MountError, PermanentError, TransientError
from virtual_kubelet.kube.events import EventRecorder, pod_reference
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.node.provider_calls import ProviderCallError
from virtual_kubelet.node.provider_failures import config_error_status, failed_status, pending_status
from virtual_kubelet.node.retries import retry_delay
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["PodOutcomes"]

log = get_logger(__name__)


class PodOutcomes:
    """``write``: a record's status is to be written; ``again``: a record is to be looked at."""

    def __init__(
        self,
        config: PodControllerConfig,
        recorder: EventRecorder,
        write: Callable[[PodRecord], None],
        again: Callable[[PodRecord], None],
    ) -> None:
        self._config = config
        self._recorder = recorder
        self._write = write
        self._again = again
        self._retries = config.metrics.pod_sync_retries

    def _mount_failed(self, record: PodRecord, error: MountError) -> None:
        """As a kubelet says it: an event a volume, and containers that are being created."""
        record.waits_for_reference = True
        for message in error.messages:
            self.event(record, "Warning", error.reason, message)
        if record.pod is not None and not record.in_provider and (record.status is None or record.status_is_ours):
            pod = record.pod.decode()
            record.status, record.status_is_ours = config_error_status(pod, "", "", ""), True
            self._write(record)
        self.try_later(record, error, error.retry_after)

    def failed(self, record: PodRecord, failure: ProviderCallError) -> None:
        error, call = failure.error, failure.call
        if isinstance(error, MountError):
            self._mount_failed(record, error)
            return
        log.warning("%s failed: %s", call, failure, exc_info=error if not isinstance(error, PermanentError) else None)
        pod = record.pod
        if pod is None or pod.metadata.deletion_timestamp is not None or call == "delete_pod":
            self.event(record, "Warning", "ProviderDeleteFailed", str(failure))
        elif record.in_provider:
            self.event(record, "Warning", "ProviderUpdateFailed", str(failure))
        else:
            self.event(record, "Warning", "ProviderCreateFailed", str(failure))
            if isinstance(error, PermanentError) and call == "create_pod":
                record.in_provider = False
                record.status = failed_status(pod.status, error.reason, str(error))
                self._write(record)
                return
            if record.status is None or record.status_is_ours:
                record.status, record.status_is_ours = pending_status(pod.status, "ProviderFailed", str(failure)), True
                self._write(record)
        self.try_later(record, failure, error.retry_after if isinstance(error, TransientError) else None)

    def try_later(
        self, record: PodRecord, why: Exception, at_least: float | None, *, at_most: float | None = None
    ) -> None:
        record.attempts += 1
        self._retries.inc()
        delay = max(retry_delay(record.attempts, self._config.retry_initial, self._config.retry_cap), at_least or 0.0)
        delay = delay if at_most is None else min(delay, at_most)
        log.debug("trying again in %.1f s: %s", delay, why)
        if record.timer is not None:
            record.timer.cancel()
        record.timer = asyncio.get_running_loop().call_later(delay, self._again, record)

    def event(self, record: PodRecord, event_type: str, reason: str, message: str) -> None:
        pod = record.pod
        if pod is not None:
            involved = pod_reference(Pod(metadata=pod.metadata))
        elif record.last_decoded is not None:
            involved = pod_reference(record.last_decoded)
        else:
            return
        self._recorder.event(involved, event_type, reason, message)

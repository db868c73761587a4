"""All records, fed by the informer and by the provider's notifications; decides nothing, wakes workers and writers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.node.cached_pod import CachedPod
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_record import PodRecord, gates_of
from virtual_kubelet.node.pod_status_patch import check_status, is_terminal
from virtual_kubelet.objects.core_v1 import Pod, PodStatus
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["PodRecords"]

log = get_logger(__name__)


class PodRecords:
    """Records by UID, and which UIDs have a name. An informer's handler."""

    def __init__(self, config: PodControllerConfig) -> None:
        self._filter = config.pod_event_filter
        self._metrics = config.metrics
        self._early_limit = config.early_statuses
        self._by_uid: dict[str, PodRecord] = {}
        self._by_name: dict[tuple[str, str], list[PodRecord]] = {}
        self._early: OrderedDict[str, tuple[PodKey, PodStatus, bool]] = OrderedDict()
        self._wake: Callable[[PodRecord], None] = _not_connected
        self._write: Callable[[PodRecord], None] = _not_connected

    def connect(self, wake: Callable[[PodRecord], None], write: Callable[[PodRecord], None]) -> None:
        """Where records go that a worker, or the status writer, must look at."""
        self._wake, self._write = wake, write

    def get(self, uid: str) -> PodRecord | None:
        return self._by_uid.get(uid)

    def __iter__(self) -> Iterator[PodRecord]:
        return iter(list(self._by_uid.values()))

    def __len__(self) -> int:
        return len(self._by_uid)

    def name_taken(self, record: PodRecord) -> bool:
        """Whether an older incarnation of this pod's name may still be with the provider."""
        return any(
            other is not record and other.pod is None and other.in_provider is not False
            for other in self._by_name[record.key[:2]]
        )

    def has_name(self, key: PodKey) -> bool:
        """Whether the API has a pod of this name but another UID."""
        return any(other.pod is not None and other.key.uid != key.uid for other in self._by_name.get(key[:2], ()))

    def forget(self, record: PodRecord) -> None:
        """It is gone everywhere; a successor of its name may begin."""
        if record.timer is not None:
            record.timer.cancel()
        record.forgotten = True
        del self._by_uid[record.key.uid]
        same = self._by_name[record.key[:2]]
        same.remove(record)
        if not same:
            del self._by_name[record.key[:2]]
        for other in same:
            self._wake(other)
        self._metrics.pods.set(len(self._by_uid))

    def delete_orphan(self, pod: Pod) -> None:
        """A pod that only the provider knows is to be deleted there."""
        record = self._new(PodKey.of(pod))
        record.in_provider = True
        record.last_decoded = pod
        self._wake(record)

    # From the API

    def on_add(self, pod: CachedPod, /) -> None:
        pod.detach()
        if not self._wanted(pod):
            return
        key = pod.key
        record = self._by_uid.get(key.uid)
        if record is None:
            record = self._new(key)
            early = self._early.pop(key.uid, None)
            if early is not None:
                record.status, record.evicting = early[1], early[2]
                self._write(record)
        record.pod = pod
        self._wake(record)

    def on_update(self, old: CachedPod, new: CachedPod, /) -> None:
        # Our own status patches come back here: that path must cost next to nothing.
        if new.spec == old.spec:
            new.spec = old.spec
        else:
            new.detach()
        record = self._by_uid.get(new.metadata.uid or "")
        if record is None:
            self.on_add(new)
            return
        if self._filter is not None and not self._filter(new.decode_or_bare()):
            return
        record.pod = new
        record.last_patch = None
        was, now = old.metadata, new.metadata
        if (
            new.spec is not old.spec
            or now.deletion_timestamp != was.deletion_timestamp
            or now.deletion_grace_period_seconds != was.deletion_grace_period_seconds
            or now.labels != was.labels
            or now.annotations != was.annotations
            or now.finalizers != was.finalizers
            or gates_of(new) != gates_of(old)
        ):
            record.attempts = 0
            self._wake(record)
        if record.status is not None and new.status is not old.status:
            self._write(record)  # it compares, and does nothing if the API has what the provider says

    def on_delete(self, pod: CachedPod, /) -> None:
        record = self._by_uid.get(pod.metadata.uid or "")
        if record is None:
            return
        record.last_decoded = (record.pod or pod).decode_or_bare()
        record.pod = None
        record.attempts = 0
        self._wake(record)

    # From the provider

    def status_from_provider(self, key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        """A ``PodStatusCallback``. Raises ``ValueError`` for what is no status."""
        check_status(status)
        record = self._by_uid.get(key.uid)
        if record is None:
            self._early[key.uid] = (key, status, deleting)
            self._early.move_to_end(key.uid)
            if len(self._early) > self._early_limit:
                _, (dropped, _, _) = self._early.popitem(last=False)
                log.warning("a status of a pod that was never seen is dropped", extra={"pod": str(dropped)})
            return
        had = None if record.status_is_ours else record.status
        if had is not None and is_terminal(had) and not is_terminal(status):
            log.warning(
                "the provider reports %s of a pod that has ended; dropped", status.phase, extra=record.log_fields
            )
            return
        record.status, record.status_is_ours = status, False
        if deleting:
            record.evicting = True
        self._write(record)
        waits_for_address = record.waits_for_reference and bool(status.pod_ip)
        if record.pod is None or record.pod.metadata.deletion_timestamp is not None or waits_for_address:
            self._wake(record)

    def _wanted(self, pod: CachedPod) -> bool:
        return self._filter is None or self._filter(pod.decode_or_bare())

    def _new(self, key: PodKey) -> PodRecord:
        record = self._by_uid[key.uid] = PodRecord(key)
        self._by_name.setdefault(key[:2], []).append(record)
        self._metrics.pods.set(len(self._by_uid))
        return record


def _not_connected(record: PodRecord) -> None:
    raise RuntimeError("PodRecords.connect has not been called")

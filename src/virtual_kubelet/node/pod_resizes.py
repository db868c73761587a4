"""Resizes of pods that run: what the node can give goes on to the provider, what it cannot waits, and is said to.

As the kubelet's allocation manager: a pod keeps what was set aside for it until the node has room for what it asks for now
(``Deferred``: looked at again when another pod goes, and from time to time); what the node could never give is
``Infeasible``. A restart of this process takes what was set aside from the provider's own copy of the pod.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from virtual_kubelet.node.pod_admission import PodAdmission
from virtual_kubelet.node.pod_outcomes import PodOutcomes
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.objects.core_v1 import Pod, PodCondition, PodSpec, PodStatus, ResourceRequirements
from virtual_kubelet.runtime.admission import Rejection
from virtual_kubelet.runtime.resize import (
    DEFERRED,
    INFEASIBLE,
    PENDING,
    resize_message,
    resized_resources,
    same_resources,
)

__all__ = ["PodResizes"]

#: Seconds between two looks at a resize for which there was no room. A pod that ends, and stays, makes room unheard.
_RETRY: Final = 10.0

_spec = msgspec.json.Decoder(PodSpec)


class _Deferred(NamedTuple):
    """One that waits for room. ``rank``: who comes first (``sortPendingResizes``): by priority, Guaranteed ones before
    others, those that have waited longest."""

    record: PodRecord
    rank: tuple[int, bool, int]


class PodResizes:
    """Called by the pods' workers. ``write``: a record's status is to be written; ``wake``: it is to be looked at again."""

    def __init__(
        self,
        admission: PodAdmission,
        outcomes: PodOutcomes,
        write: Callable[[PodRecord], None],
        wake: Callable[[PodRecord], None],
        now: Callable[[], str],
    ) -> None:
        self._admission, self._outcomes = admission, outcomes
        self._write, self._wake, self._now = write, wake, now
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._deferred: dict[str, _Deferred] = {}
        self._granted: set[str] = set()  # there is room, and the provider is being told
        self._numbers = itertools.count()

    def is_due(self, record: PodRecord) -> bool:
        """Whether there is room by now for what had to wait, and nobody else who waits has it before."""
        mine = self._deferred.get(record.key.uid)
        if mine is None or record.pod is None or record.pod.metadata.deletion_timestamp:
            return False
        if self._admission.resize(record) is None:
            first = min(self._deferred.values(), key=lambda one: (not self._fits(one), one.rank))
            if first.rank >= mine.rank or record.key.uid in self._granted:
                return True
            self._wake(first.record)
        self._look_again(record)
        return False

    def _fits(self, one: _Deferred) -> bool:
        pod, uid = one.record.pod, one.record.key.uid
        gone = pod is None or pod.metadata.deletion_timestamp is not None
        return not gone and uid not in self._granted and self._admission.resize(one.record) is None

    def allocate(self, record: PodRecord, pod: Pod) -> None:
        """``pod``, which is to be given to the provider, gets what the node can give it."""
        had = self._allocated(record)
        asked = {container.name: container.resources for container in resized_resources(pod)}
        changed = {name for name, wanted in asked.items() if name in had and not same_resources(had[name], wanted)}
        if not changed:
            self.release(record)
            return
        record.allocated = had
        refusal = self._admission.resize(record)
        if refusal is None:
            self._granted.add(record.key.uid)
            self._admission.recount(record, resized=True)  # at once: others ask too
            return
        self._granted.discard(record.key.uid)
        for container in resized_resources(pod):
            if container.name in changed:
                container.resources = had[container.name]
        self._refuse(record, refusal)

    def given(self, record: PodRecord, pod: Pod) -> None:
        """The provider has ``pod``: if that is what its spec asks for, nothing of it waits any more."""
        assert record.pod is not None
        asked = {c.name: c.resources for c in resized_resources(Pod(spec=_spec.decode(record.pod.spec)))}
        if all(same_resources(c.resources, asked.get(c.name)) for c in resized_resources(pod)):
            self.release(record)

    def release(self, record: PodRecord) -> None:
        """Nothing of it waits any more."""
        record.allocated = None
        self._granted.discard(record.key.uid)
        if self._deferred.pop(record.key.uid, None) is not None:
            self.room_was_made()  # whoever comes after it may find room, too
        timer = self._timers.pop(record.key.uid, None)
        if timer is not None:
            timer.cancel()
        if record.pending_resize is not None:
            record.pending_resize = None
            self._write(record)

    def room_was_made(self) -> None:
        """A pod has gone, or has taken what it waited for."""
        for one in sorted(self._deferred.values(), key=lambda one: one.rank):
            self._wake(one.record)

    def _refuse(self, record: PodRecord, why: Rejection) -> None:
        assert record.pod is not None
        generation, old = record.pod.metadata.generation, record.pending_resize
        kept = old is not None and old.reason == why.reason and old.observed_generation == generation
        if why.reason == DEFERRED:
            spec, before = _spec.decode(record.pod.spec), self._deferred.get(record.key.uid)
            since = before.rank[-1] if before is not None else next(self._numbers)
            guaranteed = record.pod.status.qos_class == "Guaranteed"
            self._deferred[record.key.uid] = _Deferred(record, (-(spec.priority or 0), not guaranteed, since))
            self._look_again(record)
        else:
            self._deferred.pop(record.key.uid, None)
        record.pending_resize = PodCondition(
            type=PENDING,
            status="True",
            reason=why.reason,
            message=why.message,
            observed_generation=generation,
            last_transition_time=old.last_transition_time if old is not None else self._now(),
        )
        self._write(record)
        if not kept:
            wanted = Pod(metadata=record.pod.metadata, spec=_spec.decode(record.pod.spec))
            message = resize_message(why.reason, wanted, why.message)
            self._outcomes.event(record, "Warning", f"Resize{why.reason}", message)

    def _allocated(self, record: PodRecord) -> dict[str, ResourceRequirements | None]:
        if record.allocated is not None:
            return record.allocated
        if record.found is not None:
            given = record.found.spec
        elif record.applied is not None:
            given = _spec.decode(record.applied.spec)
        else:
            return {}
        had = {container.name: container.resources for container in resized_resources(Pod(spec=given))}
        if _is_infeasible(record.status):  # the provider was given that, and could not do it
            assert record.status is not None
            statuses = (*(record.status.init_container_statuses or ()), *(record.status.container_statuses or ()))
            had.update({one.name: one.resources for one in statuses if one.name in had and one.resources is not None})
        return had

    def _look_again(self, record: PodRecord) -> None:
        timer = self._timers.pop(record.key.uid, None)
        if timer is not None:
            timer.cancel()
        self._timers[record.key.uid] = asyncio.get_running_loop().call_later(_RETRY, self._wake, record)


def _is_infeasible(status: PodStatus | None) -> bool:
    conditions = (status.conditions if status is not None else None) or ()
    return any(one.type == PENDING and one.reason == INFEASIBLE for one in conditions)

"""Resizes of pods that run: what the node can give goes on to the provider, what it cannot waits, and is said to.

As the kubelet's allocation manager: a pod keeps what was set aside for it until the node has room for what it asks for now
(``Deferred``: looked at again when another pod goes, and from time to time); what the node could never give is
``Infeasible``. A restart of this process takes what was set aside from the provider's own copy of the pod.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from virtual_kubelet.node.pod_admission import PodAdmission
from virtual_kubelet.node.pod_outcomes import PodOutcomes
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.objects.core_v1 import Pod, PodCondition, PodSpec, ResourceRequirements
from virtual_kubelet.runtime.admission import Rejection
from virtual_kubelet.runtime.resize import DEFERRED, PENDING, resize_message, resized_resources, same_resources

__all__ = ["PodResizes"]

#: Seconds between two looks at a resize for which there was no room. A pod that ends, and stays, makes room unheard.
_RETRY: Final = 10.0

_spec = msgspec.json.Decoder(PodSpec)


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
        self._deferred: dict[str, PodRecord] = {}

    def is_due(self, record: PodRecord) -> bool:
        """Whether there is room by now for what had to wait."""
        if record.key.uid not in self._deferred or record.pod is None or record.pod.metadata.deletion_timestamp:
            return False
        if self._admission.resize(record) is None:
            return True
        self._look_again(record)
        return False

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
            self._admission.recount(record, resized=True)  # at once: others ask too
            return
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
        self._deferred.pop(record.key.uid, None)
        timer = self._timers.pop(record.key.uid, None)
        if timer is not None:
            timer.cancel()
        if record.pending_resize is not None:
            record.pending_resize = None
            self._write(record)

    def room_was_made(self) -> None:
        """A pod has gone."""
        for record in list(self._deferred.values()):
            self._wake(record)

    def _refuse(self, record: PodRecord, why: Rejection) -> None:
        assert record.pod is not None
        generation, old = record.pod.metadata.generation, record.pending_resize
        kept = old is not None and old.reason == why.reason and old.observed_generation == generation
        if why.reason == DEFERRED:
            self._deferred[record.key.uid] = record
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
        return {container.name: container.resources for container in resized_resources(Pod(spec=given))}

    def _look_again(self, record: PodRecord) -> None:
        timer = self._timers.pop(record.key.uid, None)
        if timer is not None:
            timer.cancel()
        self._timers[record.key.uid] = asyncio.get_running_loop().call_later(_RETRY, self._wake, record)

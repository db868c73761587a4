"""Admits pods to the node: counts what its live pods take, and says why another one is not taken (``runtime.admission``).

A pod is judged once, when it is first to be created. One that was taken before this process began is counted and never
judged again. Counting is cheap: a sum that only grows, until a pod does not fit; then those that have ended are taken off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from virtual_kubelet.errors import ApiNotFoundError
from virtual_kubelet.kube.resources import NODES
from virtual_kubelet.node.cached_pod import CachedPod
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.node.pod_status_patch import is_terminal
from virtual_kubelet.objects.core_v1 import PodStatus, ResourceRequirements
from virtual_kubelet.objects.pod_fitting import NOTHING, HostPort, Resources, pod_requests, with_status
from virtual_kubelet.runtime.admission import (
    NodeFacts,
    PodDemand,
    Rejection,
    node_facts,
    pod_demand,
    rejection_of,
    resize_refusal,
)
from virtual_kubelet.runtime.resize import INFEASIBLE, resized_resources
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["PodAdmission"]

log = get_logger(__name__)

_specs = msgspec.json.Decoder(dict[str, Any])


class _Taken(NamedTuple):
    """What one pod takes.

    Attributes:
        settling: its status does not say yet that it has what it is to have.
        resized: that is what its spec asks for now, though the provider may not have been told.
    """

    record: PodRecord
    requests: Resources
    ports: Sequence[HostPort]
    settling: bool = False
    resized: bool = False


class PodAdmission:
    """Called by workers, each for another pod. Without a ``node`` in the configuration it takes all, and counts nothing.

    Args:
        records: all pods that are known; asked once, before the first pod is judged.
    """

    def __init__(self, config: PodControllerConfig, records: Iterable[PodRecord]) -> None:
        self._client = config.client
        self._node_name = config.node_name
        self._node = config.node
        self._records = records
        self._taken: dict[str, _Taken] = {}
        self._used = NOTHING
        self._counted = False

    async def admit(self, record: PodRecord) -> Rejection | None:
        """Count it, or say why it is not taken. Its spec is one that can be decoded.

        Raises ``ApiError`` and ``ApiConnectionError`` where that depends on the Node, which cannot be read just now.
        """
        pod, node = record.pod, self._node
        assert pod is not None
        self._count_earlier()
        if node is None or record.key.uid in self._taken:
            return None
        try:
            demand = pod_demand(_spec_of(pod), pod.metadata.labels or {})
        except ValueError as error:  # a quantity that is none
            return Rejection("UnexpectedAdmissionError", f"the pod's resources make no sense: {error}")
        if not _was_taken(pod.status):
            rejection = self._judge(demand, node())
            if rejection is not None and rejection.may_be_stale:
                rejection = self._judge(demand, await self._read_node(node()))
            if rejection is not None:
                return rejection
        self._count(record, demand)
        return None

    def recount(self, record: PodRecord, *, resized: bool = False) -> None:
        """It is with the provider, or its spec has changed: it takes what that says, whether it fits or not.

        Args:
            resized: what was set aside for it before is over.
        """
        self._count_earlier()
        if self._node is not None and record.pod is not None:
            self._count_as_it_is(record, resized=resized)

    def resize(self, record: PodRecord) -> Rejection | None:
        """Why it cannot have what its spec asks for now (``Deferred`` or ``Infeasible``); None: it can, and nothing is
        counted yet."""
        self._count_earlier()
        pod, node = record.pod, self._node
        taken = self._taken.get(record.key.uid)
        if node is None or pod is None or taken is None:
            return None
        try:
            requests = pod_requests(_spec_of(pod))
        except ValueError as error:
            return Rejection(INFEASIBLE, f"the pod's resources make no sense: {error}")
        self._make_room()
        return resize_refusal(requests, taken.requests, node(), self._used.minus(taken.requests))

    def release(self, record: PodRecord) -> None:
        """It is gone."""
        taken = self._taken.pop(record.key.uid, None)
        if taken is not None:
            self._used = self._used.minus(taken.requests)

    def _judge(self, demand: PodDemand, node: NodeFacts) -> Rejection | None:
        rejection = rejection_of(demand, node, self._used, self._ports())
        if rejection is None or not self._make_room():
            return rejection
        return rejection_of(demand, node, self._used, self._ports())

    def _ports(self) -> Iterable[HostPort]:
        return (port for taken in self._taken.values() for port in taken.ports)

    async def _read_node(self, known: NodeFacts) -> NodeFacts:
        """The Node as it is now; others label and taint it."""
        try:
            found = node_facts(await self._client.get(NODES, self._node_name))
        except ApiNotFoundError:  # not registered yet
            return known
        # What it can give, and what it is, the node itself knows best.
        return known._replace(labels=found.labels, taints=found.taints)

    def _count_earlier(self) -> None:
        if self._counted or self._node is None:
            return
        self._counted = True
        for record in self._records:
            pod = record.pod
            if pod is None or _ended(record) or not (record.in_provider or _was_taken(pod.status)):
                continue
            self._count_as_it_is(record)

    def _count_as_it_is(self, record: PodRecord, *, resized: bool = False) -> None:
        assert record.pod is not None
        try:
            record.pod.decode()
            spec = _spec_of(record.pod, None if resized else _set_aside(record))
            status = None if record.status is None else msgspec.to_builtins(record.status)
            demand = pod_demand(spec, record.pod.metadata.labels or {}, status)
            settling = status is not None and not (
                pod_requests(spec) == demand.requests == pod_requests(with_status(spec, status, only_what_it_has=True))
            )
            self._count(record, demand, settling=settling, resized=resized)
        except ValueError as error:  # a spec that cannot be read, or a quantity that is none
            log.warning("what a pod takes of the node is not known: %s", error, extra=record.log_fields)

    def _count(self, record: PodRecord, demand: PodDemand, *, settling: bool = False, resized: bool = False) -> None:
        self.release(record)
        taken = self._taken[record.key.uid] = _Taken(record, demand.requests, demand.ports, settling, resized)
        self._used = self._used.plus(taken.requests)

    def _make_room(self) -> bool:
        """Whether any pod takes less than when it was counted: it has ended, or has given back what it was to."""
        before = self._used
        for taken in list(self._taken.values()):
            if _ended(taken.record):
                self.release(taken.record)
            elif taken.settling:
                self._count_as_it_is(taken.record, resized=taken.resized)
        return self._used != before


def _spec_of(pod: CachedPod, set_aside: Mapping[str, ResourceRequirements | None] | None = None) -> dict[str, Any]:
    """``set_aside``: by container, where that is not what the spec asks for."""
    spec = _specs.decode(pod.spec)
    if set_aside is not None:
        for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
            if container["name"] in set_aside:
                container["resources"] = msgspec.to_builtins(set_aside[container["name"]]) or {}
    return spec


def _set_aside(record: PodRecord) -> dict[str, ResourceRequirements | None] | None:
    """What a pod has that waits for more, or that had it when this process began."""
    if record.allocated is not None or record.found is None:
        return record.allocated
    return {container.name: container.resources for container in resized_resources(record.found)}


def _ended(record: PodRecord) -> bool:
    if record.pod is None:  # forced: it is being killed, and counts no more, as with a kubelet
        return True
    return is_terminal(record.status or record.pod.status)


def _was_taken(status: PodStatus) -> bool:
    """A node, this one before it was started again, has said something of it."""
    return bool(status.start_time or status.container_statuses or status.reason)

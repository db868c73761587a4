"""The end of all pods when a node drains: the workers have the provider end each, and somebody waits for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from virtual_kubelet.clock import Clock
from virtual_kubelet.errors import NotFoundError
from virtual_kubelet.node.pod_record import PodRecord
from virtual_kubelet.node.pod_status_patch import no_container_runs
from virtual_kubelet.node.provider_calls import ProviderCallError, ProviderCalls
from virtual_kubelet.node.provider_failures import terminated_status
from virtual_kubelet.telemetry.logs import bind, get_logger

__all__ = ["drain_pod", "wait_until_drained"]

log = get_logger(__name__)

#: Seconds between looks at the records, and between questions to the provider.
_LOOKS: Final = 0.05
_ASKS: Final = 0.5


async def wait_until_drained(
    records: Iterable[PodRecord],
    calls: ProviderCalls,
    write: Callable[[PodRecord], None],
    *,
    clock: Clock,
    limit: float,
) -> None:
    """Return when no container runs any more, or after ``limit`` seconds, which is logged.

    Args:
        records: iterated again and again.
        calls: asks the provider whether it still has a pod: not every provider says by itself that one has gone.
        write: takes a record whose status is to be written.
    """
    loop = asyncio.get_running_loop()
    deadline, asking = loop.time() + limit, loop.time() + _ASKS
    while (left := [record for record in records if _runs(record)]) and loop.time() < deadline:
        await asyncio.sleep(_LOOKS)
        if loop.time() >= asking:
            for record in left:
                await _ask(record, calls, write, clock)
            asking = loop.time() + _ASKS
    if left:
        log.warning("%d pods are still with the provider after draining", len(left))


def _runs(record: PodRecord) -> bool:
    return record.in_provider is not False and not (record.status is not None and no_container_runs(record.status))


async def _ask(
    record: PodRecord,
    calls: ProviderCalls,
    write: Callable[[PodRecord], None],
    clock: Clock,
) -> None:
    if record.busy or record.delete_grace is None:
        return
    try:
        still_there = await calls.knows(record.key)
    except ProviderCallError as error:
        with bind(**record.log_fields):
            log.warning("the provider does not say whether the pod has ended: %s", error)
        return
    if not still_there:
        record.in_provider = False
        if record.pod is not None:
            record.status = terminated_status(record.pod.status, clock.now())
            write(record)


async def drain_pod(record: PodRecord, calls: ProviderCalls) -> None:
    """Have the provider end one pod within the time that the record says. Raises ``ProviderCallError``."""
    if record.draining is None:  # bound since the node drains
        return
    pod = record.pod.decode_or_bare() if record.pod is not None else record.last_decoded
    assert pod is not None
    if pod.metadata.deletion_grace_period_seconds is None:
        own = pod.spec.termination_grace_period_seconds
        pod.metadata.deletion_grace_period_seconds = min(record.draining, 30 if own is None else own)
    try:
        await calls.delete_pod(pod)
    except NotFoundError:
        record.in_provider = False
        return
    record.delete_grace = pod.metadata.deletion_grace_period_seconds

"""Looks at what the runtime really has, for what it forgot to tell: ends, losses, strays and doubles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from virtual_kubelet.contracts.runtime import ContainerInstance
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.adoption import attempt_of
from virtual_kubelet.runtime.engine_parts import ContainerIndex
from virtual_kubelet.runtime.pod_state import ContainerPhase, PodStage
from virtual_kubelet.runtime.pod_task import PodTask
from virtual_kubelet.runtime.runtime_calls import RuntimeCalls
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["audit"]

log = get_logger(__name__)


async def audit(
    calls: RuntimeCalls, pods: Sequence[PodTask], index: ContainerIndex, suspects: frozenset[str]
) -> frozenset[str]:
    """One look at everything; gives the suspects of the next.

    A container or sandbox is taken for lost only when two looks in a row do not find it, and for a stray when two find it:
    it may have come, or its end may be on its way, while the list was made.
    """
    missing: set[str] = set()
    instances = {instance.id: instance for instance in await calls.list_containers()}
    alive = {sandbox.id for sandbox in await calls.list_sandboxes()} if calls.sandboxes is not None else None
    by_uid = {pod.key.uid: pod for pod in pods}
    for instance in instances.values():
        if not _is_stray(instance, by_uid):
            continue
        missing.add(instance.id)
        if instance.id in suspects:
            await _clear_away(calls, by_uid, instance)
    for pod in pods:
        _look_at(pod, instances, index, suspects, missing)
        sandbox = pod.state.sandbox
        needed = pod.state.stage in (PodStage.ACTIVE, PodStage.ENDING)
        if alive is not None and needed and sandbox is not None and sandbox.id not in alive:
            missing.add(sandbox.id)
            if sandbox.id in suspects:
                log.warning("sandbox %s of pod %s is gone", sandbox.id, pod.key)
                pod.sandbox_exited(sandbox.id)
    return frozenset(missing)


def _is_stray(instance: ContainerInstance, by_uid: Mapping[str, PodTask]) -> bool:
    """Whether no pod has begun it; one whose start was asked for, and whose answer may be lost, is none."""
    pod = by_uid.get(instance.labels.get("uid", ""))
    if pod is None:
        return True
    state = pod.state
    known = {run.id for record in state.containers for run in (record.run, record.last) if run is not None}
    if instance.id in known or instance.id in state.obsolete:
        return False
    record = state.find(instance.labels.get("container", ""))
    if record is None:
        return True
    return record.up or (record.phase is not ContainerPhase.STARTING and attempt_of(instance) != record.attempts)


async def _clear_away(calls: RuntimeCalls, by_uid: Mapping[str, PodTask], instance: ContainerInstance) -> None:
    pod = by_uid.get(instance.labels.get("uid", ""))
    if pod is not None:
        pod.post(on.StrayFound(instance.labels.get("container", ""), instance.id))
        return
    log.warning("a container of no pod that is known is removed", extra={"container": instance.id})
    await calls.remove_container(instance.id)


def _look_at(
    pod: PodTask,
    instances: dict[str, ContainerInstance],
    index: ContainerIndex,
    suspects: frozenset[str],
    missing: set[str],
) -> None:
    for record in pod.state.containers:
        if not record.up or record.run is None:
            continue
        container_id = record.run.id
        instance = instances.get(container_id)
        if instance is not None and instance.exit is None:
            continue
        missing.add(container_id)
        if container_id not in suspects:
            continue
        if instance is not None and instance.exit is not None:
            log.warning("container %s of pod %s has ended, and nobody said so", record.name, pod.key)
            pod.container_exited(record.name, container_id, instance.exit)
        else:
            log.warning("container %s of pod %s is not known to the runtime any more", record.name, pod.key)
            index.owners.pop(container_id, None)
            pod.post(on.Lost(record.name, container_id))

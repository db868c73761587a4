"""Looks at what the runtime really has, for what it forgot to tell: ends, lost containers and sandboxes, doubles."""

from __future__ import annotations

from collections.abc import Sequence

from virtual_kubelet.contracts.runtime import ContainerInstance
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.engine_parts import ContainerIndex
from virtual_kubelet.runtime.pod_state import PodStage
from virtual_kubelet.runtime.pod_task import PodTask
from virtual_kubelet.runtime.runtime_calls import RuntimeCalls
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["audit"]

log = get_logger(__name__)


async def audit(
    calls: RuntimeCalls, pods: Sequence[PodTask], index: ContainerIndex, suspects: frozenset[str]
) -> frozenset[str]:
    """One look at everything; gives the suspects of the next.

    A container or sandbox is taken for lost only when two looks in a row do not find it: it may have come, or its end may be
    on its way, while the list was made.
    """
    missing: set[str] = set()
    instances = {instance.id: instance for instance in await calls.list_containers()}
    alive = {sandbox.id for sandbox in await calls.list_sandboxes()} if calls.sandboxes is not None else None
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

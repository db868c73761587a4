"""Gives a running container other resources, as its pod's table asks; what a runtime raises becomes an event."""

from __future__ import annotations

import dataclasses

from msgspec.structs import replace

from virtual_kubelet.contracts.runtime import ContainerConfig
from virtual_kubelet.errors import InvalidInputError, text_of
from virtual_kubelet.objects.core_v1 import Container, ResourceRequirements
from virtual_kubelet.runtime import pod_actions as do
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.container_start import config_of
from virtual_kubelet.runtime.pod_resources import resources_of
from virtual_kubelet.runtime.pod_state import ContainerRecord, PodState
from virtual_kubelet.runtime.resize import lower_memory_limit, memory_shortage
from virtual_kubelet.runtime.runtime_calls import RuntimeCalls
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["resize"]

log = get_logger(__name__)


async def resize(calls: RuntimeCalls, state: PodState, action: do.Resize) -> on.Resized | on.ResizeFailed:
    """Never raises, but for a cancellation."""
    name, container_id, resources = action.name, action.container_id, action.resources
    record = state.find(name)
    if record is None:  # its pod has lost it meanwhile: an event about it is of no consequence
        return on.ResizeFailed(name, container_id, "it is not there")
    limit = lower_memory_limit(resources_of(record, state.spec_of(record)), resources)
    try:
        usage = await calls.memory_usage(container_id) if limit is not None else None
        if limit is not None and usage is not None and (shortage := memory_shortage(name, limit, usage)):
            return on.ResizeFailed(name, container_id, shortage)
        await calls.resize_container(container_id, _config(state, record, resources))
    except InvalidInputError as error:
        return on.ResizeFailed(name, container_id, text_of(error), refused=True)
    except Exception as error:
        # Whatever a runtime raises: it is shown in the pod's conditions and tried again.
        log.warning("container %s could not be resized", name, exc_info=error)
        return on.ResizeFailed(name, container_id, text_of(error))
    return on.Resized(name, container_id, resources)


def _config(state: PodState, record: ContainerRecord, resources: ResourceRequirements | None) -> ContainerConfig:
    """As the container is to be, in a pod whose other containers have what they have now."""
    config, records = config_of(state, record), {one.name: one for one in state.containers}

    def now(container: Container) -> Container:
        has = resources if container.name == record.name else resources_of(records[container.name], container)
        return container if has is container.resources else replace(container, resources=has)

    spec = state.pod.spec
    init = None if spec.init_containers is None else [now(one) for one in spec.init_containers]
    pod = replace(state.pod, spec=replace(spec, containers=[now(one) for one in spec.containers], init_containers=init))
    return dataclasses.replace(config, pod=pod, container=replace(config.container, resources=resources))

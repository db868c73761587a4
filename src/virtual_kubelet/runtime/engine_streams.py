"""What people ask of a pod's containers: logs, commands, attaching, ports, statistics. By the runtime's optional parts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import ContainerCommands, ContainerConfig, PodPorts
from virtual_kubelet.contracts.streams import AttachIO, PortStream
from virtual_kubelet.errors import InvalidInputError, NotFoundError, UnsupportedError
from virtual_kubelet.objects.stats_v1alpha1 import Summary
from virtual_kubelet.runtime.container_start import config_of
from virtual_kubelet.runtime.pod_task import PodTask
from virtual_kubelet.runtime.runtime_calls import RuntimeCalls
from virtual_kubelet.runtime.stats_summary import build_summary, running_ids

__all__ = ["EngineStreams"]

_NEEDED: Final[Mapping[str, tuple[type, str]]] = {
    "run_in_container": (ContainerCommands, "run commands in containers"),
    "attach_to_container": (ContainerCommands, "attach to containers"),
    "port_forward": (PodPorts, "forward ports"),
}


class EngineStreams:
    """``ContainerLogs``, ``ContainerExec``, ``ContainerAttach``, ``PortForwarder`` and ``StatsSummary`` of an engine's pods.

    What the runtime lacks raises ``UnsupportedError``.
    """

    _calls: RuntimeCalls
    _pods: Mapping[PodKey, PodTask]

    def lacks(self, method: str) -> str:
        """See ``PartialStreams``."""
        needed, sentence = _NEEDED[method]
        return "" if isinstance(self._calls.runtime, needed) else f"the runtime of this node does not {sentence}"

    async def get_container_logs(
        self, key: PodKey, container: str, options: ContainerLogOptions
    ) -> AsyncIterator[LogLine]:
        held = self._pods.get(key)
        record = None if held is None else held.state.find(container)
        if record is None:
            raise NotFoundError(f'container "{container}" not found in pod "{key.name}"')
        if options.previous and record.last is None:
            raise InvalidInputError(f'previous terminated container "{container}" in pod "{key.name}" not found')
        if record.run is None:
            reason = record.waiting[0] if record.waiting is not None else "ContainerCreating"
            raise InvalidInputError(f'container "{container}" in pod "{key.name}" is waiting to start: {reason}')
        chosen = record.last if options.previous else record.run
        if chosen is None or not chosen.id:  # a run that failed before there was a container has written nothing
            return
        async for line in self._calls.runtime.container_logs(chosen.id, options):
            yield line

    async def run_in_container(self, key: PodKey, container: str, command: Sequence[str], streams: AttachIO) -> int:
        """See ``ContainerExec``."""
        runtime = self._calls.runtime
        if not isinstance(runtime, ContainerCommands):
            raise UnsupportedError(self.lacks("run_in_container"))
        container_id, config = self._running(key, container)
        return await runtime.exec_in_container(container_id, config, command, streams)

    async def attach_to_container(self, key: PodKey, container: str, streams: AttachIO) -> None:
        """See ``ContainerAttach``."""
        runtime = self._calls.runtime
        if not isinstance(runtime, ContainerCommands):
            raise UnsupportedError(self.lacks("attach_to_container"))
        container_id, config = self._running(key, container)
        await runtime.attach_container(container_id, config, streams)

    async def port_forward(self, key: PodKey, port: int, stream: PortStream) -> None:
        """See ``PortForwarder``."""
        runtime = self._calls.runtime
        if not isinstance(runtime, PodPorts):
            raise UnsupportedError(self.lacks("port_forward"))
        held = self._pods.get(key)
        if held is None:
            raise NotFoundError(f"pod {key.name} is not known")
        ids = running_ids([held.state])
        await runtime.forward_port(held.state.pod, held.state.sandbox, ids, port, stream)

    async def get_stats_summary(self, *, only_cpu_and_memory: bool) -> Summary:
        """See ``StatsSummary``."""
        states = [held.state for held in self._pods.values()]
        node, known = await self._calls.statistics(running_ids(states))
        return build_summary(node, states, known)

    def _running(self, key: PodKey, container: str) -> tuple[str, ContainerConfig]:
        """The container of a run that goes on. Raises ``NotFoundError``, in a kubelet's words, if there is none."""
        held = self._pods.get(key)
        record = None if held is None else held.state.find(container)
        if held is None or record is None or not record.up or record.run is None or not record.run.id:
            raise NotFoundError(f'container not found ("{container}")')
        return record.run.id, config_of(held.state, record)

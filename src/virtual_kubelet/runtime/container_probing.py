"""Between a pod's task and the prober: what is probed, and what comes of it as events of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import ContainerCommands
from virtual_kubelet.contracts.streams import AttachIO
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.container_start import config_of, pod_ips
from virtual_kubelet.runtime.engine_parts import EngineParts
from virtual_kubelet.runtime.field_path import field_path
from virtual_kubelet.runtime.pod_state import ContainerPhase, PodState
from virtual_kubelet.runtime.probe_state import ProbeKind, ProbeResult, grace_after_failure
from virtual_kubelet.runtime.probes.target import ContainerTarget

__all__ = ["ContainerProbing"]


class _Inbox(Protocol):
    def post(self, event: on.ContainerEvent | on.PodEvent) -> None: ...


class ContainerProbing:
    """Of one pod. An async context manager: leaving it ends all probes."""

    def __init__(self, parts: EngineParts, state: PodState, key: PodKey, inbox: _Inbox) -> None:
        self._parts = parts
        self._state = state
        self._key = key
        self._inbox = inbox
        self._probes = parts.prober.pod(state.pod, on_result=self._result, on_event=self._event)

    async def __aenter__(self) -> ContainerProbing:
        await self._probes.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._probes.__aexit__(kind, error, trace)

    def target(self, name: str, container_id: str) -> ContainerTarget:
        """Whom a probe or a hook of this container asks."""
        record = self._state.find(name)
        assert record is not None
        runtime, config = self._parts.calls.runtime, config_of(self._state, record)
        commands = runtime if isinstance(runtime, ContainerCommands) else None

        async def execute(container_id: str, command: Sequence[str], streams: AttachIO) -> int:
            assert commands is not None
            return await commands.exec_in_container(container_id, config, command, streams)

        ips = pod_ips(self._parts, self._state)
        return ContainerTarget(
            self._state.pod,
            config.container,
            container_id,
            ips[0] if ips else "",
            execute if commands is not None else None,
        )

    def begin(self, name: str) -> None:
        """It runs."""
        record = self._state.find(name)
        if record is not None and record.run is not None and record.phase is ContainerPhase.RUNNING:
            self._probes.begin(self.target(name, record.run.id), record.run.began)

    def end(self, name: str, *, terminating: bool) -> None:
        """It has ended, or is to end; while its pod ends, readiness is probed on."""
        if terminating:
            self._probes.terminate()
        else:
            self._probes.end(name)

    def resume(self) -> None:
        """Probe what an earlier process began: what was said of it holds until its probes say otherwise."""
        for record in self._state.containers:
            stops = record.phase is ContainerPhase.STOPPING
            if record.run is None or not (stops or record.phase is ContainerPhase.RUNNING):
                continue
            target = self.target(record.name, record.run.id)
            self._probes.adopt(target, record.run.began, started=record.started, ready=record.ready)
            if stops:
                self._probes.terminate()

    def _result(self, name: str, kind: ProbeKind, result: ProbeResult, message: str) -> None:
        record = self._state.find(name)
        if record is None:
            return
        if kind.ends_container and result is ProbeResult.FAILURE:
            grace = grace_after_failure(self._state.pod, self._state.spec_of(record), kind)
            self._inbox.post(on.ProbeFailed(name, kind.value, grace))
        else:
            self._inbox.post(on.Probed(name, self._probes.started(name), self._probes.ready(name)))

    def _event(self, name: str, event_type: str, reason: str, message: str) -> None:
        path = field_path(self._state, name)
        self._parts.context.record_event(self._key, event_type, reason, message, field_path=path)

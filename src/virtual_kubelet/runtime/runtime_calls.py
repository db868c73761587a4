"""The one door to a container runtime: every call ends in bounded time, whatever the runtime does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from virtual_kubelet.contracts.runtime import (
    ContainerConfig,
    ContainerInstance,
    ContainerResize,
    ContainerRuntime,
    ContainerStatistics,
    PodSandbox,
    PodSandboxes,
)
from virtual_kubelet.errors import InvalidInputError, TransientError, UnsupportedError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.objects.stats_v1alpha1 import ContainerStats, NodeStats
from virtual_kubelet.runtime.engine_options import CallTimeouts
from virtual_kubelet.runtime.resize import UNSUPPORTED
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.telemetry.tracing import span

__all__ = ["RuntimeCalls"]

log = get_logger(__name__)

T = TypeVar("T")

#: Seconds that a call has to end once it is cancelled; after that it is left alone, and said to be.
_SETTLE = 2.0


class RuntimeCalls:
    """Raises what the runtime raises, and ``TransientError`` for a call that is over its time."""

    def __init__(self, runtime: ContainerRuntime, timeouts: CallTimeouts) -> None:
        self.runtime = runtime
        self._timeouts = timeouts
        self._left: set[asyncio.Task[object]] = set()

    @property
    def sandboxes(self) -> PodSandboxes | None:
        return self.runtime if isinstance(self.runtime, PodSandboxes) else None

    async def start_container(self, config: ContainerConfig) -> ContainerInstance:
        with span("start_container", container=config.container.name):
            return await self._bounded("start_container", self._timeouts.start, self.runtime.start_container, config)

    async def signal_container(self, container_id: str, number: int) -> None:
        call = self.runtime.signal_container
        await self._bounded("signal_container", self._timeouts.signal, call, container_id, number)

    async def remove_container(self, container_id: str) -> None:
        await self._bounded("remove_container", self._timeouts.remove, self.runtime.remove_container, container_id)

    async def list_containers(self) -> Sequence[ContainerInstance]:
        return await self._bounded("list_containers", self._timeouts.list, self.runtime.list_containers)

    async def ensure_sandbox(self, pod: Pod) -> PodSandbox | None:
        """None if the runtime has no sandboxes."""
        if self.sandboxes is None:
            return None
        return await self._bounded("ensure_sandbox", self._timeouts.sandbox, self.sandboxes.ensure_sandbox, pod)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        if self.sandboxes is not None:
            await self._bounded("remove_sandbox", self._timeouts.remove, self.sandboxes.remove_sandbox, sandbox_id)

    async def list_sandboxes(self) -> Sequence[PodSandbox]:
        if self.sandboxes is None:
            return []
        return await self._bounded("list_sandboxes", self._timeouts.list, self.sandboxes.list_sandboxes)

    async def resize_container(self, container_id: str, config: ContainerConfig) -> None:
        """Raises ``InvalidInputError`` if the runtime cannot do it, whatever the reason."""
        if not isinstance(self.runtime, ContainerResize):
            raise InvalidInputError(UNSUPPORTED)
        call = self.runtime.resize_container
        await self._bounded("resize_container", self._timeouts.resize, call, container_id, config)

    async def memory_usage(self, container_id: str) -> int | None:
        """Bytes; None if the runtime does not say."""
        if not isinstance(self.runtime, ContainerStatistics):
            return None
        call, seconds = self.runtime.container_statistics, self._timeouts.statistics
        known = (await self._bounded("container_statistics", seconds, call, [container_id])).get(container_id)
        return known.memory.usage_bytes if known is not None and known.memory is not None else None

    async def statistics(self, container_ids: Sequence[str]) -> tuple[NodeStats, dict[str, ContainerStats]]:
        """Raises ``UnsupportedError`` if the runtime has none."""
        if not isinstance(self.runtime, ContainerStatistics):
            raise UnsupportedError("the runtime of this node does not offer statistics")
        runtime, seconds = self.runtime, self._timeouts.statistics
        node = await self._bounded("node_statistics", seconds, runtime.node_statistics)
        return node, dict(
            await self._bounded("container_statistics", seconds, runtime.container_statistics, container_ids)
        )

    async def _bounded(self, name: str, seconds: float, call: Callable[..., Awaitable[T]], *args: object) -> T:
        """A runtime may ignore that it is cancelled: it is not waited for then."""

        async def made() -> T:
            return await call(*args)

        task = asyncio.get_running_loop().create_task(made(), name=name)
        try:
            await asyncio.wait({task}, timeout=seconds)
            if task.done():
                return self._result(name, task)
        finally:
            if not task.done():
                task.cancel()
                await self._settle(name, task)
        raise TransientError(f"{name}: the runtime has not answered within {seconds:g} s")

    def _result(self, name: str, task: asyncio.Task[T]) -> T:
        if task.cancelled():
            raise TransientError(f"{name}: the runtime gave its call up")
        return task.result()

    async def _settle(self, name: str, task: asyncio.Task[T]) -> None:
        await asyncio.wait({task}, timeout=_SETTLE)
        if task.done():
            if not task.cancelled() and task.exception() is not None:
                log.debug("%s failed while it was given up", name, exc_info=task.exception())
            return
        log.error("%s goes on though its time is over and it was cancelled", name)
        self._left.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._left.discard(task)
        error = None if task.cancelled() else task.exception()
        log.info("a call of the runtime that went on has ended: %s", task.get_name(), exc_info=error)

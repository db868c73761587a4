"""PodEngine: full pods out of a ``ContainerRuntime``. A ``PodLifecycleHandler`` with notifications, logs, commands, ports.

Each pod has a task (``pod_task``) that asks the tables (``transitions``, ``next_steps``) what becomes of it. All that must
survive this process is with the runtime (its containers, by label) and in a checkpoint of each pod: an engine that is made
anew adopts both, and nothing is restarted. What the runtime or the disk refuses is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from contextvars import copy_context
from dataclasses import replace
from typing import Final, Self

from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.contracts.pods import PodKey, PodStatusCallback
from virtual_kubelet.contracts.probes import ProbeStatistics
from virtual_kubelet.contracts.runtime import (
    ContainerCommands,
    ContainerExit,
    ContainerInstance,
    ContainerResize,
    ContainerRuntime,
    ImageStore,
    PodSandbox,
)
from virtual_kubelet.environment.volume_support import MOUNT_PROPAGATIONS, check_volumes
from virtual_kubelet.errors import NotFoundError
from virtual_kubelet.objects.core_v1 import Pod, PodStatus
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.checkpoint import PodCheckpoints
from virtual_kubelet.runtime.container_environment import EnvironmentSources
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.engine_parts import ContainerIndex, EngineParts
from virtual_kubelet.runtime.engine_streams import EngineStreams
from virtual_kubelet.runtime.hooks import Hooks
from virtual_kubelet.runtime.image_access import ImageAccess
from virtual_kubelet.runtime.image_pulls import ImagePulls
from virtual_kubelet.runtime.pod_state import PodStage, PodState
from virtual_kubelet.runtime.pod_task import PodTask
from virtual_kubelet.runtime.probes.execute import check_probes
from virtual_kubelet.runtime.probing import Prober
from virtual_kubelet.runtime.runtime_audit import audit
from virtual_kubelet.runtime.runtime_calls import RuntimeCalls
from virtual_kubelet.runtime.termination import DEFAULT_GRACE
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.volumes.pod_volumes import remove_volumes_of_others
from virtual_kubelet.volumes.sources import VolumeSources

__all__ = ["PodEngine"]

log = get_logger(__name__)

#: What the API server and the scheduler look for, for rules that restart all containers and new CPUs of Guaranteed pods.
_RESTART_ALL: Final = "RestartAllContainersOnContainerExits"
_CPU_RESIZE: Final = "GuaranteedQoSPodCPUResize"
#: Seconds that pods which are being removed have for it when the engine is left.
_GOING: Final = 10.0


class PodEngine(EngineStreams):
    """See the module's docstring. Run it as an async context manager; leaving it leaves the containers running.

    Args:
        runtime: starts and ends containers; what else it can is found by its methods. If it is an async context manager,
            the engine enters and leaves it.
        context: of the provider.
        options: limits.
    """

    #: Variables are resolved when a container starts, as by a kubelet: the pod's addresses are known then.
    resolves_environment = True

    def __init__(
        self, runtime: ContainerRuntime, context: ProviderContext, options: EngineOptions | None = None
    ) -> None:
        options = options or EngineOptions()
        can_resize = isinstance(runtime, ContainerResize)
        options = replace(options, transitions=replace(options.transitions, in_place_resize=can_resize))
        directory = options.directory or context.state_directory / "pods"
        self._calls = RuntimeCalls(runtime, options.timeouts)
        self._pods: dict[PodKey, PodTask] = {}
        self._notify: PodStatusCallback = _nobody
        self._tasks: asyncio.TaskGroup | None = None
        self._open = AsyncExitStack()
        images = None
        if isinstance(runtime, ImageStore):
            timeout, parallel = options.timeouts.image, options.parallel_pulls
            images = ImagePulls(
                runtime,
                clock=context.clock,
                access=ImageAccess(context.state_directory / "image-access.json"),
                parallel=parallel,
                find_timeout=timeout,
                stall_timeout=options.pull_stall_timeout,
                progress_interval=options.pull_progress_interval,
            )
        self._parts = EngineParts(
            context=context,
            options=options,
            calls=self._calls,
            checkpoints=PodCheckpoints(directory),
            directory=directory / "files",
            index=ContainerIndex(),
            images=images,
            volume_sources=VolumeSources.of(context),
            environment_sources=EnvironmentSources.of(context),
            prober=Prober(clock=context.clock),
            hooks=Hooks(context.clock),
            notify=self._told,
            host_ips=context.host_ips,
        )
        runtime.notify_exits(self._exited)

    async def __aenter__(self) -> Self:
        self._context = copy_context()
        runtime = self._calls.runtime
        try:
            if isinstance(runtime, AbstractAsyncContextManager):
                await self._open.enter_async_context(runtime)
            if self._parts.images is not None:
                await self._open.enter_async_context(self._parts.images)
            self._tasks = await self._open.enter_async_context(asyncio.TaskGroup())
            self._open.callback(self._cancel)
            await self._adopt()
            if self._parts.options.audit_period:
                self._auditor = self._tasks.create_task(self._audit_forever(), name="runtime audit")
                self._open.callback(self._auditor.cancel)
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Pods are left as they are, but for those that are deleted and whose time is over: these go first."""
        now = self._parts.now().monotonic
        going = [held.task for held in self._pods.values() if held.task and held.is_going(now)]
        if going:
            await asyncio.wait(going, timeout=_GOING)
        await self._open.aclose()

    def _cancel(self) -> None:
        for held in self._pods.values():
            if held.task is not None:
                held.task.cancel()

    @property
    def declared_features(self) -> Sequence[str]:
        """See ``FeatureDeclarer``."""
        can_resize = self._parts.options.transitions.in_place_resize
        return [_RESTART_ALL, *([_CPU_RESIZE] if can_resize else [])]

    # PodLifecycleHandler

    def notify_pods(self, callback: PodStatusCallback) -> None:
        self._notify = callback
        for key, held in self._pods.items():
            callback(key, held.status)  # what was adopted before anybody listened

    async def create_pod(self, pod: Pod) -> None:
        key = PodKey.of(pod)
        if key in self._pods:
            return
        runtime = self._calls.runtime
        runtime.check_pod(pod)
        check_probes(pod, commands=isinstance(runtime, ContainerCommands))
        check_volumes(pod, propagations=MOUNT_PROPAGATIONS)  # the runtime has said which of these it honours
        now = self._parts.now()
        state = PodState.of(pod, now)
        content = self._parts.checkpoints.encode(state, now)
        await asyncio.to_thread(self._parts.checkpoints.save, key.uid, content)
        held = self._pods[key] = PodTask(self._parts, state)
        held.report()
        held.tell()
        self._start(held)

    async def update_pod(self, pod: Pod) -> None:
        self._held(pod).post(on.Updated(pod))

    async def delete_pod(self, pod: Pod) -> None:
        held = self._held(pod)
        grace = pod.metadata.deletion_grace_period_seconds
        if grace is None:
            grace = pod.spec.termination_grace_period_seconds
        seconds = DEFAULT_GRACE if grace is None else max(0, grace)
        held.post(on.Deleted(pod, self._parts.now().monotonic + seconds))

    async def get_pod(self, key: PodKey) -> Pod | None:
        held = self._pods.get(key)
        return None if held is None else held.state.pod

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        held = self._pods.get(key)
        return None if held is None else held.status

    async def get_pods(self) -> Sequence[Pod]:
        return [held.state.pod for held in self._pods.values()]

    def probe_statistics(self) -> Sequence[ProbeStatistics]:
        """See ``ProbeStatisticsSource``."""
        return self._parts.prober.statistics()

    def _held(self, pod: Pod) -> PodTask:
        held = self._pods.get(PodKey.of(pod))
        if held is None:
            raise NotFoundError(f"pod {pod.metadata.name} is not known")
        return held

    def _told(self, key: PodKey, status: PodStatus) -> None:
        self._notify(key, status)

    # Tasks

    def _start(self, held: PodTask) -> None:
        assert self._tasks is not None
        # In the engine's own context: a pod outlives the call, and the span, that brings it.
        held.task = self._tasks.create_task(self._run(held), name=f"pod {held.key}", context=self._context.copy())

    async def _run(self, held: PodTask) -> None:
        await held.run()
        if held.state.stage is PodStage.GONE and self._pods.get(held.key) is held:
            del self._pods[held.key]

    def _exited(self, some_id: str, ended: ContainerExit) -> None:
        if not self._parts.index.ended(some_id, ended):
            log.info("the end of a container that is not known is ignored", extra={"container": some_id})

    # What outlives this process

    async def _adopt(self) -> None:
        """Take over what an earlier process left: pods by their checkpoints, containers by their labels."""
        parts = self._parts
        with parts.index:
            instances = await self._calls.list_containers()
            sandboxes = await self._calls.list_sandboxes() if self._calls.sandboxes is not None else None
            for state in await asyncio.to_thread(parts.checkpoints.load, parts.now()):
                held = PodTask(parts, state)
                self._pods[held.key] = held
            by_uid: dict[str, list[ContainerInstance]] = {key.uid: [] for key in self._pods}
            for instance in instances:
                uid = instance.labels.get("uid", "")
                if uid in by_uid:
                    by_uid[uid].append(instance)
                else:
                    log.warning("a container of no pod that is known is removed", extra={"container": instance.id})
                    await self._calls.remove_container(instance.id)
            await self._remove_strangers(sandboxes or ())
            await remove_volumes_of_others(parts.directory, [key.uid for key in self._pods])
            alive = None if sandboxes is None else [sandbox.id for sandbox in sandboxes]
            for key, held in self._pods.items():
                held.adopt(by_uid[key.uid], alive)
                self._start(held)

    async def _remove_strangers(self, sandboxes: Sequence[PodSandbox]) -> None:
        uids = {key.uid for key in self._pods}
        for sandbox in sandboxes:
            if sandbox.labels.get("uid", "") not in uids:
                log.warning("a sandbox of no pod that is known is removed", extra={"sandbox": sandbox.id})
                await self._calls.remove_sandbox(sandbox.id)

    async def _audit_forever(self) -> None:
        """What a runtime forgets to tell is found by looking."""
        suspects: frozenset[str] = frozenset()
        while True:
            await asyncio.sleep(self._parts.options.audit_period)
            try:
                suspects = await audit(self._calls, [*self._pods.values()], self._parts.index, suspects)
            except Exception as error:
                # It cannot be known now: nothing follows from that.
                log.warning("the runtime's containers could not be listed: %s", error, exc_info=error)


def _nobody(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
    """Statuses before ``notify_pods``: they are asked for then."""

"""PodEngine: full pods out of a ``ContainerRuntime``. A ``PodLifecycleHandler`` with notifications and logs.

One task a pod waits for its containers' ends, its back-offs and its deletion, and asks ``transitions`` what is next. All
that must survive this process is with the runtime (its containers, by label) and in a checkpoint of each pod: an engine
that is made anew adopts both, and nothing is restarted. What the runtime or the disk refuses is tried again.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import Final

from virtual_kubelet.clock import Clock
from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.pods import PodKey, PodStatusCallback
from virtual_kubelet.contracts.runtime import (
    ContainerConfig,
    ContainerExit,
    ContainerInstance,
    ContainerKind,
    ContainerRuntime,
    ContainerStartError,
)
from virtual_kubelet.errors import InvalidInputError, NotFoundError
from virtual_kubelet.objects.core_v1 import Container, Pod, PodStatus
from virtual_kubelet.runtime.checkpoint import PodCheckpoint, PodCheckpoints
from virtual_kubelet.runtime.engine_pod import EnginePod, start_failed, take_exit
from virtual_kubelet.runtime.status import ContainerView, build_status
from virtual_kubelet.telemetry.logs import bind, get_logger
from virtual_kubelet.telemetry.tracing import span

__all__ = ["PodEngine"]

log = get_logger(__name__)

#: As the kubelet's active_deadline.go says it.
_DEADLINE_EXCEEDED: Final = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline")
#: Seconds; a loop may wake a little before the time.
_SHORTEST_WAIT: Final = 0.01
#: Seconds until something that failed is tried again: doubled from the first to the second.
_RETRY: Final = (0.5, 60.0)


class PodEngine:
    """See the module's docstring. Run it as an async context manager; leaving it leaves the containers running.

    Args:
        runtime: starts and ends containers.
        checkpoints: where pods are remembered.
        clock: wall time for statuses, monotonic time for waiting.
        host_ips: for statuses.
        kill_grace: seconds to wait after SIGKILL before it is sent again.
        runtime_name: what container ids in statuses begin with, before ``://``.
    """

    def __init__(
        self,
        runtime: ContainerRuntime,
        *,
        checkpoints: PodCheckpoints,
        clock: Clock,
        host_ips: Sequence[str] = (),
        kill_grace: float = 2.0,
        runtime_name: str = "",
    ) -> None:
        self._runtime = runtime
        self._checkpoints = checkpoints
        self._clock = clock
        self._host_ips = [ip for ip in host_ips if ip]
        self._kill_grace = kill_grace
        self._runtime_name = runtime_name
        self._pods: dict[PodKey, EnginePod] = {}
        self._containers: dict[str, tuple[PodKey, EnginePod, ContainerView]] = {}
        self._unnamed = 0  # calls under way that may bring containers whose ids are not known yet
        self._early: dict[str, ContainerExit] = {}  # exits of such
        self._notify: PodStatusCallback = _nobody
        self._tasks: asyncio.TaskGroup | None = None
        runtime.notify_exits(self._exited)

    async def __aenter__(self) -> PodEngine:
        self._context = copy_context()
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        try:
            await self._adopt()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for held in self._pods.values():
            if held.task is not None:
                held.task.cancel()
        assert self._tasks is not None
        await self._tasks.__aexit__(None, None, None)

    # PodLifecycleHandler

    def notify_pods(self, callback: PodStatusCallback) -> None:
        self._notify = callback
        for key, held in self._pods.items():
            callback(key, held.status)  # what was adopted before anybody listened

    async def create_pod(self, pod: Pod) -> None:
        key = PodKey.of(pod)
        if key in self._pods:
            return
        self._runtime.check_pod(pod)
        now = self._clock.now()
        await asyncio.to_thread(self._checkpoints.save, PodCheckpoint(pod, now))
        held = self._pods[key] = EnginePod(pod, now)
        held.set_deadline(self._clock)
        self._report(key, held)
        self._start(key, held)

    async def update_pod(self, pod: Pod) -> None:
        key = PodKey.of(pod)
        held = self._pods.get(key)
        if held is None:
            raise NotFoundError(f"pod {key.name} is not known")
        held.change_images(self._clock, pod)
        if not held.deleting:
            await self._save(held)
        held.wake.set()

    async def delete_pod(self, pod: Pod) -> None:
        held = self._pods.get(PodKey.of(pod))
        if held is None:
            raise NotFoundError(f"pod {pod.metadata.name} is not known")
        grace = pod.metadata.deletion_grace_period_seconds
        held.end_within(self._clock, pod.spec.termination_grace_period_seconds if grace is None else grace)
        held.deleting = True
        held.wake.set()

    async def get_pod(self, key: PodKey) -> Pod | None:
        held = self._pods.get(key)
        return None if held is None else held.pod

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        held = self._pods.get(key)
        return None if held is None else held.status

    async def get_pods(self) -> Sequence[Pod]:
        return [held.pod for held in self._pods.values()]

    async def get_pod_ips(self, pod: Pod) -> Sequence[str]:
        return self._runtime.pod_ips(pod)

    async def get_container_logs(
        self, key: PodKey, container: str, options: ContainerLogOptions
    ) -> AsyncIterator[LogLine]:
        held = self._pods.get(key)
        view = None if held is None else held.view_of(container)
        if view is None:
            raise NotFoundError(f'container "{container}" not found in pod "{key.name}"')
        if options.previous and view.last is None:
            raise InvalidInputError(f'previous terminated container "{container}" in pod "{key.name}" not found')
        if not view.run.attempts:
            reason = view.failure[0] if view.failure is not None else "ContainerCreating"
            raise InvalidInputError(f'container "{container}" in pod "{key.name}" is waiting to start: {reason}')
        chosen = view.last_id if options.previous else view.id
        if not chosen:  # a run that failed before there was a container has written nothing
            return
        async for line in self._runtime.container_logs(chosen, options):
            yield line

    def running_container(self, key: PodKey, container: str) -> tuple[Pod, Container, str]:
        """The pod, and the container with the runtime's id of its present run. Raises ``NotFoundError``, in a kubelet's
        words, unless it runs."""
        held = self._pods.get(key)
        view = None if held is None else held.view_of(container)
        if held is None or view is None or not view.run.running or not view.id:
            raise NotFoundError(f'container not found ("{container}")')
        return held.pod, view.container, view.id

    def running_containers(self, key: PodKey) -> list[str]:
        """The runtime's ids of a pod's containers that run."""
        held = self._pods.get(key)
        return [] if held is None else [view.id for view in held.views if view.run.running and view.id]

    # One pod's task

    def _start(self, key: PodKey, held: EnginePod) -> None:
        assert self._tasks is not None
        # In the engine's own context: a pod outlives the call, and the span, that brings it.
        held.task = self._tasks.create_task(self._run(key, held), name=f"pod {key}", context=self._context.copy())

    async def _run(self, key: PodKey, held: EnginePod) -> None:
        with bind(namespace=key.namespace, pod=key.name, uid=key.uid):
            retry = _RETRY[0]
            while True:
                held.wake.clear()
                try:
                    with span("sync containers", namespace=key.namespace, pod=key.name):
                        wait = await (self._end(key, held) if held.ending else self._advance(key, held))
                    retry = _RETRY[0]
                except Exception as error:
                    # Whatever a runtime or a disk raises: the pod's task outlives it and tries again.
                    log.warning("a pod's containers could not be brought forward: %s", error, exc_info=error)
                    wait, retry = retry, min(_RETRY[1], retry * 2)
                if held.gone:
                    return
                try:
                    async with asyncio.timeout(wait):
                        await held.wake.wait()
                except TimeoutError:
                    continue

    async def _advance(self, key: PodKey, held: EnginePod) -> float | None:
        """Start what is due; gives the seconds until something else is, or None."""
        if not held.ready_to_start:
            held.ready_to_start = True
            self._report(key, held)
        if held.active_until is not None and held.active_until <= self._clock.monotonic() and not held.ended:
            held.failure = _DEADLINE_EXCEEDED
            held.end_within(self._clock, held.pod.spec.termination_grace_period_seconds)
            self._report(key, held)
            await self._save(held)
            return 0
        waits = [] if held.active_until is None else [held.active_until]
        waits += await self._replace(held)
        for view, at in held.due(self._clock):
            if at is not None:
                view.backing_off = True
                waits.append(at)
            elif not held.ending:
                await self._start_container(key, held, view)
                held.wake.set()  # look again: a failed start has its back-off, the next container its turn
        if held.ended:
            waits = []
        self._report(key, held)
        await self._save(held, only_if_changed=True)
        await self._remove(held, held.obsolete)
        return max(_SHORTEST_WAIT, min(waits) - self._clock.monotonic()) if waits else None

    async def _replace(self, held: EnginePod) -> list[float]:
        """End the containers whose image has changed; gives when to look again."""
        grace = held.pod.spec.termination_grace_period_seconds
        waits = []
        for view in held.views:
            if not (view.run.replace and view.run.running):
                continue
            now = self._clock.monotonic()
            if view.id not in held.told:
                log.info("container %s is ended and run again: its image has changed", view.container.name)
                await self._runtime.signal_container(view.id, signal.SIGTERM)
                held.told[view.id] = now + (30 if grace is None else grace)
            elif held.told[view.id] <= now:
                await self._runtime.signal_container(view.id, signal.SIGKILL)
                held.told[view.id] = now + self._kill_grace
            waits.append(held.told[view.id])
        return waits

    async def _start_container(self, key: PodKey, held: EnginePod, view: ContainerView) -> None:
        kind = ContainerKind.INIT if view in held.init else ContainerKind.MAIN
        config = ContainerConfig(held.pod, view.container, view.run.attempts, kind=kind)
        with self._expecting():
            try:
                with span("start_container", container=view.container.name):
                    instance = await self._runtime.start_container(config)
            except ContainerStartError as error:
                if error.exit_code is None:
                    start_failed(self._clock, view, error.reason, str(error))
                    return
                now = self._clock.now()
                held.begin(view, now, "")
                take_exit(
                    self._clock, view, ContainerExit(error.exit_code, now, reason=error.reason, message=str(error))
                )
                return
            except Exception as error:
                # Whatever a runtime raises: it is shown in the container's status and tried again, never swallowed.
                log.warning("container %s could not be started", view.container.name, exc_info=error)
                start_failed(self._clock, view, "CreateContainerError", str(error) or type(error).__name__)
                return
            held.begin(view, instance.started_at, instance.id)
            self._know(key, held, view, instance)

    def _know(self, key: PodKey, held: EnginePod, view: ContainerView, instance: ContainerInstance) -> None:
        self._containers[instance.id] = (key, held, view)
        ended = instance.exit or self._early.pop(instance.id, None)
        if ended is not None:
            take_exit(self._clock, view, ended)

    @contextmanager
    def _expecting(self) -> Iterator[None]:
        """Within: containers may end before their ids are known here; their exits are kept until they are."""
        self._unnamed += 1
        try:
            yield
        finally:
            self._unnamed -= 1
            if not self._unnamed:
                self._early.clear()

    def _exited(self, container_id: str, ended: ContainerExit) -> None:
        found = self._containers.get(container_id)
        if found is None:
            if self._unnamed:
                self._early[container_id] = ended
            return
        key, held, view = found
        if view.id == container_id:
            take_exit(self._clock, view, ended)
            with bind(namespace=key.namespace, pod=key.name, uid=key.uid):
                self._report(key, held)
            held.wake.set()

    async def _end(self, key: PodKey, held: EnginePod) -> float | None:
        """SIGTERM to all that runs, SIGKILL when the grace period is over; then, if it is deleted, forget the pod."""
        running = [v for v in held.views if v.run.running]
        assert held.kill_at is not None
        left = held.kill_at - self._clock.monotonic()
        for view in running:
            if left <= 0:
                await self._runtime.signal_container(view.id, signal.SIGKILL)
            elif view.id not in held.told:
                await self._runtime.signal_container(view.id, signal.SIGTERM)
                held.told[view.id] = held.kill_at
        if running:
            return left if left > 0 else self._kill_grace
        self._report(key, held)
        if not held.deleting:
            return None
        await self._remove(held, [*held.obsolete, *(i for v in held.views for i in (v.last_id, v.id) if i)])
        await asyncio.to_thread(self._checkpoints.remove, key)
        if self._pods.get(key) is held:
            del self._pods[key]
        held.gone = True
        return None

    async def _remove(self, held: EnginePod, ids: Iterable[str]) -> None:
        for container_id in list(ids):
            await self._runtime.remove_container(container_id)
            self._containers.pop(container_id, None)
            if container_id in held.obsolete:
                held.obsolete.remove(container_id)

    def _report(self, key: PodKey, held: EnginePod) -> None:
        status = build_status(
            held.pod,
            held.init,
            held.main,
            start_time=held.start_time,
            host_ips=self._host_ips,
            pod_ips=self._runtime.pod_ips(held.pod),
            known=held.conditions,
            ready_to_start=held.ready_to_start,
            ending=held.ending,
            failure=held.failure,
            runtime_name=self._runtime_name,
        )
        if status == held.status:
            return
        held.status = status
        held.conditions = {c.type: c for c in status.conditions or ()}
        self._notify(key, status)

    # What outlives this process

    async def _save(self, held: EnginePod, *, only_if_changed: bool = False) -> None:
        """Write the checkpoint. What a new engine could not learn from the runtime's containers is in it."""
        runs = held.runs_to_keep()
        if only_if_changed and runs == held.saved:
            return
        async with held.saving:
            checkpoint = PodCheckpoint(
                held.pod, held.start_time, failure=held.failure, runs=runs, conditions=[*held.conditions.values()]
            )
            await asyncio.to_thread(self._checkpoints.save, checkpoint)
            held.saved = runs

    async def _adopt(self) -> None:
        """Take over what an earlier process left: pods by their checkpoints, containers by their labels."""
        with self._expecting():
            instances = sorted(await self._runtime.list_containers(), key=_attempt)
            for checkpoint in await asyncio.to_thread(self._checkpoints.load):
                held = EnginePod(checkpoint.pod, checkpoint.start_time)
                held.restore(self._clock, checkpoint)
                self._pods[PodKey.of(checkpoint.pod)] = held
            by_uid = {key.uid: (key, held) for key, held in self._pods.items()}
            for instance in instances:
                known = by_uid.get(instance.labels.get("uid", ""))
                view = None if known is None else known[1].view_of(instance.labels.get("container", ""))
                if known is None or view is None:
                    log.warning("a container of no pod that is known is removed", extra={"container": instance.id})
                    await self._runtime.remove_container(instance.id)
                else:
                    self._adopt_container(*known, view, instance)
            for key, held in self._pods.items():
                held.lose_absent(self._clock, {instance.id for instance in instances})
                held.set_deadline(self._clock)
                for view, at in held.due(self._clock):
                    view.backing_off = at is not None
                held.ready_to_start = any(v.run.attempts for v in held.views)
                self._report(key, held)
                self._start(key, held)

    def _adopt_container(self, key: PodKey, held: EnginePod, view: ContainerView, instance: ContainerInstance) -> None:
        """Instances come by attempt, oldest first."""
        if instance.id in (view.id, view.last_id):  # the checkpoint knows it
            if instance.id == view.id:
                self._know(key, held, view, instance)
            return
        attempt = _attempt(instance)
        if attempt < view.run.attempts:
            held.obsolete.append(instance.id)
            return
        view.run.attempts = attempt
        held.begin(view, instance.started_at, instance.id)
        self._know(key, held, view, instance)


def _attempt(instance: ContainerInstance) -> int:
    return int(instance.labels.get("attempt", "0"))


def _nobody(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
    """Statuses before ``notify_pods``: they are asked for then."""

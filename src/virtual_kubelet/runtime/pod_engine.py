"""PodEngine: full pods out of a ``ContainerRuntime``. A ``PodLifecycleHandler`` with notifications and logs.

One task a pod waits for its containers' ends, its back-offs and its deletion, and asks ``transitions`` what is next. All
that must survive this process is with the runtime (its containers, by label) and in a checkpoint of each pod's spec: an
engine that is made anew adopts both, and nothing is restarted.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from virtual_kubelet.clock import Clock
from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.pods import PodKey, PodStatusCallback
from virtual_kubelet.contracts.runtime import (
    ContainerConfig,
    ContainerExit,
    ContainerInstance,
    ContainerRuntime,
    ContainerStartError,
)
from virtual_kubelet.errors import InvalidInputError, NotFoundError
from virtual_kubelet.objects.core_v1 import Pod, PodCondition, PodStatus
from virtual_kubelet.runtime.checkpoint import PodCheckpoints
from virtual_kubelet.runtime.status import ContainerView, build_status
from virtual_kubelet.runtime.transitions import BACKOFF_INITIAL, backoff_of, next_steps
from virtual_kubelet.telemetry.logs import bind, get_logger

__all__ = ["PodEngine"]

log = get_logger(__name__)

#: Ended runs of a container that are kept, the newest included: the one before is for ``kubectl logs --previous``.
_KEPT_RUNS: Final = 2


class _EnginePod:
    """One pod; everything of it happens in its own task."""

    def __init__(self, pod: Pod, start_time: datetime) -> None:
        self.pod = pod
        self.start_time = start_time
        self.init = [ContainerView(c) for c in pod.spec.init_containers or ()]
        self.main = [ContainerView(c) for c in pod.spec.containers]
        self.wake = asyncio.Event()
        self.deleting = False
        self.deadline: float | None = None  # loop time at which SIGKILL is due
        self.killed = False
        self.gone = asyncio.Event()
        self.status = PodStatus(phase="Pending")
        self.conditions: dict[str, PodCondition] = {}
        self.ids: dict[str, ContainerView] = {}
        self.runs: dict[str, list[str]] = {}  # container name -> ids, oldest first
        self.task: asyncio.Task[None] | None = None

    @property
    def views(self) -> list[ContainerView]:
        return [*self.init, *self.main]


class PodEngine:
    """See the module's docstring. Run it as an async context manager; leaving it leaves the containers running.

    Args:
        runtime: starts and ends containers.
        checkpoints: where pods are remembered.
        clock: for times in statuses; waiting is on the loop's time.
        host_ips: for statuses.
        kill_grace: seconds to wait after SIGKILL before it is sent again.
    """

    def __init__(
        self,
        runtime: ContainerRuntime,
        *,
        checkpoints: PodCheckpoints,
        clock: Clock,
        host_ips: Sequence[str] = (),
        kill_grace: float = 2.0,
    ) -> None:
        self._runtime = runtime
        self._checkpoints = checkpoints
        self._clock = clock
        self._host_ips = [ip for ip in host_ips if ip]
        self._kill_grace = kill_grace
        self._pods: dict[PodKey, _EnginePod] = {}
        self._notify: PodStatusCallback = _nobody
        self._tasks: asyncio.TaskGroup | None = None
        runtime.notify_exits(self._exited)

    async def __aenter__(self) -> PodEngine:
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
        await asyncio.to_thread(self._checkpoints.save, pod, now)
        held = self._pods[key] = _EnginePod(pod, now)
        self._report(key, held)
        self._start(key, held)

    async def update_pod(self, pod: Pod) -> None:
        key = PodKey.of(pod)
        held = self._pods.get(key)
        if held is None:
            raise NotFoundError(f"pod {key.name} is not known")
        # Of a running pod only metadata and the deadline change without a restart; new images wait for the next run.
        images = {c.name: c.image for c in (*(pod.spec.init_containers or ()), *pod.spec.containers)}
        for view in held.views:
            view.container.image = images.get(view.container.name, view.container.image)
        held.pod = pod
        await asyncio.to_thread(self._checkpoints.save, pod, held.start_time)

    async def delete_pod(self, pod: Pod) -> None:
        held = self._pods.get(PodKey.of(pod))
        if held is None:
            raise NotFoundError(f"pod {pod.metadata.name} is not known")
        grace = pod.metadata.deletion_grace_period_seconds
        if grace is None:
            grace = pod.spec.termination_grace_period_seconds
        deadline = asyncio.get_running_loop().time() + max(0, 30 if grace is None else grace)
        # A second, shorter grace period counts at once; a longer one never prolongs.
        held.deadline = deadline if held.deadline is None else min(held.deadline, deadline)
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
        if held is None or all(v.container.name != container for v in held.views):
            raise NotFoundError(f'container "{container}" not found in pod "{key.name}"')
        ids = held.runs.get(container, [])
        if options.previous and len(ids) < 2:
            raise InvalidInputError(f'previous terminated container "{container}" in pod "{key.name}" not found')
        if not ids:
            raise InvalidInputError(
                f'container "{container}" in pod "{key.name}" is waiting to start: ContainerCreating'
            )
        async for line in self._runtime.container_logs(ids[-2] if options.previous else ids[-1], options):
            yield line

    # One pod's task

    def _start(self, key: PodKey, held: _EnginePod) -> None:
        assert self._tasks is not None
        held.task = self._tasks.create_task(self._run(key, held), name=f"pod {key}")

    async def _run(self, key: PodKey, held: _EnginePod) -> None:
        with bind(namespace=key.namespace, pod=key.name, uid=key.uid):
            while not held.deleting:
                held.wake.clear()
                wait = await self._advance(key, held)
                try:
                    async with asyncio.timeout(wait):
                        await held.wake.wait()
                except TimeoutError:
                    continue
            await self._end(key, held)

    async def _advance(self, key: PodKey, held: _EnginePod) -> float | None:
        """Start what is due; gives the seconds until something else is, or None."""
        policy = held.pod.spec.restart_policy or "Always"
        now = self._clock.now()
        wait: float | None = None
        steps = next_steps([v.run for v in held.init], [v.run for v in held.main], policy, now)
        for step in steps:
            if step.at is not None:
                seconds = max(0.01, (step.at - now).total_seconds())
                wait = seconds if wait is None else min(wait, seconds)
            elif not held.deleting:
                view = next(v for v in held.views if v.run is step.run)
                await self._start_container(held, view)
                held.wake.set()  # look again: a failed start has its back-off, the next container its turn
        self._report(key, held)
        return wait

    async def _start_container(self, held: _EnginePod, view: ContainerView) -> None:
        run = view.run
        config = ContainerConfig(held.pod, view.container, run.attempts, init=view in held.init)
        try:
            instance = await self._runtime.start_container(config)
        except ContainerStartError as error:
            now = self._clock.now()
            if error.exit_code is None:
                view.failure = (error.reason, str(error))
                run.start_failed_at = now
                run.backoff = min(timedelta(seconds=300), max(BACKOFF_INITIAL, run.backoff * 2))
                return
            self._began(view, now)
            run.exit = ContainerExit(error.exit_code, now, reason=error.reason, message=str(error))
            run.backoff = backoff_of(run)
            return
        except Exception as error:
            # Whatever a runtime raises: it is shown in the container's status and tried again, never swallowed.
            log.warning("container %s could not be started", view.container.name, exc_info=error)
            view.failure = ("CreateContainerError", str(error) or type(error).__name__)
            run.start_failed_at = self._clock.now()
            run.backoff = min(timedelta(seconds=300), max(BACKOFF_INITIAL, run.backoff * 2))
            return
        self._began(view, instance.started_at)
        self._know(held, view, instance.id)
        if instance.exit is not None:
            self._take_exit(view, instance.exit)
        for old in held.runs[view.container.name][:-_KEPT_RUNS]:
            await self._runtime.remove_container(old)
            held.runs[view.container.name].remove(old)
            held.ids.pop(old, None)

    def _began(self, view: ContainerView, started_at: datetime) -> None:
        run = view.run
        if run.exit is not None:
            view.last, view.last_id, view.last_started = run.exit, view.id, run.started_at
        view.failure = None
        run.attempts += 1
        run.started_at, run.exit, run.start_failed_at = started_at, None, None

    def _know(self, held: _EnginePod, view: ContainerView, container_id: str) -> None:
        view.id = container_id
        held.ids[container_id] = view
        held.runs.setdefault(view.container.name, []).append(container_id)

    def _exited(self, container_id: str, ended: ContainerExit) -> None:
        for key, held in self._pods.items():
            view = held.ids.get(container_id)
            if view is not None:
                if view.id == container_id:
                    self._take_exit(view, ended)
                    self._report(key, held)
                    held.wake.set()
                return

    def _take_exit(self, view: ContainerView, ended: ContainerExit) -> None:
        if view.run.exit is None:
            view.run.exit = ended
            view.run.backoff = backoff_of(view.run)

    async def _end(self, key: PodKey, held: _EnginePod) -> None:
        """SIGTERM to all that runs, SIGKILL when the grace period is over; then forget the pod."""
        loop = asyncio.get_running_loop()
        told: set[str] = set()
        while True:
            held.wake.clear()
            running = [v for v in held.views if v.run.running]
            if not running:
                break
            assert held.deadline is not None
            left = held.deadline - loop.time()
            for view in running:
                if left <= 0:
                    await self._runtime.signal_container(view.id, signal.SIGKILL)
                elif view.id not in told:
                    told.add(view.id)
                    await self._runtime.signal_container(view.id, signal.SIGTERM)
            try:
                async with asyncio.timeout(left if left > 0 else self._kill_grace):
                    await held.wake.wait()
            except TimeoutError:
                continue
        self._report(key, held)
        for container_id in list(held.ids):
            await self._runtime.remove_container(container_id)
        await asyncio.to_thread(self._checkpoints.remove, key)
        if self._pods.get(key) is held:
            del self._pods[key]
        held.gone.set()

    def _report(self, key: PodKey, held: _EnginePod) -> None:
        status = build_status(
            held.pod,
            held.init,
            held.main,
            start_time=held.start_time,
            now=self._clock.now(),
            host_ips=self._host_ips,
            pod_ips=self._runtime.pod_ips(held.pod),
            known=held.conditions,
            deleting=held.deleting,
        )
        if status == held.status:
            return
        held.status = status
        held.conditions = {c.type: c for c in status.conditions or ()}
        self._notify(key, status)

    # Adoption

    async def _adopt(self) -> None:
        """Take over what an earlier process left: pods by their checkpoints, containers by their labels."""
        instances = sorted(await self._runtime.list_containers(), key=lambda i: int(i.labels.get("attempt", "0")))
        for pod, start_time in await asyncio.to_thread(self._checkpoints.load):
            self._pods[PodKey.of(pod)] = _EnginePod(pod, start_time)
        by_uid = {key.uid: held for key, held in self._pods.items()}
        for instance in instances:
            held = by_uid.get(instance.labels.get("uid", ""))
            view = (
                None
                if held is None
                else next((v for v in held.views if v.container.name == instance.labels.get("container")), None)
            )
            if held is None or view is None:
                log.warning("a container of no pod that is known is removed", extra={"container": instance.id})
                await self._runtime.remove_container(instance.id)
                continue
            self._adopt_container(held, view, instance)
        for key, held in self._pods.items():
            self._report(key, held)
            self._start(key, held)

    def _adopt_container(self, held: _EnginePod, view: ContainerView, instance: ContainerInstance) -> None:
        view.run.attempts = int(instance.labels.get("attempt", "0"))
        backoff = view.run.backoff
        self._began(view, instance.started_at)
        self._know(held, view, instance.id)
        view.run.backoff = backoff
        if instance.exit is not None:
            self._take_exit(view, instance.exit)


def _nobody(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
    """Statuses before ``notify_pods``: they are asked for then."""

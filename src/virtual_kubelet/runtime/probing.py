"""Runs probes: the shell around ``probe_state``. For the pod engine:

    prober = Prober(clock=clock)                            # one an engine
    async with prober.pod(pod, on_result=..., on_event=...) as probes:    # in the pod's own task
        probes.begin(target, started_at)                    # a container of it runs
        probes.started("main"), probes.ready("main")        # for its status; both False once it has ended
        probes.end("main")                                  # it has ended
        probes.terminate()                                  # the pod is being ended: liveness and startup rest

``begin``, ``end`` and ``terminate`` do not block and may come in any order; ``begin`` of a container that runs already is
its next run. ``on_result(container, kind, result, message)`` is called when a result changes, so that ``started`` or
``ready`` may have: the status is to be made anew. If ``kind.ends_container`` and ``result`` is a failure, the engine ends
the container (``grace_after_failure`` says in which time) and ``begin``s its next run. ``on_event(container, type, reason,
message)`` is called for each run that is not well: ``Unhealthy``, ``ProbeWarning``. Both are called in the loop's thread
and must not block or raise.

A container that an earlier process began: ``adopt`` instead of ``begin``, with what the checkpoint or the last status says
of this very run. Its probes go on, spread over their first period; what was said of it holds until they say otherwise.

Each probe that is due or waits has one task, which belongs to the pod's context; leaving that ends them. A run is given up
after ``timeoutSeconds`` and has failed then. A command that the runtime does not end counts as failed at each period until
it does. All pods together make ``concurrency`` runs at a time; who waits for its turn is not timed meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Final, Protocol, TypeAlias

from virtual_kubelet.clock import Clock
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.probes import ProbeStatistics
from virtual_kubelet.objects.core_v1 import Pod, Probe
from virtual_kubelet.runtime.bounded_call import LeftBehind
from virtual_kubelet.runtime.probe_counter import ProbeCounter
from virtual_kubelet.runtime.probe_state import ContainerProbes, ProbeKind, ProbeResult
from virtual_kubelet.runtime.probes.execute import execute_probe
from virtual_kubelet.runtime.probes.target import ContainerTarget, Outcome, ProbeAnswer, ProbeError
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["EventSink", "PodProbes", "ProbeExecutor", "Prober", "ResultSink"]

log = get_logger(__name__)

#: container, kind, result, message of the run that changed it.
ResultSink: TypeAlias = Callable[[str, ProbeKind, ProbeResult, str], None]
#: container, event type, reason, message.
EventSink: TypeAlias = Callable[[str, str, str, str], None]

#: How often a run that could not be made is tried at once (prober.go, maxProbeRetries).
_TRIES: Final = 3
_CONCURRENCY: Final = 512


class ProbeExecutor(Protocol):
    """Runs one probe once, within its time-out. Raises ``ProbeError`` if it could not be made."""

    async def __call__(self, probe: Probe, target: ContainerTarget, left: LeftBehind) -> ProbeAnswer: ...


class Prober:
    """What the pods of one engine share.

    Args:
        concurrency: runs of probes at a time. It is to protect the machine; a probe that hangs fills a place of it for its
            ``timeoutSeconds``.
        spread: how much of its period an adopted container's probe waits at first, from 0 to 1.
        execute: runs a probe.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        concurrency: int = _CONCURRENCY,
        spread: Callable[[], float] = random.random,
        execute: ProbeExecutor = execute_probe,
    ) -> None:
        self.clock = clock
        self.execute = execute
        self.spread = spread
        self.places = asyncio.Semaphore(concurrency)
        self._pods: set[PodProbes] = set()

    def pod(self, pod: Pod, *, on_result: ResultSink, on_event: EventSink) -> PodProbes:
        """The probes of a pod; see the module's docstring."""
        return PodProbes(self, pod, on_result, on_event)

    def statistics(self) -> list[ProbeStatistics]:
        """For ``/metrics/probes``."""
        return [one for pod in self._pods for one in pod.statistics()]

    def _enter(self, pod: PodProbes) -> None:
        self._pods.add(pod)

    def _leave(self, pod: PodProbes) -> None:
        self._pods.discard(pod)


class PodProbes:
    """The probes of one pod's containers, while its context lasts. Made by ``Prober.pod``."""

    def __init__(self, prober: Prober, pod: Pod, on_result: ResultSink, on_event: EventSink) -> None:
        self._prober = prober
        self._key = PodKey.of(pod)
        self._on_result = on_result
        self._on_event = on_event
        self._containers: dict[str, ContainerProbes] = {}
        self._targets: dict[str, ContainerTarget] = {}
        self._running: dict[tuple[str, ProbeKind], asyncio.Task[None]] = {}
        self._counters: dict[tuple[str, ProbeKind], ProbeCounter] = {}
        self._terminating = False
        self._tasks = asyncio.TaskGroup()

    async def __aenter__(self) -> PodProbes:
        await self._tasks.__aenter__()
        self._prober._enter(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._prober._leave(self)
        for name in self._containers:
            self.end(name)
        await self._tasks.__aexit__(kind, error, traceback)

    def begin(self, target: ContainerTarget, started_at: float) -> None:
        """A container has started: at ``started_at``, on the monotonic clock."""
        probes = self._replace(target)
        probes.begin(started_at, self._prober.clock.monotonic())
        self._settle(target.container.name)

    def adopt(self, target: ContainerTarget, started_at: float, *, started: bool, ready: bool) -> None:
        """A container runs that an earlier process began.

        Args:
            started_at: when it began, on the monotonic clock of this process: in the past.
            started, ready: what its status said of this run.
        """
        probes, now, spread = self._replace(target), self._prober.clock.monotonic(), self._prober.spread()
        probes.begin(started_at, now, was_started=started, was_ready=ready, spread=spread)
        self._settle(target.container.name)

    def _replace(self, target: ContainerTarget) -> ContainerProbes:
        name = target.container.name
        self.end(name)
        probes = self._containers[name] = ContainerProbes(target.container)
        self._targets[name] = target
        if self._terminating:
            probes.terminate()
        return probes

    def end(self, container: str) -> None:
        """A container has ended; no error if it never began."""
        probes = self._containers.get(container)
        if probes is not None:
            probes.end()
            self._settle(container)

    def terminate(self) -> None:
        """The pod is being ended: from now on only readiness is probed."""
        self._terminating = True
        for name, probes in self._containers.items():
            probes.terminate()
            self._settle(name)

    def started(self, container: str) -> bool:
        """Whether it runs and has passed its startup probe, if it has one."""
        probes = self._containers.get(container)
        return probes is not None and probes.started

    def ready(self, container: str) -> bool:
        """Whether it has started and passes its readiness probe, if it has one."""
        probes = self._containers.get(container)
        return probes is not None and probes.ready

    def failed(self, container: str) -> ProbeKind | None:
        """The probe because of which this run of the container has to end."""
        probes = self._containers.get(container)
        return None if probes is None else probes.failed

    def statistics(self) -> list[ProbeStatistics]:
        """What its probes have counted."""
        return [
            ProbeStatistics(self._key, name, kind.value, *counter.read())
            for (name, kind), counter in self._counters.items()
        ]

    def _settle(self, container: str) -> None:
        """Make it so that just those probes have a task that have something due."""
        probes = self._containers[container]
        due = probes.due
        for kind in probes.specs:
            at = (container, kind)
            task = self._running.get(at)
            if kind in due and task is None:
                self._counters.setdefault(at, ProbeCounter())
                name = f"{kind.lower()} probe of {container} in {self._key}"
                started = self._tasks.create_task(self._probe(probes, kind, self._targets[container]), name=name)
                self._running[at] = started
            elif kind not in due and task is not None:
                del self._running[at]
                if task is not asyncio.current_task():
                    task.cancel()

    async def _probe(self, probes: ContainerProbes, kind: ProbeKind, target: ContainerTarget) -> None:
        clock, state, name = self._prober.clock, probes.states[kind], target.container.name
        left = LeftBehind()
        while state.due is not None:
            await asyncio.sleep(max(0.0, state.due - clock.monotonic()))
            async with self._prober.places:
                began = clock.monotonic()
                answer = await self._run(probes.specs[kind], kind, target, left)
                now = clock.monotonic()
            result = None if answer is None else _result_of(answer)
            if result is not None:
                self._counters[name, kind].count(result, now - began)
            if probes.take(kind, result, began, now):
                assert answer is not None
                self._settle(name)
                self._on_result(name, kind, state.result, answer.message)

    async def _run(
        self, probe: Probe, kind: ProbeKind, target: ContainerTarget, left: LeftBehind
    ) -> ProbeAnswer | None:
        """One run, with its event; None if it could not be made."""
        name = target.container.name
        if left:
            answer = ProbeAnswer(Outcome.FAILURE, "the command of the probe before has not ended yet")
        else:
            try:
                answer = await self._try(probe, target, left)
            except Exception as error:
                if not isinstance(error, ProbeError):
                    # As a kubelet's worker does: a fault in one probe ends neither it nor the pod.
                    log.exception("a %s probe of container %s could not be made", kind.lower(), name)
                text = f"{kind} probe errored and resulted in unknown state: {error}"
                self._on_event(name, "Warning", "Unhealthy", text)
                return None
        if answer.outcome is Outcome.FAILURE:
            self._on_event(name, "Warning", "Unhealthy", f"{kind} probe failed: {answer.message}")
        elif answer.outcome is Outcome.WARNING:
            self._on_event(name, "Warning", "ProbeWarning", f"{kind} probe warning: {answer.message}")
        return answer

    async def _try(self, probe: Probe, target: ContainerTarget, left: LeftBehind) -> ProbeAnswer:
        for _ in range(_TRIES - 1):
            try:
                return await self._prober.execute(probe, target, left)
            except ProbeError:
                continue
        return await self._prober.execute(probe, target, left)


def _result_of(answer: ProbeAnswer) -> ProbeResult:
    return ProbeResult.FAILURE if answer.outcome is Outcome.FAILURE else ProbeResult.SUCCESS

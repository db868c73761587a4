"""One pod's task: takes what happens, asks the tables, does what they say, tells the status. It decides nothing.

Whatever takes time is a task of its own that puts an event into the inbox when it is over; so a deletion, or a shorter
grace period, is never behind a pull or a hook. What a checkpoint has to know is on disk before it is acted upon.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Final

import msgspec

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import ContainerExit, ContainerInstance
from virtual_kubelet.objects.core_v1 import PodStatus
from virtual_kubelet.runtime import pod_actions as do
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.adoption import adopt_instances
from virtual_kubelet.runtime.engine_parts import EngineParts
from virtual_kubelet.runtime.next_steps import advance, is_over
from virtual_kubelet.runtime.pod_operations import PodOperations
from virtual_kubelet.runtime.pod_state import ContainerPhase, PodStage, PodState
from virtual_kubelet.runtime.retries import LONGEST, retries
from virtual_kubelet.runtime.status import build_status
from virtual_kubelet.runtime.transitions import apply
from virtual_kubelet.telemetry.logs import bind, get_logger
from virtual_kubelet.telemetry.tracing import span

__all__ = ["PodTask"]

log = get_logger(__name__)

#: Seconds; a loop may wake a little before the time.
_SHORTEST_WAIT: Final = 0.01
#: Seconds, at most, that the end of a deleted pod is not told because the runtime is not clear of it.
_CLEARING: Final = 10.0
_STARTS: Final = frozenset({ContainerPhase.STARTING, ContainerPhase.POST_START})


class PodTask:
    """Run ``run``; ``post`` events. ``state`` is only its to change."""

    def __init__(self, parts: EngineParts, state: PodState) -> None:
        self.state = state
        self.key = PodKey.of(state.pod)
        self.status = PodStatus(phase="Pending")
        self.task: asyncio.Task[None] | None = None
        self._parts = parts
        self._inbox: list[on.ContainerEvent | on.PodEvent] = []
        self._wake = asyncio.Event()
        self._saved = b""
        self._unsaved = True
        self._untold: list[PodStatus] = []
        self._held_since: float | None = None
        self._operations = PodOperations(parts, state, self.key, self)
        self._adopted: list[do.Action] = []

    @property
    def gone(self) -> bool:
        return self.state.stage is PodStage.GONE

    def is_going(self, now: float) -> bool:
        """Whether it is deleted and its time is over, or nothing of it runs any more."""
        ending = self.state.ending
        until = [event.until for event in self._inbox if isinstance(event, on.Deleted)]
        if self.state.deleting and ending is not None:
            until.append(ending.until)
        return self.state.stage is PodStage.REMOVING or min(until, default=math.inf) <= now

    def post(self, event: on.ContainerEvent | on.PodEvent) -> None:
        """It has happened; never blocks."""
        self._inbox.append(event)
        self._wake.set()

    def wake(self) -> None:
        """Look again."""
        self._wake.set()

    def container_exited(self, name: str, container_id: str, ended: ContainerExit) -> None:
        self._operations.read_end(name, container_id, ended)

    def sandbox_exited(self, sandbox_id: str) -> None:
        self.post(on.SandboxLost(sandbox_id))

    def adopt(self, instances: Sequence[ContainerInstance], sandboxes: Sequence[str] | None) -> None:
        """Before ``run``: bring the state in line with what the runtime has. ``sandboxes``: ids of those that are alive."""
        parts, state = self._parts, self.state
        self._adopted = adopt_instances(state, instances, parts.options.transitions, parts.now())
        if sandboxes is not None and state.sandbox is not None:
            parts.index.sandboxes[state.sandbox.id] = self
            if state.sandbox.id not in sandboxes:
                self._adopted += apply(state, on.SandboxLost(state.sandbox.id), parts.options.transitions, parts.now())
        for instance in instances:
            record = state.find(instance.labels.get("container", ""))
            ended = parts.index.own(self, instance.labels.get("container", ""), instance)
            if record is not None and record.run is not None and record.run.id == instance.id and record.up and ended:
                self._adopted += apply(
                    state, on.Exited(record.name, instance.id, ended), parts.options.transitions, parts.now()
                )
        self.report()
        self.tell()

    async def run(self) -> None:
        """Until the pod is gone, or cancelled; what runs goes on running then."""
        key = self.key
        with bind(namespace=key.namespace, pod=key.name, uid=key.uid):
            async with self._operations:
                await self._run()

    async def _run(self) -> None:
        backoff = retries()
        adopted, self._adopted = self._adopted, []
        self._operations.resume()
        while not self.gone:
            self._wake.clear()
            try:
                with span("sync pod", namespace=self.key.namespace, pod=self.key.name):
                    wait = await self._sync(adopted)
                backoff.healthy()
                adopted = []
            except Exception as error:
                # A fault of ours: the pod's task outlives it, says it, and tries again.
                log.error("a pod could not be brought forward: %s", error, exc_info=error)
                wait = backoff.next()
            if self.gone:
                return
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _sync(self, actions: Sequence[do.Action]) -> float | None:
        """Take what has happened, and go on from there; gives the seconds until the next look."""
        parts, state, options = self._parts, self.state, self._parts.options.transitions
        due = [*actions]
        events, self._inbox = self._inbox, []
        for event in events:
            made = apply(state, event, options, parts.now())
            # What ends the pod is told with its end.
            if any(isinstance(action, do.Report) for action in made) and not is_over(state):
                self.report()
            due += made
        now = parts.now()
        steps = advance(state, options, now)
        # State changes by events and by steps, and each of these has something to be done.
        self._unsaved |= bool(events or steps.actions or actions)
        due += steps.actions
        held = self._held_until(now.monotonic)
        if any(isinstance(action, do.Report) for action in steps.actions) or held is None:
            self.report()
        retry = await self._save()
        self.tell()
        for action in due:
            self._operations.perform(action)
        times = [at for at in (steps.at, held) if at is not None]
        waits = [max(_SHORTEST_WAIT, min(times) - now.monotonic)] if times else []
        return min([*waits, *([] if retry is None else [retry])], default=None)

    def _held_until(self, now: float) -> float | None:
        """Until when a status waits for what is to be told with it; None: not at all.

        That is a start which is under way. And of a pod that is deleted, that the runtime is clear of it: then its object
        goes, and perhaps this node. But its end is told within its grace period, as far as that goes.
        """
        state = self.state
        clearing = state.stage is PodStage.REMOVING and not state.cleared
        if not clearing and not any(record.phase in _STARTS for record in state.containers):
            self._held_since = None
            return None
        if self._held_since is None:
            self._held_since = now
        until = self._held_since + self._parts.options.hold_reports
        if clearing and state.ending is not None:
            until = max(until, min(state.ending.until, self._held_since + _CLEARING))
        if now < until:
            return until
        self._held_since = None
        return None

    def report(self) -> None:
        """The status as it is now is to be told, if it is another than before."""
        parts, state = self._parts, self.state
        pod = parts.context.pods.get(self.key.namespace, self.key.name) if state.pod.spec.readiness_gates else None
        same = pod is not None and pod.metadata.uid == self.key.uid
        status = build_status(
            state,
            host_ips=parts.host_ips,
            pod_ips=self._operations.pod_ips,
            now=parts.now().wall,
            others=(pod.status.conditions or ()) if pod is not None and same else (),
            runtime_name=parts.options.runtime_name,
        )
        if status == self.status:
            return
        self.status, self._unsaved = status, True
        state.conditions = status.conditions or []
        self._untold.append(status)

    def tell(self) -> None:
        """Tell what is to be told: once it is on disk, so that a new process of the node takes nothing of it back."""
        untold, self._untold = self._untold, []
        for status in untold:
            self._parts.notify(self.key, status)

    async def _save(self) -> float | None:
        """Write the checkpoint, if it says something else than before. A disk that is full holds nothing up: it is tried
        again, in the seconds that are given then."""
        parts, state = self._parts, self.state
        if not self._unsaved or state.stage in (PodStage.REMOVING, PodStage.GONE):
            return None
        content = msgspec.json.encode(state)
        if content == self._saved:
            self._unsaved = False
            return None
        try:
            await asyncio.to_thread(parts.checkpoints.save, self.key.uid, parts.checkpoints.seal(content, parts.now()))
        except OSError as error:
            message = f"Failed to write the pod's checkpoint: {error.strerror or error}"
            parts.context.record_event(self.key, "Warning", "FailedCheckpoint", message)
            log.error("the pod's checkpoint could not be written: %s", error)
            return LONGEST
        self._saved, self._unsaved = content, False
        return None

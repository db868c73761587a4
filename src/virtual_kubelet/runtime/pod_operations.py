"""What a pod's task does: each action of the tables, as a task of its own that tells how it came out.

Nothing here decides. An operation that is under way is not begun again; one that may fail for a while (removing) is tried
until it succeeds, all others say that they failed, and the tables say what then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from shutil import rmtree
from typing import Any, Protocol

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import ContainerExit
from virtual_kubelet.errors import MountError, text_of
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.runtime import pod_actions as do
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.container_environment import ContainerEnvironment
from virtual_kubelet.runtime.container_probing import ContainerProbing
from virtual_kubelet.runtime.container_resize import resize
from virtual_kubelet.runtime.container_start import ContainerStarts, pod_ips
from virtual_kubelet.runtime.dns import MISSING_CLUSTER_DNS, NodeDns, pod_dns
from virtual_kubelet.runtime.engine_parts import EngineParts, ExitSink
from virtual_kubelet.runtime.field_path import field_path
from virtual_kubelet.runtime.hooks import HookFailedError
from virtual_kubelet.runtime.pod_state import PodStage, PodState
from virtual_kubelet.runtime.retries import retries
from virtual_kubelet.runtime.termination_message import TAIL, fallback_message, read_message, tail_of_log
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.volumes.pod_volumes import PodVolumes

__all__ = ["PodOperations"]

log = get_logger(__name__)


class PodInbox(ExitSink, Protocol):
    """The pod's task."""

    def post(self, event: on.ContainerEvent | on.PodEvent) -> None: ...

    def wake(self) -> None: ...


class PodOperations:
    """An async context manager; leaving it cancels what is under way."""

    def __init__(self, parts: EngineParts, state: PodState, key: PodKey, inbox: PodInbox) -> None:
        self._parts = parts
        self._state = state
        self._key = key
        self._inbox = inbox
        self._volumes = PodVolumes(parts.directory, key, parts.volume_sources, changed=self._files_changed)
        self._environment = ContainerEnvironment(parts.environment_sources, changed=self._sources_changed)
        self._starts = ContainerStarts(parts, state, key, inbox, self._volumes, self._environment)
        self._probes = ContainerProbing(parts, state, key, inbox)
        self._refreshes = False
        self._under_way: dict[tuple[str, ...], asyncio.Task[None]] = {}
        self._open = AsyncExitStack()
        self._tasks: asyncio.TaskGroup | None = None
        self._closed = False
        self._early_ends: list[tuple[str, str, ContainerExit]] = []

    async def __aenter__(self) -> PodOperations:
        await self._open.enter_async_context(self._probes)
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        for early in self._early_ends:
            self.read_end(*early)
        self._early_ends.clear()
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None:
        for task in self._under_way.values():
            task.cancel()
        tasks, self._tasks, self._closed = self._tasks, None, True
        assert tasks is not None
        try:
            await tasks.__aexit__(kind, error, trace)
        finally:
            self._volumes.release()
            self._environment.release()
            await self._open.aclose()

    @property
    def pod_ips(self) -> Sequence[str]:
        return pod_ips(self._parts, self._state)

    def resume(self) -> None:
        """Of a pod that an earlier process had: its volumes are kept up to date, its containers probed."""
        if self._state.stage not in (PodStage.PREPARING, PodStage.REMOVING, PodStage.GONE):
            self._begin(("volumes",), self._bring_volumes_up(self._volumes.prepare))
            self._begin(("usage",), self._watch_usage())
            self._probes.resume()
        if self._state.stage is PodStage.REMOVING:
            self.perform(do.RemovePod())

    def perform(self, action: do.Action) -> None:
        """Begin it, unless it is under way; never blocks."""
        match action:
            case do.Record():
                self._tell(action.container, action.event_type, action.reason, action.message)
            case do.Prepare():
                self._begin(("prepare",), self._prepare())
            case do.Refresh():
                self._refresh_later()
            case do.Start():
                self._begin(("start", action.name), self._starts.start(action.name))
            case do.CutStart():
                if self._starts.may_be_cut(action.name):
                    self._cancel(("start", action.name))
            case do.RunPostStart():
                self._begin(("post-start", action.name), self._post_start(action))
            case do.RunPreStop():
                self._begin(("pre-stop", action.name), self._pre_stop(action))
            case do.CutHook():
                self._cancel(("post-start", action.name))
                self._cancel(("pre-stop", action.name))
            case do.Send():
                self._begin(("signal", action.name), self._send(action))
            case do.Resize():
                self._begin(("resize",), self._resize(action))
            case do.Remove():
                self._begin(("remove",), self._remove(action.ids))
            case do.RemoveSandbox():
                self._begin(("remove-sandbox",), self._remove_sandbox(action.sandbox_id))
            case do.RemovePod():
                self._begin(("remove-pod",), self._remove_pod())
            case do.StartProbes():
                self._probes.begin(action.name)
            case do.StopProbes():
                self._probes.end(action.name, terminating=action.terminating)
            case do.Report():
                pass

    def _begin(self, key: tuple[str, ...], work: Coroutine[Any, Any, None]) -> None:
        if key in self._under_way or self._tasks is None:
            work.close()
            return
        name = f"pod {self._key}: {' '.join(key)}"
        task = self._under_way[key] = self._tasks.create_task(self._run(key, work), name=name)

        def over(task: asyncio.Task[None]) -> None:
            if self._under_way.get(key) is task:  # cancelled before its first step
                del self._under_way[key]
                work.close()
                self._given_up(key)

        task.add_done_callback(over)

    def _given_up(self, key: tuple[str, ...]) -> None:
        if key[0] == "start":
            self._inbox.post(on.NotStarted(key[1]))
        elif key[0] in ("post-start", "pre-stop"):
            self._inbox.post(on.HookDone(key[1], post_start=key[0] == "post-start"))
        else:
            self._inbox.wake()

    async def _run(self, key: tuple[str, ...], work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        finally:
            # In one step with the event that tells how it came out: what follows from that may be the same again.
            del self._under_way[key]
            self._inbox.wake()

    def _cancel(self, key: tuple[str, ...]) -> None:
        task = self._under_way.get(key)
        if task is not None:
            task.cancel()

    # Coming

    async def _prepare(self) -> None:
        pod = self._state.pod
        try:
            await self._volumes.prepare(pod)
        except MountError as error:
            self._record_all(error)
            self._inbox.post(on.PreparationFailed(error.reason, ""))
            return
        except Exception as error:
            # A disk that is full, say: it is shown, and tried again.
            log.warning("a pod's volumes could not be prepared", exc_info=error)
            self._inbox.post(on.PreparationFailed("FailedMount", text_of(error)))
            return
        try:
            sandbox = await self._parts.calls.ensure_sandbox(pod)
        except Exception as error:
            log.warning("a pod's sandbox could not be made", exc_info=error)
            message = f"Failed to create pod sandbox: {text_of(error)}"
            self._inbox.post(on.PreparationFailed("FailedCreatePodSandBox", message))
            return
        if sandbox is not None:
            self._parts.index.sandboxes[sandbox.id] = self._inbox
            self._record_dns(pod)
        self._inbox.post(on.Prepared(sandbox))
        self._begin(("usage",), self._watch_usage())

    def _record_dns(self, pod: Pod) -> None:
        context = self._parts.context
        for event_type, reason, message in pod_dns(pod, NodeDns(context.cluster_dns, context.cluster_domain)).events:
            # That a node knows of no cluster DNS is how it was configured, and no fault of each of its pods.
            if reason != MISSING_CLUSTER_DNS:
                context.record_event(self._key, event_type, reason, message)

    def _record_all(self, error: MountError) -> None:
        for message in error.messages:
            self._parts.context.record_event(self._key, "Warning", error.reason, message)

    def _sources_changed(self) -> None:
        self._inbox.post(on.SourcesChanged())

    def _files_changed(self) -> None:
        self._sources_changed()
        self._refresh_later()

    def _refresh_later(self) -> None:
        """Files are to be brought up to date; never blocks."""
        if self._state.stage in (PodStage.ACTIVE, PodStage.RESETTING, PodStage.ENDING):
            self._refreshes = True
            self._begin(("volumes",), self._bring_volumes_up(self._volumes.refresh))

    async def _bring_volumes_up(self, call: Callable[[Pod], Awaitable[None]]) -> None:
        """Until it has succeeded, and nothing has changed meanwhile. What runs goes on with what it has."""
        backoff = retries()
        while True:
            self._refreshes = False
            try:
                await call(self._state.pod)
                if not self._refreshes:
                    return
                call = self._volumes.refresh
                continue
            except MountError as error:
                self._record_all(error)
            except OSError as error:
                log.warning("a pod's volumes could not be brought up to date: %s", error)
                message = f"MountVolume.SetUp failed: {error.strerror or error}"
                self._parts.context.record_event(self._key, "Warning", "FailedMount", message)
            await asyncio.sleep(backoff.next())

    async def _watch_usage(self) -> None:
        """What of the pod grows beyond its limit is the end of it."""
        if not any(v.empty_dir is not None and v.empty_dir.size_limit for v in self._state.pod.spec.volumes or ()):
            return
        while True:
            await asyncio.sleep(self._parts.options.usage_period)
            try:
                why = await self._volumes.over_limit()
            except OSError as error:
                log.warning("how large the pod's volumes are is not known: %s", error)
                continue
            if why is not None:
                self._inbox.post(on.Evicted(why))
                return

    # Hooks and signals

    def _tell(self, container: str | None, event_type: str, reason: str, message: str) -> None:
        path = field_path(self._state, container)
        self._parts.context.record_event(self._key, event_type, reason, message, field_path=path)

    async def _post_start(self, action: do.RunPostStart) -> None:
        error = None
        try:
            await self._parts.hooks.post_start(self._probes.target(action.name, action.container_id), self._tell)
        except HookFailedError as failure:
            error = str(failure)
        self._inbox.post(on.HookDone(action.name, post_start=True, error=error))

    async def _pre_stop(self, action: do.RunPreStop) -> None:
        target = self._probes.target(action.name, action.container_id)
        try:
            await self._parts.hooks.pre_stop(target, action.seconds, self._tell)
        except asyncio.CancelledError:
            self._inbox.post(on.HookDone(action.name, post_start=False, error="its time was over"))
            raise
        self._inbox.post(on.HookDone(action.name, post_start=False))

    async def _send(self, action: do.Send) -> None:
        try:
            await self._parts.calls.signal_container(action.container_id, action.number)
        except Exception as error:
            log.warning("container %s could not be sent signal %d", action.name, action.number, exc_info=error)
            self._inbox.post(on.SignalFailed(action.name, action.kill))
            return
        self._inbox.post(on.Signalled(action.name, action.number, action.kill))

    async def _resize(self, action: do.Resize) -> None:
        self._inbox.post(await resize(self._parts.calls, self._state, action))

    # Ends

    def read_end(self, name: str, container_id: str, ended: ContainerExit) -> None:
        """A container has ended: what it has left to say is read, and then its end is told."""
        if self._closed:
            return  # the next process hears of it from the runtime
        if self._tasks is None:
            self._early_ends.append((name, container_id, ended))
            return
        self._begin(("end", container_id), self._read_end(name, container_id, ended))

    async def _read_end(self, name: str, container_id: str, ended: ContainerExit) -> None:
        record = self._state.find(name)
        if record is not None and not ended.message:
            container = self._state.spec_of(record)
            run = record.run
            # Its start may not have been taken from the inbox yet.
            attempt = run.attempt if run is not None and run.id == container_id else record.attempts
            path = self._starts.message_file(name, attempt)
            message = await asyncio.to_thread(read_message, path)
            if fallback_message(container, ended.exit_code, message):
                try:
                    async with asyncio.timeout(self._parts.options.timeouts.logs):
                        message = await tail_of_log(self._parts.calls.runtime.container_logs(container_id, TAIL))
                except Exception as error:
                    # Whatever reading the log raises is what there is to say, as with a kubelet.
                    log.warning("the log of container %s could not be read", name, exc_info=error)
                    message = f"Error on reading termination message from logs: {text_of(error)}"
            if message:
                ended = ContainerExit(ended.exit_code, ended.finished_at, ended.signal, ended.reason, message)
        self._inbox.post(on.Exited(name, container_id, ended))

    # Going

    async def _remove(self, ids: Sequence[str]) -> None:
        for container_id in ids:
            await self._until_done(lambda one=container_id: self._parts.calls.remove_container(one))
            self._parts.index.owners.pop(container_id, None)
            self._inbox.post(on.Forget(frozenset({container_id})))

    async def _remove_sandbox(self, sandbox_id: str) -> None:
        self._parts.index.sandboxes.pop(sandbox_id, None)
        await self._until_done(lambda: self._parts.calls.remove_sandbox(sandbox_id))

    async def _remove_pod(self) -> None:
        parts, state = self._parts, self._state
        others = [task for key, task in self._under_way.items() if key != ("remove-pod",)]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)
        ids = {*state.obsolete, *(run.id for r in state.containers for run in (r.run, r.last) if run is not None)}
        if state.unsure:
            await self._until_done(lambda: self._add_unknown(ids))
        for container_id in sorted(ids - {""}):
            await self._until_done(lambda one=container_id: parts.calls.remove_container(one))
            parts.index.owners.pop(container_id, None)
        if state.sandbox is not None:
            await self._remove_sandbox(state.sandbox.id)
        self._inbox.post(on.Cleared())
        await self._until_done(lambda: self._volumes.remove())
        await self._until_done(lambda: asyncio.to_thread(self._remove_files))
        if parts.images is not None:
            parts.images.forget(self._key.uid)
        self._inbox.post(on.Removed())

    async def _add_unknown(self, ids: set[str]) -> None:
        """A start that failed may have left a container behind."""
        for instance in await self._parts.calls.list_containers():
            if instance.labels.get("uid") == self._key.uid:
                ids.add(instance.id)

    def _remove_files(self) -> None:
        directory: Path = self._parts.directory / self._key.uid
        if directory.exists():
            rmtree(directory)
        self._parts.checkpoints.remove(self._key.uid)

    async def _until_done(self, call: Any) -> None:
        backoff = retries()
        while True:
            try:
                await call()
                return
            except Exception as error:
                # Whatever a runtime or a disk raises: nothing of a pod is left behind, however long that takes.
                log.warning("a part of a pod could not be removed: %s", error, exc_info=error)
            await asyncio.sleep(backoff.next())

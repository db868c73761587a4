"""What a user does by the API of a cluster, and what is seen there: pods, their statuses, events, logs and streams."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from virtual_kubelet.errors import ApiNotFoundError, VirtualKubeletError
from virtual_kubelet.kube.client import ApiClient, PatchType
from virtual_kubelet.kube.informer import Informer
from virtual_kubelet.kube.resources import CONFIG_MAPS, EVENTS, PODS, SECRETS
from virtual_kubelet.objects.core_v1 import ConfigMap, Event, Pod, Secret
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.testing.pod_history import PodHistory
from virtual_kubelet.testing.pods import PodBuilder
from virtual_kubelet.testing.user_streams import (
    CommandResult,
    ForwardedPort,
    RemoteSession,
    open_command,
    open_port,
)

__all__ = ["ClusterUser", "NotSeenError", "PodRefusedError"]

#: Seconds that something may take to happen.
PATIENCE: Final = 60.0


class NotSeenError(AssertionError):
    """What should have happened did not.

    Attributes:
        expected: what was waited for.
        seen: what was there instead.
    """

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected: {expected}\nseen: {seen}")
        self.expected = expected
        self.seen = seen


class PodRefusedError(VirtualKubeletError):
    """The node refused the pod at admission, and said which field is why."""


class ClusterUser:
    """A user with rights to everything in one namespace. An async context manager: it watches the namespace's pods.

    Args:
        client: with the rights that are needed.
        namespace: there already, as its service account ``default`` is.
        patience: seconds that whatever is waited for may take, unless a method is told otherwise.
    """

    def __init__(self, client: ApiClient, namespace: str = "default", *, patience: float = PATIENCE) -> None:
        self.client = client
        self.namespace = namespace
        self.patience = patience
        self._histories: dict[str, PodHistory] = {}
        self._changed = asyncio.Condition()
        self._tasks: asyncio.TaskGroup | None = None
        self._watching: asyncio.Task[None] | None = None
        self._tell: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def __aenter__(self) -> ClusterUser:
        informer = Informer(self.client, PODS, namespace=self.namespace)
        informer.add_handler(_Watch(self._saw))
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._watching = self._tasks.create_task(informer.run(), name="user's watch")
        self._tell = self._tasks.create_task(self._tell_waiters(), name="user's waiters")
        try:
            await informer.wait_synced()
        except BaseException:
            await self.__aexit__(*sys.exc_info())
            raise
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        for task in (self._watching, self._tell):
            if task is not None:
                task.cancel()
        assert self._tasks is not None
        # What the block raises stays what it is; only a failure of our own tasks comes as a group.
        cancelled = isinstance(exc_info[1], asyncio.CancelledError)
        await self._tasks.__aexit__(*(exc_info if cancelled else (None, None, None)))

    # Pods

    async def create(self, pod: Pod | PodBuilder) -> Pod:
        """Create it in the user's namespace; gives what the API server made of it."""
        made = pod.build() if isinstance(pod, PodBuilder) else pod
        return await self.client.create(PODS, made, self.namespace)

    async def get(self, pod: Pod | str) -> Pod:
        """As it is now. Raises ``ApiNotFoundError``."""
        return await self.client.get(PODS, _name(pod), self.namespace)

    async def delete(self, pod: Pod | str, grace: int | None = None) -> None:
        """Delete it with its own grace period, or with ``grace`` seconds; a ``Pod`` only if it is still that one.

        It is no error if there is none.
        """
        uid = pod.metadata.uid if isinstance(pod, Pod) else None
        try:
            await self.client.delete(PODS, _name(pod), self.namespace, grace_period_seconds=grace, uid=uid)
        except ApiNotFoundError:
            return

    async def patch(self, pod: Pod | str, change: Any, *, subresource: str | None = None) -> Pod:
        """A strategic merge patch; a list is a JSON patch."""
        kind = PatchType.JSON if isinstance(change, list) else PatchType.STRATEGIC_MERGE
        return await self.client.patch(
            PODS, _name(pod), change, self.namespace, patch_type=kind, subresource=subresource
        )

    def history(self, pod: Pod) -> PodHistory:
        """All that has been seen of it."""
        return self._histories.setdefault(pod.metadata.uid or "", PodHistory())

    async def until(self, pod: Pod, holds: Callable[[Pod], object], expected: str, seconds: float | None = None) -> Pod:
        """The pod, once ``holds`` is true of its newest state. Raises ``NotSeenError``, ``PodRefusedError``."""

        def found(history: PodHistory) -> Pod | None:
            newest = history.newest
            return newest if newest is not None and not history.gone and holds(newest) else None

        return await self._wait(pod, found, expected, seconds)

    async def saw(self, pod: Pod, holds: Callable[[Pod], object], expected: str, seconds: float | None = None) -> Pod:
        """Its first state of which ``holds`` is true, even if it lasted only a moment. Errors as of ``until``."""
        return await self._wait(pod, lambda history: history.first(holds), expected, seconds)

    async def running(self, pod: Pod, seconds: float | None = None) -> Pod:
        """The pod, once it is Running and Ready."""
        return await self.until(pod, _is_ready, "the pod is Running and Ready", seconds)

    async def ended(self, pod: Pod, seconds: float | None = None) -> Pod:
        """The pod, once its phase is Succeeded or Failed."""
        return await self.until(
            pod, lambda one: one.status.phase in ("Succeeded", "Failed"), "the pod is Succeeded or Failed", seconds
        )

    async def gone(self, pod: Pod, seconds: float | None = None) -> Pod:
        """Its last state, once the API object is no more."""
        return await self._wait(
            pod,
            lambda history: history.newest if history.gone else None,
            "the pod is gone from the API",
            seconds,
            refusable=False,
        )

    async def events(self, pod: Pod) -> list[Event]:
        """The events on it (on this UID), oldest first."""
        found = await self.client.list(
            EVENTS, self.namespace, field_selector=f"involvedObject.name={pod.metadata.name}"
        )
        mine = [event for event in found.items if event.involved_object.uid == pod.metadata.uid]
        return sorted(mine, key=lambda event: event.metadata.creation_timestamp or "")

    async def event(self, pod: Pod, reason: str, seconds: float | None = None) -> Event:
        """The first event with this reason, once there is one. Raises ``NotSeenError``, ``PodRefusedError``."""
        events: list[Event] = []
        try:
            async with asyncio.timeout(self.patience if seconds is None else seconds):
                while True:
                    events = await self.events(pod)
                    for event in events:
                        if event.reason == reason:
                            return event
                    if why := _refusal(self.history(pod).newest):
                        raise PodRefusedError(why)
                    await asyncio.sleep(0.2)
        except TimeoutError:
            there = ", ".join(f"{event.reason}: {event.message}" for event in events) or "no events"
            raise NotSeenError(f"an event with reason {reason}", there) from None

    # What pods refer to

    async def config_map(self, name: str, data: dict[str, str]) -> None:
        """Create it."""
        await self.client.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name=name), data=data), self.namespace)

    async def change_config_map(self, name: str, data: dict[str, str | None]) -> None:
        await self.client.send_patch(CONFIG_MAPS, name, {"data": data}, self.namespace)

    async def delete_config_map(self, name: str) -> None:
        await self.client.delete(CONFIG_MAPS, name, self.namespace)

    async def secret(self, name: str, data: dict[str, str]) -> None:
        """Create it; the values are text."""
        await self.client.create(SECRETS, Secret(metadata=ObjectMeta(name=name), string_data=data), self.namespace)

    # Logs and streams

    async def logs(self, pod: Pod | str, container: str = "", seconds: float | None = None, **options: str) -> bytes:
        """A container's log; ``options`` are the API's: ``follow="true"``, ``tailLines="3"``. Raises ``ApiError``."""
        query = {"container": container, **options}
        answer = await self.client.request(
            "GET", self._path(pod, "log"), query=query, timeout=self.patience if seconds is None else seconds
        )
        return answer.body

    async def execute(
        self,
        pod: Pod | str,
        *command: str,
        container: str = "",
        stdin: bytes | None = None,
        seconds: float | None = None,
    ) -> CommandResult:
        """Run a command to its end. Raises ``StreamRefusedError``, ``NotSeenError``."""
        limit = self.patience if seconds is None else seconds
        try:
            async with self.executing(pod, *command, container=container, stdin=stdin is not None) as session:
                if stdin is not None:
                    await session.write(stdin)
                    await session.end_input()
                return await session.wait(limit)
        except TimeoutError:
            raise NotSeenError(f"the command {' '.join(command)} ends", f"nothing of it after {limit:g} s") from None

    def executing(
        self,
        pod: Pod | str,
        *command: str,
        container: str = "",
        stdin: bool = False,
        tty: bool = False,
        reading: bool = True,
    ) -> AbstractAsyncContextManager[RemoteSession]:
        """A command under way. Raises ``StreamRefusedError`` on entry."""
        query = [("command", word) for word in command] + _streams(container, stdin=stdin, tty=tty)
        return open_command(self.client.config, self._path(pod, "exec"), query, reading=reading)

    def attached(
        self, pod: Pod | str, *, container: str = "", stdin: bool = False, tty: bool = False
    ) -> AbstractAsyncContextManager[RemoteSession]:
        """The main process of a container. Raises ``StreamRefusedError`` on entry."""
        query = _streams(container, stdin=stdin, tty=tty)
        return open_command(self.client.config, self._path(pod, "attach"), query)

    def forwarded(self, pod: Pod | str, port: int) -> AbstractAsyncContextManager[ForwardedPort]:
        """A connection to a port. Raises ``StreamRefusedError`` on entry."""
        return open_port(self.client.config, self._path(pod, "portforward"), port)

    async def node(self, name: str, path: str) -> bytes:
        """What a node's own API answers, by the API server's proxy. Raises ``ApiError``."""
        answer = await self.client.request("GET", f"/api/v1/nodes/{name}/proxy/{path}", timeout=self.patience)
        return answer.body

    # Inside

    def _path(self, pod: Pod | str, subresource: str) -> str:
        return PODS.path(_name(pod), self.namespace, subresource)

    def _saw(self, pod: Pod, gone: bool) -> None:
        self.history(pod).add(pod, asyncio.get_running_loop().time(), gone=gone)
        self._news.set()

    async def _tell_waiters(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            async with self._changed:
                self._changed.notify_all()

    async def _wait(
        self,
        pod: Pod,
        found: Callable[[PodHistory], Pod | None],
        expected: str,
        seconds: float | None,
        *,
        refusable: bool = True,
    ) -> Pod:
        limit = self.patience if seconds is None else seconds
        history = self.history(pod)
        try:
            async with asyncio.timeout(limit), self._changed:
                while True:
                    one = found(history)
                    if one is not None:
                        return one
                    if refusable and (why := _refusal(history.newest)):
                        raise PodRefusedError(why)
                    if history.gone:
                        break
                    await self._changed.wait()
        except TimeoutError:
            raise NotSeenError(expected, f"{_now(history)}, after {limit:g} s") from None
        raise NotSeenError(expected, "the pod is gone from the API")


class _Watch:
    def __init__(self, saw: Callable[[Pod, bool], None]) -> None:
        self._saw = saw

    def on_add(self, pod: Pod, /) -> None:
        self._saw(pod, False)

    def on_update(self, old: Pod, new: Pod, /) -> None:
        self._saw(new, False)

    def on_delete(self, pod: Pod, /) -> None:
        self._saw(pod, True)


def _name(pod: Pod | str) -> str:
    return pod if isinstance(pod, str) else pod.metadata.name or ""


def _is_ready(pod: Pod) -> bool:
    return pod.status.phase == "Running" and any(
        c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ()
    )


def _now(history: PodHistory) -> str:
    lines = history.lines(1)
    return lines[-1].strip() if lines else "nothing of it"


def _refusal(pod: Pod | None) -> str:
    """The message of a pod that failed before anything of it ran, if it names a field of its spec."""
    if pod is None or pod.status.phase != "Failed" or "spec." not in (pod.status.message or ""):
        return ""
    statuses = [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]
    began = any(one.container_id or one.restart_count for one in statuses)
    return "" if began else pod.status.message or ""


def _streams(container: str, *, stdin: bool, tty: bool) -> list[tuple[str, str]]:
    query = [("stdout", "true")]
    if container:
        query.append(("container", container))
    if stdin:
        query.append(("stdin", "true"))
    query.append(("tty", "true") if tty else ("stderr", "true"))
    return query

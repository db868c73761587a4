"""What happens in a dev cluster, as lines: nodes, pods and their phases, warnings."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final, TextIO

from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.informer import Informer
from virtual_kubelet.kube.resources import EVENTS, NODES, PODS
from virtual_kubelet.objects.core_v1 import ContainerStatus, Event, Node, Pod

__all__ = ["Activity", "Screen", "describe_pod"]

_COLOURS: Final = {"good": "32", "bad": "31", "wait": "33"}


class Screen:
    """Where lines go; with colours on a terminal (not with NO_COLOR), plain otherwise."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._colours = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def say(self, text: str) -> None:
        """Some lines as they are."""
        self._stream.write(text + "\n")
        self._stream.flush()

    def line(self, kind: str, name: str, text: str, mood: str) -> None:
        """One thing that happened. ``mood`` is ``good``, ``bad`` or ``wait``."""
        if self._colours:
            text = f"\x1b[{_COLOURS[mood]}m{text}\x1b[0m"
        self.say(f"{time.strftime('%H:%M:%S')}  {kind:<8}{name:<28}  {text}")


class Activity:
    """Watches nodes, pods and warnings, and says what changes.

    Args:
        on_pod: called with each new state of a pod, None when it is gone, and its UID.
    """

    def __init__(
        self, client: ApiClient, screen: Screen, on_pod: Callable[[str, Pod | None], None] = lambda uid, pod: None
    ) -> None:
        self._nodes = Informer(client, NODES)
        self._pods = Informer(client, PODS)
        self._events = Informer(client, EVENTS)
        self._nodes.add_handler(_Nodes(screen))
        self._pods.add_handler(_Pods(screen, on_pod))
        self._events.add_handler(_Warnings(screen))

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for informer in (self._nodes, self._pods, self._events):
                tasks.create_task(informer.run())

    async def wait_synced(self) -> None:
        """Until everything that is there has been said."""
        for informer in (self._nodes, self._pods, self._events):
            await informer.wait_synced()


class _Lines:
    """Says what differs from what was said last, by object."""

    def __init__(self, screen: Screen, kind: str) -> None:
        self._screen = screen
        self._kind = kind
        self._said: dict[str, str] = {}

    def say(self, uid: str, name: str, text: str, mood: str) -> None:
        if self._said.get(uid) != text:
            self._said[uid] = text
            self._screen.line(self._kind, name, text, mood)

    def forget(self, uid: str, name: str) -> None:
        self._said.pop(uid, None)
        self._screen.line(self._kind, name, "gone", "wait")


class _Nodes:
    def __init__(self, screen: Screen) -> None:
        self._lines = _Lines(screen, "node")

    def on_add(self, node: Node, /) -> None:
        ready = next((c for c in node.status.conditions or () if c.type == "Ready"), None)
        if ready is not None and ready.status == "True":
            text = "Ready, SchedulingDisabled" if node.spec.unschedulable else "Ready"
        else:
            text = f"NotReady: {ready.message}" if ready is not None and ready.message else "NotReady"
        mood = "good" if text == "Ready" else "wait"
        self._lines.say(node.metadata.uid or "", node.metadata.name or "", text, mood)

    def on_update(self, old: Node, new: Node, /) -> None:
        self.on_add(new)

    def on_delete(self, node: Node, /) -> None:
        self._lines.forget(node.metadata.uid or "", node.metadata.name or "")


class _Pods:
    def __init__(self, screen: Screen, on_pod: Callable[[str, Pod | None], None]) -> None:
        self._lines = _Lines(screen, "pod")
        self._on_pod = on_pod

    def on_add(self, pod: Pod, /) -> None:
        text, mood = describe_pod(pod)
        self._lines.say(pod.metadata.uid or "", _name(pod), text, mood)
        self._on_pod(pod.metadata.uid or "", pod)

    def on_update(self, old: Pod, new: Pod, /) -> None:
        self.on_add(new)

    def on_delete(self, pod: Pod, /) -> None:
        self._lines.forget(pod.metadata.uid or "", _name(pod))
        self._on_pod(pod.metadata.uid or "", None)


class _Warnings:
    def __init__(self, screen: Screen) -> None:
        self._lines = _Lines(screen, "warning")

    def on_add(self, event: Event, /) -> None:
        if event.type == "Warning":
            involved = event.involved_object
            name = "/".join(part for part in (involved.namespace, involved.name) if part)
            self._lines.say(event.metadata.uid or "", name, f"{event.reason}: {event.message}", "bad")

    def on_update(self, old: Event, new: Event, /) -> None:
        self.on_add(new)

    def on_delete(self, event: Event, /) -> None:
        """Events expire: nothing happened."""


def _name(pod: Pod) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def describe_pod(pod: Pod) -> tuple[str, str]:
    """A pod's state in a few words, and whether that is good, bad or to be waited for."""
    status = pod.status
    phase = status.phase or "Pending"
    if phase == "Succeeded":
        return phase, "good"
    if phase == "Failed":
        return ": ".join([phase, *_why_failed(pod)]), "bad"
    if pod.metadata.deletion_timestamp:
        return "Terminating", "wait"
    if phase == "Pending" and not pod.spec.node_name:
        scheduled = next((c for c in status.conditions or () if c.type == "PodScheduled"), None)
        why = scheduled.message if scheduled is not None and scheduled.status == "False" else None
        return (f"Pending: no node yet: {why}", "bad") if why else ("Pending", "wait")
    problems = [
        f"{container.name}: {waiting.reason}" + (f": {waiting.message}" if waiting.message else "")
        for container in _containers(pod)
        if (waiting := container.state.waiting if container.state else None) is not None
        and waiting.reason not in (None, "ContainerCreating", "PodInitializing")
    ]
    if problems:
        return f"{phase}: {'; '.join(problems)}", "bad"
    if status.reason or (phase == "Pending" and status.message):
        return f"{phase}: {' '.join(part for part in (status.reason, status.message) if part)}", "wait"
    restarts = sum(container.restart_count for container in _containers(pod))
    return phase + (f", {restarts} restarts" if restarts else ""), "good" if phase == "Running" else "wait"


def _why_failed(pod: Pod) -> list[str]:
    if pod.status.reason or pod.status.message:
        return [" ".join(part for part in (pod.status.reason, pod.status.message) if part)]
    ended = [
        f"{container.name} ended with exit code {terminated.exit_code}"
        for container in _containers(pod)
        if (terminated := container.state.terminated if container.state else None) is not None
        and terminated.exit_code != 0
    ]
    return ["; ".join(ended)] if ended else []


def _containers(pod: Pod) -> list[ContainerStatus]:
    return [*(pod.status.init_container_statuses or ()), *(pod.status.container_statuses or ())]

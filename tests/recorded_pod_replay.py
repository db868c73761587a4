"""Recorded pods of a real kubelet, done again on a node of the dev cluster, whatever its provider is.

A recorded pod is created with its manifest, and what was done to it is done again: not at the recorded second, but when it
has come to the state in which that was done. Times, and each status, are compared in virtual time
(``tests/runtime/test_kubelet_recordings.py``); here, its ``Course``.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.pod_courses import Course, Snapshot
from tests.runtime.recorded_pods import EventShape, as_json, without_uid
from virtual_kubelet.kube.resources import CONFIG_MAPS, SECRETS
from virtual_kubelet.objects.core_v1 import ConfigMap, HostPathVolumeSource, Pod, Secret, Volume, VolumeMount
from virtual_kubelet.testing.cluster_user import ClusterUser, NotSeenError
from virtual_kubelet.testing.pod_history import PodHistory

__all__ = ["RecordedPod", "differences", "read", "replay", "report"]

#: Where in a container's script the recorded pod took so long that something was seen before; under load it may not be seen
#: in time, so here the script waits for it: for an event of this reason, or for the pod to be Ready.
_WAITS_FOR = {
    "always-completes-loop": ("sleep 1", "Ready"),
    "always-crash-loop": ("sleep 1", "Ready"),
    "host-network": ("sleep 2", "Ready"),
    "http-readiness": ("sleep 6", "Unhealthy"),
    "init-ok": ("sleep 3", "Ready"),
    "never-fails": ("sleep 2", "Ready"),
    "never-succeeds": ("sleep 2", "Ready"),
    "on-failure-completes": ("sleep 1", "Ready"),
    "on-failure-then-succeeds": ("f=/s/n", "Ready"),
    "out-of-memory": ("x=a", "Ready"),
    "readiness-late": ("sleep 6", "Unhealthy"),
    "readiness-lost": ("sleep 8", "Ready"),
    "restart-rules": ("f=/s/n", "Ready"),
    "sidecar": ("sleep 5", "Ready"),
    "sidecar-crashes": ("sleep 4", "Ready"),
    "sidecar-startup-gates-main": ("sleep 4", "Unhealthy"),
    "startup-then-liveness": ("sleep 5", "Unhealthy"),
    "termination-message": ("echo from-file", "Ready"),
    "termination-message-fallback": ("echo from-log", "Ready"),
    "two-containers-one-completes": ("sleep 2", "Ready"),
}
#: Pods that end in time when they are asked to; under load they take longer.
_OBEDIENT = ("sidecar", "sidecars-stop-in-reverse", "pre-stop-and-term", "pre-stop-sleep")
#: Events of the framework, which a kubelet does not have.
_OURS = ("ProviderCreateSuccess", "ProviderUpdateSuccess", "ProviderDeleteSuccess")
#: Whether a server listens before its first probe.
_BY_CHANCE = "connection refused"
#: Beginnings of messages that go on with words of the runtime or the registry.
_RUNTIMES = (("Failed to pull image",), ("Error: failed to create containerd task", "Error: exec: "))
_ADDRESS = re.compile(r"\b\d+\.\d+\.\d+\.\d+\b")


@dataclass(frozen=True)
class RecordedPod:
    """Attributes:
    before: objects that were there.
    steps: statuses, and between them what was done: a verb, and what comes after it.
    events, possible: those that come, and those that may.
    """

    manifest: Any
    before: list[Any]
    steps: list[Snapshot | tuple[str, str]]
    events: set[EventShape]
    possible: set[EventShape] = field(default_factory=set)

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"]["name"])

    @property
    def short_name(self) -> str:
        return self.name.removeprefix("lc-")

    @property
    def waits_for(self) -> tuple[str, str] | None:
        """Where in a script, and what."""
        return _WAITS_FOR.get(self.short_name)

    @property
    def course(self) -> Course:
        return Course.of(one for one in self.steps if isinstance(one, Snapshot))

    @property
    def is_deleted(self) -> bool:
        return any(isinstance(one, tuple) and one[0] == "DELETE" for one in self.steps)

    def pod(self, node: str, gate: Path) -> Pod:
        """For a node. On a machine under load, of which the recording says nothing, probes have time.

        Args:
            gate: a folder of its own, which the pod sees.
        """
        pod = msgspec.convert(self.manifest, Pod)
        pod.spec.node_name = node
        if self.short_name in _OBEDIENT:
            pod.spec.termination_grace_period_seconds = 120
        if self.waits_for is not None:
            place, _ = self.waits_for
            gate.mkdir()
            pod.spec.volumes = [
                *(pod.spec.volumes or ()),
                Volume(name="gate", host_path=HostPathVolumeSource(path=str(gate))),
            ]
            for container in [*(pod.spec.init_containers or ()), *pod.spec.containers]:
                script = (container.command or [""])[-1]
                if place in script:
                    wait = "until [ -e /gate/open ]; do sleep 0.2; done"
                    wait = wait if place.startswith("sleep") else f"{wait}; {place}"
                    container.command = ["sh", "-c", script.replace(place, wait, 1)]
                    gates = VolumeMount(name="gate", mount_path="/gate")
                    container.volume_mounts = [*(container.volume_mounts or ()), gates]
        for container in [*(pod.spec.init_containers or ()), *pod.spec.containers]:
            for probe in (container.liveness_probe, container.readiness_probe, container.startup_probe):
                if probe is not None:
                    probe.timeout_seconds = 30
        return pod


def read(path: Path, until: float = math.inf, without_events: Collection[str] = ()) -> RecordedPod:
    """Args:
    until: seconds; what came later is left out.
    without_events: reasons of events that no node of this kind has.
    """
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    steps: list[Snapshot | tuple[str, str]] = []
    for row in rows[1:]:
        if row.get("t", 0) > until:
            break
        if row.get("status"):
            steps.append(Snapshot.of(row["status"]))
        elif "action" in row:
            verb, _, rest = row["action"].partition(" ")
            steps.append((verb, rest))
    last, manifest = steps[-1], rows[0]["pod"]
    if isinstance(last, Snapshot):
        steps[-1] = last.ended
    if deadline := manifest["spec"].pop("activeDeadlineSeconds", None):
        # It is set when the pod runs: under load it might be over before.
        ready = ("Ready", "True", None, None)
        runs = next(n for n, one in enumerate(steps) if isinstance(one, Snapshot) and ready in one.conditions)
        steps.insert(runs + 1, ("PATCH", json.dumps({"spec": {"activeDeadlineSeconds": deadline}})))
    name = manifest["metadata"]["name"]
    told = [event for row in rows for event in row.get("events", ())]
    events = _told(((one["type"], one["reason"], one["field"], one["message"]) for one in told), name)
    events = {one for one in events if one[1] not in without_events}
    # Of what goes well a node tells no more than its budget: many pods at once have more.
    normal = {one for one in events if one[0] == "Normal"}
    return RecordedPod(manifest, rows[0].get("before") or [], steps, events - normal, normal)


def _told(events: Iterable[EventShape], name: str) -> set[EventShape]:
    """Of a pod's events those that do not depend on the moment, in the words that are a kubelet's own."""
    return {
        (kind, reason, path, _words(message, name))
        for kind, reason, path, message in events
        if reason not in _OURS and _BY_CHANCE not in message
    }


def _words(message: str, name: str) -> str:
    for runtimes in _RUNTIMES:
        if message.startswith(runtimes):
            return runtimes[0]
    return _ADDRESS.sub("ADDRESS", without_uid(message, name))


def differences(
    recorded: RecordedPod, found: Course, events: set[EventShape], wanted: Course | None = None
) -> list[str]:
    """In what another course was taken than the recorded one (or ``wanted``); empty if in nothing."""
    wanted = recorded.course if wanted is None else wanted
    lines = []
    for name in ("phases", "ends", "waits", "conditions", "last"):
        ours, theirs = getattr(found, name), getattr(wanted, name)
        if ours != theirs:
            lines.append(f"{name}: {ours}\n    recorded: {theirs}")
    if missing := recorded.events - events:
        lines.append(f"events that are missing: {missing}")
    if more := events - recorded.events - recorded.possible:
        lines.append(f"events that were not recorded: {more}")
    return lines


def report(differing: Mapping[str, list[str]]) -> str:
    """``differences`` by name, for people."""
    return "\n".join("\n  ".join([name, *lines]) for name, lines in differing.items() if lines)


class _Seen:
    """Snapshots of a pod's history, each made once."""

    def __init__(self, history: PodHistory) -> None:
        self._history = history
        self._made: list[Snapshot] = []

    def all(self) -> list[Snapshot]:
        self._made += [Snapshot.of(as_json(one.pod.status)) for one in self._history.seen[len(self._made) :]]
        return self._made


class _Goal:
    """What had become of a pod when it first covered a course."""

    def __init__(self, seen: _Seen, wanted: Course) -> None:
        self._seen, self._wanted = seen, wanted
        self._looked = 0
        self.reached: Course | None = None

    def look(self) -> bool:
        made = self._seen.all()
        while self.reached is None and self._looked < len(made):
            self._looked += 1
            found = Course.of(made[: self._looked])
            self.reached = found if found.covers(self._wanted) else None
        return self.reached is not None


async def replay(user: ClusterUser, recorded: RecordedPod, pod: Pod, gate: Path) -> tuple[Course, set[EventShape]]:
    """What becomes of ``pod`` when with it is done what was recorded; it is deleted in the end."""
    for made in recorded.before:
        await _create(user, made)
    pod = await user.create(pod)
    seen = _Seen(user.history(pod))
    known: list[Snapshot] = []

    async def comes_so_far() -> Course:
        goal = _Goal(seen, Course.of(known))
        with suppress(NotSeenError):  # what came instead is compared in the end
            await user.until(pod, lambda _: goal.look(), f"{recorded.name} comes so far")
        return goal.reached or Course.of(seen.all())

    async with asyncio.TaskGroup() as tasks:
        opening = tasks.create_task(_open(user, pod, recorded, gate))
        for step in recorded.steps:
            if isinstance(step, Snapshot):
                known.append(step)
            else:
                await comes_so_far()
                await _act(user, pod, *step)
        if not recorded.is_deleted:
            found, events = await comes_so_far(), await _events(user, pod, recorded)
            await user.delete(pod, 0)
        await user.gone(pod)
        opening.cancel()
    if recorded.is_deleted:
        return Course.of(seen.all()), await _events(user, pod, recorded)
    return found, events


def _is_ready(pod: Pod) -> bool:
    return any(one.type == "Ready" and one.status == "True" for one in pod.status.conditions or ())


async def _open(user: ClusterUser, pod: Pod, recorded: RecordedPod, gate: Path) -> None:
    """Let a container go on that waits for something to be seen."""
    if recorded.waits_for is None:
        return
    with suppress(NotSeenError):  # then it does not come so far, which is told
        if recorded.waits_for[1] == "Ready":
            await user.saw(pod, _is_ready, "the pod is Ready")
        else:
            await user.event(pod, recorded.waits_for[1])
    (gate / "open").touch()


async def _create(user: ClusterUser, made: Any) -> None:
    if made["kind"] == "ConfigMap":
        await user.client.create(CONFIG_MAPS, msgspec.convert(made, ConfigMap), user.namespace)
    else:
        await user.client.create(SECRETS, msgspec.convert(made, Secret), user.namespace)


async def _act(user: ClusterUser, pod: Pod, verb: str, rest: str) -> None:
    start = rest.find("{")
    body = json.loads(rest[start:]) if start >= 0 else None
    if verb == "DELETE":
        grace = rest.rpartition("=")[2]
        await user.delete(pod, None if grace == "None" else int(grace))
    elif verb == "POST":
        await _create(user, body)
    elif rest.startswith("configmap"):
        _, name, change = rest.split()
        key, _, value = change.partition("=")
        await user.change_config_map(name, {key: value})
        async with asyncio.timeout(user.patience):  # no status says that it is seen inside
            while value.encode() not in await user.logs(pod):
                await asyncio.sleep(0.2)
    else:
        await user.patch(pod, body, subresource=rest[:start].strip().removeprefix("/") or None)


async def _events(user: ClusterUser, pod: Pod, recorded: RecordedPod) -> set[EventShape]:
    """Once all that were recorded are there, or that is given up."""
    found: set[EventShape] = set()
    with suppress(TimeoutError):  # what is missing is told
        async with asyncio.timeout(user.patience):
            while True:
                there = await user.events(pod)
                shapes = ((e.type or "", e.reason or "", e.involved_object.field_path, e.message or "") for e in there)
                found = _told(shapes, recorded.name)
                if recorded.events <= found:
                    break
                await asyncio.sleep(0.5)
    return found

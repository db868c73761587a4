"""The pods that a real kubelet ran, run again by the engine: the same statuses in the same order, the same events.

Containers do what the recorded commands say (``tiny_shell``), in virtual time.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock
from tests.runtime.recorded_pods import EventShape, Recording, Shape, as_json, read, shape, without_repeats, without_uid
from tests.runtime.replay_runtime import ReplayRuntime
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ApiNotFoundError
from virtual_kubelet.objects.core_v1 import ConfigMap, Pod, PodCondition, PodStatus, Secret
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.pod_engine import PodEngine

pytestmark = [pytest.mark.recording, pytest.mark.looptime, pytest.mark.may_block]

#: Recorded pods that are not replayed here, and why.
ELSEWHERE = {
    "admission-node-selector": "refused by the node before its provider is asked",
    "admission-out-of-cpu": "refused by the node before its provider is asked",
}

#: Where ours differ on purpose, and from which status on.
DIFFERENT = {
    "delete-while-image-missing": (3, "a back-off of pulls is told some seconds sooner; what never ran ends at once"),
    "sidecar-crashes": (
        10,
        "a restart is due some seconds before the main container ends: a kubelet's sync comes after",
    ),
    "sidecars-stop-in-reverse": (6, "each container's end is told when it comes; a kubelet tells all in the end"),
}
#: Events of chance: whether a server listens before the first probe.
BY_CHANCE = "connect: connection refused"


class Cluster:
    """Pods as the API has them, and nothing else."""

    def __init__(self) -> None:
        self.pod: Pod | None = None

    def get(self, namespace: str, name: str) -> Pod | None:
        return self.pod

    def list(self) -> list[Pod]:
        return [self.pod] if self.pod is not None else []


class Objects:
    """ConfigMaps and Secrets, and who hears of them."""

    def __init__(self, before: list[dict[str, Any]]) -> None:
        self.objects = list(before)
        self.heard: dict[Any, Any] = {}

    def of(self, kind: str) -> Any:
        class Reader:
            async def get(_, namespace: str, name: str) -> Any:
                for one in self.objects:
                    if (one["kind"], one["metadata"]["name"]) == (kind, name):
                        return msgspec.convert(one, ConfigMap if kind == "ConfigMap" else Secret)
                raise ApiNotFoundError(404, "NotFound", f'{kind.lower()}s "{name}" not found')

        return Reader()

    def hold(self, holder: Any, *, changed: Any = None, **names: Any) -> None:
        self.heard[holder] = changed

    def release(self, holder: Any) -> None:
        self.heard.pop(holder, None)

    def add(self, one: dict[str, Any]) -> None:
        self.objects.append(one)
        for changed in [*self.heard.values()]:
            if changed is not None:
                changed()


def changed(pod: Pod, generation: int) -> Pod:
    copy = msgspec.convert(msgspec.to_builtins(pod), Pod)
    copy.metadata.generation = generation
    return copy


async def replay(
    recording: Recording, folder: Path, seconds: float
) -> tuple[list[Shape], set[EventShape], ReplayRuntime]:
    runtime = ReplayRuntime(LoopClock(), recording.gaps)
    shapes: list[Shape] = []
    events: set[EventShape] = set()
    cluster: Any = Cluster()

    def record(key: PodKey, event_type: str, reason: str, message: str, *, field_path: str | None = None) -> None:
        events.add((event_type, reason, field_path, without_uid(message, key.name)))

    def take(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        shapes.append(shape(as_json(status)))

    objects = Objects(recording.before)
    given = replace(
        context(folder, clock=runtime.clock),
        record_event=record,
        pods=cluster,
        config_maps=objects.of("ConfigMap"),
        secrets=objects.of("Secret"),
        references=objects,
    )
    async with PodEngine(runtime, given, EngineOptions(hold_reports=30.0)) as engine:
        engine._parts.prober.execute = runtime.probe
        engine.notify_pods(take)
        pod = cluster.pod = recording.pod
        await engine.create_pod(changed(pod, 1))
        begun = runtime.clock.monotonic()
        for at, verb, body in recording.actions:
            await asyncio.sleep(begun + at - runtime.clock.monotonic())
            if verb == "DELETE":
                pod = changed(pod, 2)
                pod.metadata.deletion_grace_period_seconds = body
                if await engine.get_pod(PodKey.of(pod)) is not None:
                    await engine.delete_pod(pod)
            elif verb.startswith("POST"):
                objects.add(body)
            elif verb == "PATCH /status":
                conditions = [msgspec.convert(c, PodCondition) for c in body["status"]["conditions"]]
                cluster.pod = changed(pod, 1)
                cluster.pod.status.conditions = conditions
                await engine.update_pod(changed(pod, 1))
            elif "spec" in (body or {}):
                pod = changed(pod, 2)
                merged = msgspec.to_builtins(pod)
                for name, value in body["spec"].items():
                    if name == "containers":
                        merged["spec"]["containers"][0] |= value[0]
                    else:
                        merged["spec"][name] = value
                pod = msgspec.convert(merged, Pod)
                await engine.update_pod(changed(pod, 2))
        await asyncio.sleep(seconds)
    return without_repeats(shapes), events, runtime


def recordings(shared: Path) -> list[str]:
    return sorted(path.stem for path in (shared / "kubelet-1.36" / "lifecycles").glob("*.jsonl"))


NAMES = [
    "active-deadline",
    "always-completes-loop",
    "always-crash-loop",
    "command-not-found",
    "config-missing-then-created",
    "configmap-updated-in-volume",
    "delete-during-init",
    "delete-exits-at-once",
    "delete-forced",
    "delete-ignores-term",
    "delete-shortened",
    "delete-while-image-missing",
    "delete-with-finalizer",
    "ephemeral-container",
    "host-network",
    "host-port-taken",
    "http-readiness",
    "image-invalid-name",
    "image-missing",
    "image-never-pull",
    "image-updated",
    "init-fails-always",
    "init-fails-never",
    "init-ok",
    "liveness-fails",
    "liveness-own-grace",
    "never-fails",
    "never-succeeds",
    "on-failure-completes",
    "on-failure-then-succeeds",
    "out-of-memory",
    "post-start-fails",
    "pre-stop-and-term",
    "pre-stop-longer-than-grace",
    "pre-stop-sleep",
    "readiness-gate",
    "readiness-late",
    "readiness-lost",
    "restart-rules",
    "secret-key-missing",
    "secret-volume-missing",
    "sidecar",
    "sidecar-crashes",
    "sidecar-startup-gates-main",
    "sidecars-stop-in-reverse",
    "startup-fails",
    "startup-then-liveness",
    "tcp-liveness",
    "termination-message",
    "termination-message-fallback",
    "two-containers-one-completes",
]


def test_every_recorded_pod_is_replayed_or_has_a_reason(shared: Path) -> None:
    assert recordings(shared) == sorted([*NAMES, *ELSEWHERE])


@pytest.mark.parametrize("name", NAMES)
async def test_a_recorded_pod_has_the_recorded_statuses(shared: Path, tmp_path: Path, name: str) -> None:
    recording = read(shared / "kubelet-1.36" / "lifecycles" / f"{name}.jsonl")
    ours, events, runtime = await replay(recording, tmp_path, 200)
    alike, _ = DIFFERENT.get(name, (len(recording.shapes), ""))
    assert ours[:alike] == recording.shapes[:alike]
    if recording.complete and name not in DIFFERENT:
        assert len(ours) == len(recording.shapes)
    if recording.complete:  # from here on only the end is compared
        assert ours[-1][0] == recording.shapes[-1][0]
    assert {event for event in recording.events if BY_CHANCE not in event[3] or "probe" not in event[3]} <= events
    check_backoff(recording, runtime)


def check_backoff(recording: Recording, runtime: ReplayRuntime) -> None:
    """Ours to the second; the kubelet's comes with the next sync, or some seconds after it."""
    for (container, run), recorded in recording.gaps.items():
        if (container, run) not in runtime.begun:
            continue
        gap = runtime.begun[container, run] - runtime.over[container, run - 1]
        assert any(gap == pytest.approx(wanted, abs=0.5) for wanted in (0, 10, 20, 40, 80, 160))
        assert gap <= recorded + 1 <= gap + 17


async def test_a_shorter_grace_period_counts_at_once_where_the_kubelet_let_the_first_one_run_out(
    shared: Path, tmp_path: Path
) -> None:
    recording = read(shared / "kubelet-1.36" / "lifecycles" / "delete-shortened.jsonl")
    (_, _, _), (second, _, grace) = recording.actions
    assert (second, grace) == (12, 2)
    ours, _, runtime = await replay(recording, tmp_path, 10)
    assert ours[: len(recording.shapes)] == recording.shapes
    assert runtime.signals == [("main", 15), ("main", 9)]
    assert ours[-1][0] == "Failed"

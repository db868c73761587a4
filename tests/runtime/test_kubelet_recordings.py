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
from virtual_kubelet.objects.core_v1 import Pod, PodCondition, PodStatus
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.pod_engine import PodEngine

pytestmark = [pytest.mark.recording, pytest.mark.looptime, pytest.mark.may_block]

#: Recorded pods that are not replayed here, and why.
ELSEWHERE = {
    "admission-node-selector": "refused by the node before its provider is asked",
    "admission-out-of-cpu": "refused by the node before its provider is asked",
    "config-missing-then-created": "the node resolves the environment, and says so, before its provider is asked",
    "secret-key-missing": "the node resolves the environment, and says so, before its provider is asked",
}


class Cluster:
    """Pods as the API has them, and nothing else."""

    def __init__(self) -> None:
        self.pod: Pod | None = None

    def get(self, namespace: str, name: str) -> Pod | None:
        return self.pod

    def list(self) -> list[Pod]:
        return [self.pod] if self.pod is not None else []


def changed(pod: Pod, generation: int) -> Pod:
    copy = msgspec.convert(msgspec.to_builtins(pod), Pod)
    copy.metadata.generation = generation
    return copy


async def replay(
    recording: Recording, folder: Path, seconds: float
) -> tuple[list[Shape], set[EventShape], ReplayRuntime]:
    runtime = ReplayRuntime(LoopClock())
    shapes: list[Shape] = []
    events: set[EventShape] = set()
    cluster: Any = Cluster()

    def record(key: PodKey, event_type: str, reason: str, message: str, *, field_path: str | None = None) -> None:
        events.add((event_type, reason, field_path, without_uid(message, key.name)))

    def take(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        shapes.append(shape(as_json(status)))

    given = replace(context(folder, clock=runtime.clock), record_event=record, pods=cluster)
    async with PodEngine(runtime, given, EngineOptions(hold_reports=3.0)) as engine:
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


#: Not alike yet.
NOT_YET = [
    "delete-during-init",
    "delete-while-image-missing",
    "configmap-updated-in-volume",
    "liveness-fails",
    "on-failure-then-succeeds",
    "out-of-memory",
    "post-start-fails",
    "http-readiness",
    "secret-volume-missing",
    "sidecar-crashes",
    "sidecar-startup-gates-main",
    "sidecars-stop-in-reverse",
    "readiness-late",
    "readiness-lost",
    "restart-rules",
    "startup-then-liveness",
    "tcp-liveness",
]

NAMES = [
    "active-deadline",
    "always-completes-loop",
    "always-crash-loop",
    "command-not-found",
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


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_YET])
async def test_a_recorded_pod_has_the_recorded_statuses(shared: Path, tmp_path: Path, name: str) -> None:
    recording = read(shared / "kubelet-1.36" / "lifecycles" / f"{name}.jsonl")
    ours, events, _ = await replay(recording, tmp_path, 200)
    assert ours[: len(recording.shapes)] == recording.shapes
    if recording.complete:
        assert len(ours) == len(recording.shapes)
    assert events >= recording.events

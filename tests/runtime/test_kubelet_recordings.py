"""The pods that a real kubelet ran, run again by the engine: the same statuses in the same order, the same back-off.

Each recorded pod's containers end as the recording says (when, and with what), in virtual time. A kubelet says in two
statuses, a sync apart, what happens at once: that the last container has ended, and the pod with it. We say it in one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from tests.runtime.container_fakes import LoopClock, Runtime, start_error
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import ContainerConfig, ContainerInstance
from virtual_kubelet.objects.core_v1 import Pod, PodStatus
from virtual_kubelet.objects.times import parse_time
from virtual_kubelet.runtime.checkpoint import PodCheckpoints
from virtual_kubelet.runtime.pod_engine import PodEngine

pytestmark = [pytest.mark.recording, pytest.mark.looptime, pytest.mark.may_block]

UID = "00000000-0000-0000-0000-000000000000"

#: What is compared of a status: all that does not depend on the machine or the moment.
Shape: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Recording:
    """One pod's life. ``ends``: (container, run) -> (exit code, seconds it ran, reason, message)."""

    pod: Pod
    shapes: list[Shape]
    actions: list[tuple[float, int | None]]
    images: list[tuple[float, str]]
    ends: Mapping[tuple[str, int], tuple[int, float, str, str]]
    starts: Mapping[tuple[str, int], float]
    complete: bool


def read(path: Path) -> Recording:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    pod = msgspec.convert(rows[0]["pod"], Pod)
    pod.metadata.namespace, pod.metadata.uid = "default", UID
    statuses = [row["status"] for row in rows if row.get("status", {}).get("containerStatuses")]
    ends: dict[tuple[str, int], tuple[int, float, str, str]] = {}
    starts: dict[tuple[str, int], float] = {}
    for status in statuses:
        for container in [*status.get("initContainerStatuses", ()), *status["containerStatuses"]]:
            run = container["restartCount"]
            note(container["name"], run, container["state"], ends, starts)
            waits = "waiting" in container["state"] and "terminated" in container["lastState"]
            note(container["name"], run if waits else run - 1, container["lastState"], ends, starts)
    shapes = without_repeats([shape(status, rows[0]["pod"]["metadata"]["name"]) for status in statuses])
    actions = [
        (row["t"], None if row["action"].endswith("None") else int(row["action"].rpartition("=")[2]))
        for row in rows
        if row.get("action", "").startswith("DELETE")
    ]
    images = [
        (row["t"], json.loads(row["action"].partition("  ")[2])["spec"]["containers"][0]["image"])
        for row in rows
        if '"image"' in row.get("action", "") and row["action"].startswith("PATCH")
    ]
    if shapes[-1][0] == "Running" and "PodFailed" in str(shapes[-1][4]):
        shapes.pop()  # the recording ends a sync before the pod does
    return Recording(pod, at_once(shapes), actions, images, ends, starts, shapes[-1][0] in ("Succeeded", "Failed"))


def note(name: str, run: int, state: Any, ends: dict[Any, Any], starts: dict[Any, Any]) -> None:
    if "running" in state:
        starts[name, run] = parse_time(state["running"]["startedAt"]).timestamp()
    ended = state.get("terminated")
    if ended is not None and ended["finishedAt"] is not None:
        begun, over = parse_time(ended["startedAt"]).timestamp(), parse_time(ended["finishedAt"]).timestamp()
        if begun > 0:
            starts[name, run] = begun
        ends[name, run] = (ended["exitCode"], max(0.5, over - begun), ended["reason"], ended.get("message", ""))


def shape(status: Any, name: str) -> Shape:
    return (
        status["phase"],
        status.get("reason"),
        status.get("message"),
        tuple(
            (
                container["name"],
                state_of(container["state"]),
                state_of(container.get("lastState") or {}),
                container["restartCount"],
                container["ready"],
                container["started"],
                container["image"].rpartition("/")[2],
            )
            for container in [*status.get("initContainerStatuses", ()), *status["containerStatuses"]]
        ),
        tuple(
            (c["type"], c["status"], c.get("reason"), c.get("message"))
            for c in sorted(status["conditions"], key=lambda c: str(c["type"]))
        ),
    )


def state_of(state: Any) -> Shape:
    for kind, content in state.items():
        message = content.get("message")
        if kind == "waiting" and message:
            message = message.partition("pod=")[0]
        if kind == "terminated":
            # A signal (we tell it, containerd does not) and the words of runc are the runtime's own.
            message = None if content["reason"] == "StartError" else message
        return (kind, content.get("reason"), content.get("exitCode"), message)
    return ()


def without_repeats(shapes: list[Shape]) -> list[Shape]:
    return [shape for n, shape in enumerate(shapes) if n == 0 or shape != shapes[n - 1]]


def at_once(shapes: list[Shape]) -> list[Shape]:
    """Without those that only say, a sync before a pod's end, that its last container has ended."""
    return [
        one
        for n, one in enumerate(shapes)
        if not (
            n + 1 < len(shapes)
            and one[0] not in ("Succeeded", "Failed")
            and shapes[n + 1][0] in ("Succeeded", "Failed")
            and one[3] == shapes[n + 1][3]
        )
    ]


class Replay(Runtime):
    """Its containers run as long, and end as, the recorded ones."""

    def __init__(self, clock: LoopClock, recording: Recording) -> None:
        super().__init__(clock)
        self.recording = recording
        self.begun: dict[tuple[str, int], float] = {}
        self.over: dict[tuple[str, int], float] = {}
        self.deleted = not recording.actions

    async def start_container(self, config: ContainerConfig) -> ContainerInstance:
        name, run = config.container.name, config.attempt
        end = self.recording.ends.get((name, run))
        if end is not None and end[2] == "StartError":
            raise start_error(end[3], reason="StartError", exit_code=end[0])
        instance = await super().start_container(config)
        self.begun[name, run] = self.clock.monotonic()
        by_itself = end is not None and end[0] != 137 and not self.recording.actions
        if end is not None and by_itself:
            asyncio.get_running_loop().call_later(end[1], self.finish, name, run, end[0])
        return instance

    def finish(self, name: str, run: int, code: int) -> None:
        self.over[name, run] = self.clock.monotonic()
        self.end(name, code)

    async def signal_container(self, container_id: str, signal: int) -> None:
        labels = self.instances[container_id].labels
        name, run = labels["container"], int(labels["attempt"])
        code = self.recording.ends.get((name, run), (137, 0, "", ""))[0]
        self.signals.append((name, signal))
        if signal == 9 or code != 137:  # a recorded 137 is one that ignored SIGTERM
            self.finish(name, run, 137 if signal == 9 else code)


async def replay(recording: Recording, folder: Path, seconds: float) -> tuple[list[Shape], Replay]:
    runtime = Replay(LoopClock(), recording)
    shapes: list[Shape] = []

    def take(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        shapes.append(shape(msgspec.to_builtins(status) | defaults(status), key.name))

    async with PodEngine(
        runtime, checkpoints=PodCheckpoints(folder), clock=runtime.clock, host_ips=["10.0.0.1"]
    ) as engine:
        engine.notify_pods(take)
        await engine.create_pod(recording.pod)
        begun = runtime.clock.monotonic()
        for at, image in recording.images:
            await asyncio.sleep(begun + at - runtime.clock.monotonic())
            pod = msgspec.convert(msgspec.to_builtins(recording.pod), Pod)
            pod.spec.containers[0].image = image
            await engine.update_pod(pod)
        for at, grace in recording.actions:
            await asyncio.sleep(begun + at - runtime.clock.monotonic())
            pod = msgspec.convert(msgspec.to_builtins(recording.pod), Pod)
            pod.metadata.deletion_grace_period_seconds = grace
            if await engine.get_pod(PodKey.of(pod)) is not None:
                await engine.delete_pod(pod)
        await asyncio.sleep(seconds)
    return without_repeats(shapes), runtime


def defaults(status: PodStatus) -> dict[str, Any]:
    """Fields that JSON leaves out where they are false or empty."""

    def filled(containers: Any) -> list[Any]:
        return [
            {"lastState": {}, "restartCount": 0, "ready": False, "started": False} | msgspec.to_builtins(c)
            for c in containers or ()
        ]

    return {
        "initContainerStatuses": filled(status.init_container_statuses),
        "containerStatuses": filled(status.container_statuses),
    }


@pytest.mark.parametrize(
    "name",
    [
        "active-deadline",
        "always-completes-loop",
        "always-crash-loop",
        "command-not-found",
        "delete-during-init",
        "delete-exits-at-once",
        "delete-ignores-term",
        "delete-with-finalizer",
        "host-network",
        "image-updated",
        "init-fails-always",
        "init-fails-never",
        "init-ok",
        "never-fails",
        "never-succeeds",
        "on-failure-completes",
        "on-failure-then-succeeds",
        "two-containers-one-completes",
    ],
)
async def test_a_recorded_pod_has_the_recorded_statuses(shared: Path, tmp_path: Path, name: str) -> None:
    recording = read(shared / "kubelet-1.36" / "lifecycles" / f"{name}.jsonl")
    ours, runtime = await replay(recording, tmp_path, 200)
    wanted = recording.shapes
    if recording.images:  # the kubelet ends and starts in one sync; ours are two, and so is what is said
        ours = [one for one in ours if one[3][0][1][0] != "terminated"]
    assert ours[: len(wanted)] == wanted
    if recording.complete:
        assert len(ours) == len(wanted)
    # Back-off: ours to the second; the kubelet's comes with the next sync, or some seconds after it.
    for (container, run), started in recording.starts.items():
        before = recording.ends.get((container, run - 1))
        if before is not None:
            recorded = started - (recording.starts[container, run - 1] + before[1])
            gap = runtime.begun[container, run] - runtime.over[container, run - 1]
            assert gap == pytest.approx(0 if run == 1 else 10 * 2 ** (run - 2), abs=1)
            assert gap <= recorded + 1 <= gap + 16


async def test_a_shorter_grace_period_counts_at_once_where_the_kubelet_let_the_first_one_run_out(
    shared: Path, tmp_path: Path
) -> None:
    recording = read(shared / "kubelet-1.36" / "lifecycles" / "delete-shortened.jsonl")
    (_, _), (second, grace) = recording.actions
    assert (second, grace) == (12, 2)
    ours, runtime = await replay(recording, tmp_path, 10)
    assert ours[: len(recording.shapes)] == recording.shapes
    assert runtime.signals == [("main", 15), ("main", 9)]
    assert ours[-1][0] == "Failed"

"""Pods that a real kubelet ran, run by real processes on the dev cluster, side by side: each takes the recorded course."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.recorded_pod_replay import RecordedPod, differences, read, replay, report
from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.objects.core_v1 import EmptyDirVolumeSource, Pod, Volume, VolumeMount
from virtual_kubelet.providers.process import ProcessProvider
from virtual_kubelet.testing.dev_node import running_node

pytestmark = [
    pytest.mark.recording,
    pytest.mark.may_block,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="the pods need /tmp of their own"),
]

#: Those of less than 20 s that need no image, no address of their own and no luck with deadlines.
NAMES = (
    "command-not-found",
    "delete-during-init",
    "delete-exits-at-once",
    "delete-ignores-term",
    "init-fails-never",
    "init-ok",
    "never-fails",
    "never-succeeds",
    "on-failure-completes",
    "out-of-memory",
    "pre-stop-and-term",
    "pre-stop-sleep",
    "readiness-late",
    "readiness-lost",
    "restart-rules",
    "sidecar",
    "sidecar-startup-gates-main",
    "sidecars-stop-in-reverse",
    "startup-then-liveness",
    "termination-message",
    "termination-message-fallback",
    "two-containers-one-completes",
)

#: Of events about images, which processes do not have.
IMAGES = "Pulled"


def pod_of(recorded: RecordedPod, node: str, gate: Path) -> Pod:
    pod = recorded.pod(node, gate)
    # /tmp is the machine's: each has one of its own.
    pod.spec.volumes = [*(pod.spec.volumes or ()), Volume(name="tmp", empty_dir=EmptyDirVolumeSource())]
    for container in [*(pod.spec.init_containers or ()), *pod.spec.containers]:
        container.volume_mounts = [*(container.volume_mounts or ()), VolumeMount(name="tmp", mount_path="/tmp")]
    return pod


async def test_the_recorded_pods_take_the_same_course(shared: Path, tmp_path: Path) -> None:
    def provider(context: ProviderContext) -> ProcessProvider:
        return ProcessProvider(context, allow_host_processes=True)

    recorded = {
        name: read(shared / "kubelet-1.36" / "lifecycles" / f"{name}.jsonl", without_events=(IMAGES,)) for name in NAMES
    }
    async with running_node(provider, patience=60) as node, asyncio.TaskGroup() as tasks:
        replays = {
            name: tasks.create_task(
                replay(node.user, one, pod_of(one, node.name, tmp_path / name), tmp_path / name), name=name
            )
            for name, one in recorded.items()
        }
    differing = {name: differences(recorded[name], *done.result()) for name, done in replays.items()}
    assert not any(differing.values()), report(differing)

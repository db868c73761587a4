"""Pods that a real kubelet ran, run by a real dockerd on the dev cluster, side by side: each takes the recorded course.

They take it on a Podman, too: name that fixture instead. It takes a quarter longer.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from providers.docker.tests.machine import BUSYBOX
from tests.container_engines import ContainerEngine
from tests.pod_courses import Course
from tests.recorded_pod_replay import RecordedPod, differences, read, replay, report
from tests.runtime.recorded_pods import EventShape
from virtual_kubelet import ProviderContext
from virtual_kubelet.testing.dev_node import RunningNode, running_node
from virtual_kubelet_docker.provider import DockerProvider

pytestmark = [pytest.mark.recording, pytest.mark.may_block, pytest.mark.timeout(600)]

#: Seconds of a recording; what came later, after longer back-offs, is compared in virtual time alone.
UNTIL = 30
#: Less: how the second restart of what is killed by a probe comes depends on how long it has run, and that on the load.
FIRST_RESTART = {"liveness-fails": 12, "liveness-own-grace": 12, "post-start-fails": 14, "startup-fails": 10}
#: Pods at once, so that the commands in them have their time on two processors.
AT_ONCE = 16
#: These have a back-off of ten seconds to wait for, and begin first.
LONG = (
    "always-completes-loop",
    "always-crash-loop",
    "image-missing",
    "init-fails-always",
    "on-failure-then-succeeds",
    "sidecar-crashes",
)
#: Recorded pods that run in virtual time alone, and why.
ELSEWHERE = {"pre-stop-longer-than-grace": "whether it ends in the two seconds before SIGKILL depends on the load"}
#: Those whose back-off need not be told: they are deleted before, or did not come so far.
BACK_OFF = ("delete-while-image-missing", *FIRST_RESTART)


def recorded_pods(shared: Path) -> dict[str, RecordedPod]:
    found = {}
    for path in sorted((shared / "kubelet-1.36/lifecycles").glob("*.jsonl")):
        one = read(path, FIRST_RESTART.get(path.stem, UNTIL))
        later = {event for event in one.events if path.stem in BACK_OFF and "BackOff" in f"{event[1]} {event[3]}"}
        found[path.stem] = replace(one, events=one.events - later, possible=one.possible | later)
    return {name: one for name, one in found.items() if name not in ELSEWHERE}


async def test_the_recorded_pods_take_the_same_course(shared: Path, dockerd: ContainerEngine, tmp_path: Path) -> None:
    for image in ("busybox:1.29", "nginx:1.14-alpine"):
        dockerd.cli("tag", BUSYBOX, f"docker.io/library/{image}")
    config = tmp_path / "docker.yaml"
    config.write_text(f"host: {dockerd.url}\ncpu: '2'\n")

    def provider(context: ProviderContext) -> DockerProvider:
        return DockerProvider(replace(context, config_path=config))

    recorded = recorded_pods(shared)
    # A shorter grace period counts at once: it ends as another recorded pod whose grace period is short from the beginning.
    wanted = {"delete-shortened": recorded["delete-ignores-term"].course}
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(node: RunningNode, name: str) -> tuple[Course, set[EventShape]]:
        async with gate:
            folder = tmp_path / name
            return await replay(node.user, recorded[name], recorded[name].pod(node.name, folder), folder)

    async with running_node(provider, patience=120) as node, asyncio.TaskGroup() as tasks:
        replays = {
            name: tasks.create_task(one(node, name), name=name)
            for name in sorted(recorded, key=lambda name: name not in LONG)
        }
    differing = {name: differences(recorded[name], *done.result(), wanted.get(name)) for name, done in replays.items()}
    assert not any(differing.values()), report(differing)
    assert dockerd.cli("ps", "-aq", "--filter", f"label=virtual-kubelet.io/node={node.name}").strip() == ""

"""A process that is killed at any moment leaves what the next one goes on with, or removes."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from tests.environment.pod_specs import pod_of
from tests.volumes.cluster_stand_in import ClusterStandIn
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.volumes.mounting import may_mount, mount_points_below
from virtual_kubelet.volumes.pod_volumes import PodVolumes, remove_volumes_of_others

MOUNTING = os.geteuid() == 0 and may_mount()
REPOSITORY = Path(__file__).parents[2]


def busy_pod() -> Pod:
    mounts = [
        {"name": "c", "mountPath": "/c"},
        {"name": "c", "mountPath": "/k", "subPath": "a"},
        {"name": "s", "mountPath": "/s"},
        {"name": "disk", "mountPath": "/d"},
        {"name": "disk", "mountPath": "/dd", "subPath": "deep/er"},
        {"name": "memory", "mountPath": "/m"},
    ]
    volumes = [
        {"name": "c", "configMap": {"name": "c"}},
        {"name": "s", "secret": {"secretName": "s"}},
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
    ]
    return pod_of({"volumeMounts": mounts}, volumes=volumes)


def volumes_in(folder: Path, cluster: ClusterStandIn) -> PodVolumes:
    return PodVolumes(folder, PodKey("shop", "web-0", "u-1"), cluster.sources(), changed=lambda: None)


async def work(folder: Path, first: int) -> None:
    """Everything at once, for ever; numbers on stdout say how far it is."""
    cluster, pod = ClusterStandIn(), busy_pod()
    number = first
    while True:
        number += 1
        cluster.config_map("c", **dict.fromkeys("abc", str(number)))
        cluster.secret("s", **dict.fromkeys("abc", str(number)))
        volumes = volumes_in(folder, cluster)
        await volumes.prepare(pod)
        await volumes.refresh(pod)
        await volumes.mounts(pod.spec.containers[0])
        if number % 7 == 0:
            await volumes.remove()
        print(number, flush=True)


def is_whole(volume: Path) -> bool:
    """Whether all files are of one write; some are missing when it was the first one, or all were being removed."""
    return len({(volume / name).read_text() for name in "abc" if (volume / name).exists()}) <= 1


@pytest.mark.parametrize("seed", range(5))
async def test_a_kill_at_any_moment(tmp_path: Path, seed: int) -> None:
    chance, folder, pod = random.Random(seed), tmp_path / "pods", busy_pod()
    program = f"import asyncio, pathlib, sys; sys.path.insert(0, {str(REPOSITORY)!r}); " + (
        f"from {__name__} import work; asyncio.run(work(pathlib.Path(sys.argv[1]), 0))"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(folder), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            for _ in range(chance.randint(1, 12)):
                assert await process.stdout.readline()
            await asyncio.sleep(chance.uniform(0, 0.02))
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()
    config_map = folder / "u-1/volumes/c"
    if os.path.lexists(config_map / "..data"):
        assert await asyncio.to_thread(is_whole, config_map)
    kept = folder / "u-1/volumes/disk/kept"
    if kept.parent.is_dir():
        kept.write_text("x")
    had = kept.exists() and (folder / "u-1/ready/disk").exists()

    cluster = ClusterStandIn()
    cluster.config_map("c", **dict.fromkeys("abc", "new"))
    cluster.secret("s", **dict.fromkeys("abc", "new"))
    volumes = volumes_in(folder, cluster)
    await volumes.prepare(pod)
    mounts = {m.container_path: m.host_path for m in await volumes.mounts(pod.spec.containers[0])}
    for at in ("/c", "/s"):
        assert {(mounts[at] / name).read_text() for name in "abc"} == {"new"}
    assert mounts["/k"].read_text() == "new"
    assert kept.exists() or not had
    for at in ("/d", "/m"):
        assert os.stat(mounts[at]).st_mode & 0o777 == 0o777
    if MOUNTING:
        assert len(await asyncio.to_thread(mount_points_below, folder)) == 4
    await volumes.remove()
    assert os.listdir(folder) == []
    assert list(await asyncio.to_thread(mount_points_below, tmp_path)) == []


async def test_what_a_killed_process_left_can_be_removed_at_once(tmp_path: Path) -> None:
    cluster, pod = ClusterStandIn(), busy_pod()
    cluster.config_map("c", a="1")
    cluster.secret("s", a="1")
    volumes = volumes_in(tmp_path / "pods", cluster)
    await volumes.prepare(pod)
    await volumes.mounts(pod.spec.containers[0])
    await remove_volumes_of_others(tmp_path / "pods", [])
    assert os.listdir(tmp_path / "pods") == []

"""Limits of the process provider: real cgroups of this machine, and the files that two versions of them want."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from tests.contract.scenarios import eventually
from tests.providers.test_process_volumes import Rig, clear, pod, rig_in
from tests.volumes.cluster_stand_in import ClusterStandIn
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.providers.process.cgroup_files import group_files, hierarchies, oom_kills
from virtual_kubelet.providers.process.cgroups import find_controllers

pytestmark = pytest.mark.may_block

REPOSITORY = Path(__file__).resolve().parents[2]


def able(*controllers: str) -> bool:
    return os.geteuid() == 0 and {*controllers} <= {*find_controllers("/", f"/nowhere/{os.getpid()}")}


needs_groups = pytest.mark.skipif(not able("cpu", "memory", "pids"), reason="cgroups are not ours to make here")


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig_in(tmp_path, ClusterStandIn(), "podPidsLimit: 40\n") as made:
        yield made
        await clear(made)
        assert groups_of(made) == []


def groups_of(rig: Rig) -> list[Path]:
    """Groups of its node, whichever they are."""
    base = "virtual-kubelet-" + hashlib.sha256(str(rig.folder / "process").encode()).hexdigest()[:12]
    found = hierarchies(Path("/proc/self/mountinfo").read_text())
    return sorted(path for top in found.values() for path in Path(top).glob(f"{base}/**/cgroup.procs"))


@needs_groups
async def test_a_container_that_wants_too_much_memory_is_killed_and_it_is_said(rig: Rig) -> None:
    limits = {"limits": {"memory": "24Mi", "cpu": "500m"}}
    one = await rig.starts(pod("exec tail /dev/zero", resources=limits))
    ended = await rig.ended(one)
    assert (ended.exit_code, ended.signal, ended.reason) == (137, 9, "OOMKilled")
    other = await rig.starts(pod("kill -9 $$$$", resources=limits))
    assert (await rig.ended(other)).reason == "Error", "not every SIGKILL is the kernel's"


@needs_groups
async def test_commands_are_limited_with_their_container_and_groups_go_with_their_pod(rig: Rig) -> None:
    one = await rig.starts(pod("exec sleep 1000017", resources={"limits": {"memory": "64Mi", "cpu": "250m"}}))
    await rig.runs(one)
    own = await rig.run(one, "cat", "/proc/self/cgroup")
    assert f"/pod{one.metadata.uid}/main-0" in own
    assert any(str(path.parent).endswith(f"/pod{one.metadata.uid}/main-0") for path in groups_of(rig))
    found = hierarchies(Path("/proc/self/mountinfo").read_text())
    if "" in found:
        names = {"memory.max": "67108864", "cpu.max": "25000 100000"}
    else:
        names = {"memory.limit_in_bytes": "67108864", "cpu.cfs_quota_us": "25000", "cpu.shares": "256"}
    for name, content in names.items():
        paths = [path.parent / name for path in groups_of(rig) if (path.parent / name).exists()]
        said = {str(path.parent.name): path.read_text().strip() for path in paths}
        assert said["main-0"] == content, name
        if not name.startswith("cpu.shares"):
            assert said[f"pod{one.metadata.uid}"] == content, "the pod is limited if all its containers are"
    await rig.delete(one)
    assert groups_of(rig) == []


@needs_groups
async def test_a_fork_bomb_stays_in_its_pod(rig: Rig) -> None:
    script = "i=0; while [ $i -lt 100 ]; do sleep 1000017 & i=$$((i+1)); done; echo no limit"
    one = await rig.starts(pod(script))
    ended = await rig.ended(one)
    assert ended.exit_code == 2, "the shell cannot fork"
    assert b"no limit\n" not in await rig.logs(one)


#: A node of its own process, with one pod.
NODE = """
import asyncio, sys
from pathlib import Path
import msgspec
from tests.providers.test_process_volumes import rig_in
from tests.volumes.cluster_stand_in import ClusterStandIn
from virtual_kubelet.objects.core_v1 import Pod

async def main():
    (one,) = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[Pod])
    async with rig_in(Path(sys.argv[1]), ClusterStandIn()) as rig:
        await rig.provider.create_pod(one)
        await rig.runs(one)
        print("runs", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@needs_groups
async def test_limits_hold_when_the_node_is_killed_and_nothing_is_left_of_them(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    one = pod(
        f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; exec tail /dev/zero",
        resources={"limits": {"memory": "24Mi"}},
    )
    (tmp_path / "pods.json").write_bytes(msgspec.json.encode([one]))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, str(folder), str(tmp_path / "pods.json"), cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"runs\n"
    process.kill()
    await process.wait()
    async with rig_in(folder, ClusterStandIn()) as rig:
        try:
            await rig.runs(one)
            (tmp_path / "go").touch()
            assert (await rig.ended(one)).reason == "OOMKilled"
            other = await rig.starts(pod("exec sleep 1000017"))
            await rig.runs(other)
            os.kill(rig.supervisor, signal.SIGKILL)
            await eventually(lambda: rig.provider._processes._client.connected)
            assert f"/pod{other.metadata.uid}/main-0" in await rig.run(other, "cat", "/proc/self/cgroup")
        finally:
            await clear(rig)
        assert groups_of(rig) == []
        assert PodKey.of(one) in rig.statuses


LIMITS = {"shares": 512, "weight": 20, "quota": 50000, "period": 100000, "memory": 1 << 20, "pids": None}


def test_what_version_2_wants_written() -> None:
    assert [(file, content) for _, file, content, _ in group_files(2, LIMITS, together=True)] == [
        ("cpu.weight", "20"),
        ("cpu.max", "50000 100000"),
        ("memory.max", "1048576"),
        ("pids.max", "max"),
        ("memory.swap.max", "0"),
        ("memory.oom.group", "1"),
    ]
    free = {**LIMITS, "quota": None, "memory": None, "pids": 7}
    assert [(file, content) for _, file, content, _ in group_files(2, free, together=False)] == [
        ("cpu.weight", "20"),
        ("cpu.max", "max 100000"),
        ("memory.max", "max"),
        ("pids.max", "7"),
    ]


def test_what_version_1_wants_written() -> None:
    assert [(controller, file, content) for controller, file, content, _ in group_files(1, LIMITS, together=True)] == [
        ("cpu", "cpu.shares", "512"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("pids", "pids.max", "max"),
        ("memory", "memory.limit_in_bytes", "1048576"),
        ("memory", "memory.memsw.limit_in_bytes", "1048576"),
    ]


VERSION_1 = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:10 - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime shared:11 - cgroup cgroup rw,devices
"""
VERSION_2 = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_where_groups_are_made() -> None:
    version_1 = {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory",
    }
    assert hierarchies(VERSION_1) == version_1
    assert hierarchies(VERSION_2) == {"": "/sys/fs/cgroup"}
    assert hierarchies(VERSION_2 + VERSION_1) == version_1, "the limits are where the controllers are"
    assert hierarchies("") == {}


def test_how_many_were_killed_is_read_from_both_versions() -> None:
    assert oom_kills("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n") == 1
    assert oom_kills("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n") == 2
    assert oom_kills("") == 0

"""Limits of the process provider: real cgroups of this machine, and the files that two versions of them want."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contract.scenarios import eventually
from tests.providers.test_process_volumes import Rig, clear, pod, rig_in
from tests.volumes.cluster_stand_in import ClusterStandIn
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import Pod, PodStatus, ResourceRequirements
from virtual_kubelet.providers.process.cgroup_files import (
    group_files,
    hierarchies,
    lower_memory,
    oom_kills,
    resize_writes,
)
from virtual_kubelet.providers.process.cgroups import find_controllers

pytestmark = pytest.mark.may_block

REPOSITORY = Path(__file__).resolve().parents[2]
MOUNTS = Path("/proc/self/mountinfo").read_text()


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
    found = hierarchies(MOUNTS)
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
    found = hierarchies(MOUNTS)
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


def said_by(rig: Rig, *names: str) -> dict[str, dict[str, str]]:
    """What is in these files of all its groups, by file and group."""
    return {
        name: {path.parent.name: (path.parent / name).read_text().strip() for path in groups_of(rig)
               if (path.parent / name).exists()}
        for name in names
    }  # fmt: skip


def resized(one: Pod, **resources: dict[str, str]) -> Pod:
    """The same pod, of which these containers are to have other limits."""
    changed = msgspec.convert(msgspec.to_builtins(one), Pod)
    for container in changed.spec.containers:
        if container.name in resources:
            container.resources = ResourceRequirements(
                limits=resources[container.name], requests=resources[container.name]
            )
    return changed


def conditions(status: PodStatus) -> dict[str, tuple[str | None, str | None]]:
    return {c.type: (c.reason, c.message) for c in status.conditions or () if c.type.startswith("PodResize")}


@needs_groups
async def test_limits_change_while_a_container_runs_and_those_of_its_pod_with_them(rig: Rig) -> None:
    """In an order that the kernel takes: it refuses a container more CPU time than its pod has."""
    sleeps = ["sleep", "1000017"]
    small, large = {"cpu": "100m", "memory": "32Mi"}, {"cpu": "400m", "memory": "64Mi"}
    beside = {"name": "other", "image": "none", "command": sleeps, "resources": {"limits": large, "requests": large}}
    first = {"limits": small, "requests": small}
    one = await rig.starts(pod("exec sleep 1000017", beside=(beside,), resources=first))
    await rig.runs(one)
    before = rig.statuses[PodKey.of(one)]
    names = ("memory.max", "cpu.max") if "" in hierarchies(MOUNTS) else ("memory.limit_in_bytes", "cpu.cfs_quota_us")
    of_pod = f"pod{one.metadata.uid}"

    async def becomes(main: dict[str, str], other: dict[str, str], *said: tuple[int, int, int]) -> None:
        changed = resized(one, main=main, other=other)
        await rig.provider.update_pod(changed)
        expected = [{of_pod: pods, "main-0": mains, "other-0": others} for mains, others, pods in said]

        def is_said() -> bool:
            found = [
                {group: int(text.split()[0]) for group, text in groups.items() if group in expected[0]}
                for groups in said_by(rig, *names).values()
            ]
            return found == expected

        await eventually(is_said)
        done = await rig.until(one, lambda status: not conditions(status))
        assert [one.resources.limits for one in done.container_statuses or () if one.resources] == [main, other]

    mib = 1024 * 1024
    grown = {"cpu": "800m", "memory": "96Mi"}
    await becomes(grown, large, (96 * mib, 64 * mib, 160 * mib), (80_000, 40_000, 120_000))
    await becomes(small, small, (32 * mib, 32 * mib, 64 * mib), (10_000, 10_000, 20_000))
    await becomes(large, grown, (64 * mib, 96 * mib, 160 * mib), (40_000, 80_000, 120_000))
    await becomes(grown, large, (96 * mib, 64 * mib, 160 * mib), (80_000, 40_000, 120_000))
    after = rig.statuses[PodKey.of(one)]
    ids = [[c.container_id for c in status.container_statuses or ()] for status in (before, after)]
    assert ids[0] == ids[1]


@needs_groups
async def test_memory_that_is_in_use_is_not_taken_and_nobody_is_killed_for_it(rig: Rig) -> None:
    script = f"x=$$(head -c {24 << 20} /dev/zero | tr '\\0' x); echo has it; sleep 1000017"
    limits = {"memory": "128Mi"}
    one = await rig.starts(pod(script, resources={"limits": limits, "requests": limits}))
    await eventually(lambda: rig.wrote(one))
    await rig.provider.update_pod(resized(one, main={"memory": "8Mi"}))
    status = await rig.until(one, lambda status: conditions(status).get("PodResizeInProgress", ("", ""))[0] == "Error")
    said = conditions(status)["PodResizeInProgress"][1] or ""
    assert re.fullmatch(
        r"cannot decrease memory limits: \[attempting to set pod memory limit \(8388608\) below current usage \(\d+\), "
        r'attempting to set container "main" memory limit \(8388608\) below current usage \(\d+\)\]',
        said,
    ), said
    await rig.provider.update_pod(resized(one, main={"memory": "256Mi"}))
    done = await rig.until(one, lambda status: not conditions(status))
    assert done.phase == "Running"


async def test_without_cgroups_a_resize_is_infeasible_and_says_why(tmp_path: Path) -> None:
    async with rig_in(tmp_path, ClusterStandIn(), "cgroupRoot: null\n") as rig:
        one = await rig.starts(pod("exec sleep 1000017", resources={"limits": {"cpu": "100m"}}))
        await rig.runs(one)
        await rig.provider.update_pod(resized(one, main={"cpu": "200m"}))
        status = await rig.until(one, lambda status: "PodResizePending" in conditions(status))
        assert conditions(status)["PodResizePending"] == (
            "Infeasible",
            'the resources of the running container "main" cannot be changed: this program may make no cgroups, so cpu of '
            "processes is not limited",
        )
        assert [main.allocated_resources for main in status.container_statuses or ()] == [{"cpu": "100m"}]
        await clear(rig)


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


def test_a_resize_writes_what_changes_in_an_order_that_the_kernel_takes() -> None:
    """More: the pod before its container, swap before memory; less: the other way round."""
    had = {"quota": 10, "memory": 100, "shares": 2, "weight": 1, "period": 100000, "pids": None}
    more, less = {**had, "quota": 20, "memory": 200}, {**had, "quota": 5, "memory": 50}

    def files(version: int, limits: dict[str, Any]) -> dict[str, str]:
        return {file: f"{text}\n" for _, file, text, _ in group_files(version, limits, together=False, lift=True)}

    def writes(version: int, of_pod: dict[str, Any], own: dict[str, Any]) -> list[str]:
        now = {(group, file): text for group in ("pod", "own") for file, text in files(version, had).items()}
        return [" ".join(write) for write in resize_writes(version, now, of_pod, own)]

    swap, memory, quota = "memory.memsw.limit_in_bytes", "memory.limit_in_bytes", "cpu.cfs_quota_us"
    assert writes(1, more, more) == [
        *(f"pod {swap} 200", f"pod {memory} 200", f"pod {quota} 20"),
        *(f"own {swap} 200", f"own {memory} 200", f"own {quota} 20"),
    ]
    assert writes(1, less, less) == [
        *(f"own {quota} 5", f"own {memory} 50", f"own {swap} 50"),
        *(f"pod {quota} 5", f"pod {memory} 50", f"pod {swap} 50"),
    ]
    assert writes(1, had, less) == [f"own {quota} 5", f"own {memory} 50", f"own {swap} 50"]
    assert writes(2, more, more) == [
        *("pod memory.max 200", "pod cpu.max 20 100000", "own memory.max 200", "own cpu.max 20 100000"),
    ]
    none = {**had, "quota": None, "memory": None}
    assert writes(2, none, had) == ["pod memory.swap.max max", "pod memory.max max", "pod cpu.max max 100000"]
    assert writes(1, none, had) == [f"pod {swap} -1", f"pod {memory} -1", f"pod {quota} -1"]
    assert writes(1, had, had) == []


@pytest.mark.parametrize(
    ("now", "memory", "lower"),
    [
        ("max\n", 5, 5),
        ("9223372036854771712\n", 5, 5),
        ("100\n", 50, 50),
        ("100\n", 100, None),
        ("100\n", None, None),
    ],
)
def test_whether_memory_is_taken_away(now: str, memory: int | None, lower: int | None) -> None:
    assert lower_memory(now, memory) == lower


def test_a_version_1_group_without_a_limit_is_not_given_none_again() -> None:
    now = {("own", "memory.limit_in_bytes"): "9223372036854771712\n"}
    assert resize_writes(1, now, LIMITS, {**LIMITS, "memory": None}) == []


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

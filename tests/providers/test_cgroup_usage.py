"""What cgroups say of a container: files of both versions in a folder, and the real ones where there are any."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.providers.test_process_cgroups import needs_groups
from tests.providers.test_process_provider import Node, pod
from tests.providers.test_process_statistics import cpu, started, until
from virtual_kubelet.objects.stats_v1alpha1 import PodStats
from virtual_kubelet.providers.process.cgroup_usage import GroupUsage, group_usage
from virtual_kubelet.providers.process.process_usage import Usage

pytestmark = pytest.mark.may_block

VERSION_1 = {
    "cpuacct/cpuacct.usage": "123456789\n",
    "cpuacct/cgroup.procs": "7\n8\n9\n",
    "memory/memory.usage_in_bytes": "5000\n",
    "memory/memory.stat": "rss 1\npgfault 2\ninactive_file 3\ntotal_rss 1000\ntotal_pgfault 70\ntotal_pgmajfault 8\n"
    "total_inactive_file 1500\nhierarchical_memory_limit 9223372036854771712\n",
}
VERSION_2 = {
    "cpu.stat": "usage_usec 123456\nuser_usec 100000\nsystem_usec 23456\n",
    "cgroup.procs": "7\n8\n9\n",
    "memory.current": "5000\n",
    "memory.stat": "anon 1000\nfile 2500\ninactive_file 1500\npgfault 70\npgmajfault 8\n",
}


def used(stats: PodStats) -> int:
    return 0 if stats.memory is None else stats.memory.usage_bytes or 0


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_version_1_has_a_directory_for_each_controller(tmp_path: Path) -> None:
    written(tmp_path, VERSION_1)
    groups = {name: str(tmp_path / name) for name in ("cpuacct", "memory")}
    assert group_usage(groups) == GroupUsage(123456789, 5000, 3500, 1000, 70, 8, 3)


def test_version_2_has_one_for_all(tmp_path: Path) -> None:
    assert group_usage({"": str(written(tmp_path, VERSION_2))}) == GroupUsage(123456000, 5000, 3500, 1000, 70, 8, 3)


def test_a_working_set_is_never_below_nothing(tmp_path: Path) -> None:
    written(tmp_path, {**VERSION_2, "memory.current": "1000\n"})
    assert group_usage({"": str(tmp_path)}).working_set_bytes == 0


@pytest.mark.parametrize("groups", [{}, {"": "/nowhere"}, {"cpuacct": "/nowhere", "memory": "/nowhere"}])
def test_what_is_not_there_leaves_what_the_processes_say(groups: dict[str, str]) -> None:
    usage = Usage(1, 2, 3, 4, 5)
    assert group_usage(groups) == GroupUsage()
    assert usage.corrected(group_usage(groups)) == usage


@needs_groups
async def test_a_real_group_knows_of_processes_that_nobody_waited_for_and_of_the_page_cache(
    node: Node, tmp_path: Path
) -> None:
    # The daemon's own parent ends at once: its CPU time is in no other process's.
    one = pod(
        "(sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done' & ) ; head -c 20000000 /dev/zero >$0; sleep 1000"
    )
    one.spec.containers[0].args = [*(one.spec.containers[0].args or []), str(tmp_path / "written")]
    await started(node, one)
    stats = await until(
        node, one, lambda seen: cpu(seen) > 100_000_000 and used(seen) > 20_000_000
    )  # the page cache, too
    assert stats.memory is not None
    assert used(stats) >= (stats.memory.working_set_bytes or 0) > 0
    assert (stats.memory.rss_bytes or 0) < 20_000_000

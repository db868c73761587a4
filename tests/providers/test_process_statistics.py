"""Statistics of real processes, and of a machine whose /proc is a folder."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.providers.test_process_provider import Node, pod
from virtual_kubelet import StatsSummary
from virtual_kubelet.objects.core_v1 import Container, Pod
from virtual_kubelet.objects.stats_v1alpha1 import ContainerStats, PodStats, Summary
from virtual_kubelet.providers.process.machine_usage import machine_usage
from virtual_kubelet.providers.process.process_usage import usage_of
from virtual_kubelet.providers.process.statistics import ProcessStatistics

pytestmark = pytest.mark.may_block  # files are made and looked at

NOW = datetime(2026, 1, 1, tzinfo=UTC)
BURN = "while :; do :; done"


async def stats_of(node: Node, one: Pod, *, lean: bool = False) -> PodStats | None:
    summary = await node.provider.get_stats_summary(only_cpu_and_memory=lean)
    return next((stats for stats in summary.pods if stats.pod_ref.uid == one.metadata.uid), None)


async def until(node: Node, one: Pod, condition: Callable[[PodStats], object]) -> PodStats:
    """Look until the pod's statistics are so."""
    async with asyncio.timeout(30):
        while True:
            stats = await stats_of(node, one)
            if stats is not None and condition(stats):
                return stats
            await asyncio.sleep(0.05)


def cpu(stats: PodStats | ContainerStats) -> int:
    assert stats.cpu is not None
    return stats.cpu.usage_core_nano_seconds or 0


def memory(stats: PodStats | ContainerStats) -> int:
    assert stats.memory is not None
    return stats.memory.working_set_bytes or 0


async def started(node: Node, one: Pod) -> None:
    await node.provider.create_pod(one)
    await node.until(one, lambda status: status.phase == "Running")


async def test_cpu_time_is_that_of_the_processes_and_its_growth_a_rate(node: Node) -> None:
    one = pod(BURN)
    one.spec.containers.append(Container(name="idle", command=["sleep", "1000"]))
    await started(node, one)
    stats = await until(node, one, lambda found: cpu(found) > 300_000_000 and found.cpu and found.cpu.usage_nano_cores)
    busy, idle = stats.containers
    assert (busy.name, idle.name) == ("main", "idle")
    assert cpu(busy) > 300_000_000
    assert cpu(idle) < cpu(busy)
    assert cpu(stats) == cpu(busy) + cpu(idle)
    assert busy.cpu is not None
    assert busy.cpu.usage_nano_cores is not None
    assert 0 < busy.cpu.usage_nano_cores <= 1_100_000_000
    assert stats.process_stats is not None
    assert stats.process_stats.process_count == 2
    assert isinstance(node.provider, StatsSummary)


async def test_what_children_used_counts_while_they_run_and_when_they_have_ended(node: Node) -> None:
    burn = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    one = pod(f"{sys.executable} -c '{burn}'; exec sleep 1000")
    await started(node, one)
    stats = await until(node, one, lambda found: cpu(found) >= 300_000_000 and found.process_stats.process_count == 1)  # type: ignore[union-attr]
    assert cpu(stats) >= 300_000_000


async def test_memory_is_what_is_resident(node: Node) -> None:
    one = pod(
        f"exec {sys.executable} -c 'x = bytearray(64 * 2**20); import time; print(1, flush=True); time.sleep(1000)'"
    )
    await started(node, one)
    stats = await until(node, one, lambda found: memory(found) > 64 * 2**20)
    assert memory(stats) < 256 * 2**20
    assert stats.memory is not None
    assert stats.memory.page_faults is not None
    assert stats.memory.page_faults > 10_000
    assert stats.memory.available_bytes is None  # there is no limit


async def test_processes_that_leave_their_session_and_their_parent_still_count(node: Node, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    one = pod(f"(setsid sh -c 'setsid sh -c \"touch {ready}; {BURN}\" & exit' &) ; exec sleep 1000")
    await started(node, one)
    async with asyncio.timeout(20):
        while not ready.exists():
            await asyncio.sleep(0.01)
    stats = await until(node, one, lambda found: cpu(found) > 200_000_000)
    assert stats.process_stats is not None
    assert stats.process_stats.process_count == 2


async def test_only_what_runs_is_shown_with_its_logs_unless_only_cpu_and_memory_count(node: Node) -> None:
    ended, runs = pod("echo bye"), pod("echo hello; exec sleep 1000")
    await node.provider.create_pod(ended)
    await node.ended(ended)
    await started(node, runs)
    async with asyncio.timeout(20):
        while not await node.logs(runs):
            await asyncio.sleep(0.01)
    assert await stats_of(node, ended) is None
    stats = await stats_of(node, runs)
    assert stats is not None
    assert stats.pod_ref.name == runs.metadata.name
    logs = stats.containers[0].logs
    assert logs is not None
    assert logs.used_bytes is not None
    assert logs.used_bytes > len(b"hello\n")
    assert logs.inodes_used == 1
    lean = await stats_of(node, runs, lean=True)
    assert lean is not None
    assert lean.containers[0].logs is None


async def test_the_node_is_this_machine(node: Node) -> None:
    summary = await node.provider.get_stats_summary(only_cpu_and_memory=False)
    told = summary.node
    assert told.node_name == "node-a"
    assert told.memory is not None
    assert told.memory.usage_bytes is not None
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < told.memory.usage_bytes < total
    assert told.fs is not None
    assert told.fs.capacity_bytes == os.statvfs(node.folder).f_blocks * os.statvfs(node.folder).f_frsize
    assert told.start_time < datetime.now(UTC)
    assert told.cpu is not None
    assert told.cpu.usage_core_nano_seconds is not None
    again = (await node.provider.get_stats_summary(only_cpu_and_memory=True)).node
    assert again.cpu is not None
    assert again.cpu.usage_core_nano_seconds is not None
    assert again.cpu.usage_core_nano_seconds >= told.cpu.usage_core_nano_seconds


def test_without_processes_there_is_no_usage() -> None:
    assert usage_of({}) == {}
    assert usage_of({"gone": 2**22 - 1}) == {}


class HandClock:
    def __init__(self) -> None:
        self.moment = NOW

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()


async def test_a_counter_never_falls_and_a_rate_needs_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process used that nobody waited for is not seen any more; a counter that fell would count twice."""
    clock = HandClock()
    told = {
        "id": "c",
        "labels": {"uid": "u", "pod": "p", "namespace": "n", "container": "a"},
        "started_ns": 0,
        "pid": 1,
    }

    async def described() -> list[dict[str, object]]:
        return [{**told, "exit": None}]

    statistics = ProcessStatistics("node", tmp_path, described, clock=clock)
    seen = []
    for seconds, used in [(0, 5), (0.5, 6), (0.6, 5), (1, 7), (2, 3), (4, 9)]:
        clock.moment = NOW + timedelta(seconds=seconds)
        usage = usage_of({"c": os.getpid()})["c"]._replace(cpu_ns=used * 10**9)
        monkeypatch.setattr(
            "virtual_kubelet.providers.process.statistics.usage_of", lambda mains, usage=usage: {"c": usage}
        )
        summary: Summary = await statistics.summary(only_cpu_and_memory=True)
        found = summary.pods[0].cpu
        assert found is not None
        seen.append((found.usage_core_nano_seconds, found.usage_nano_cores))
    assert seen == [
        (5 * 10**9, None),
        (6 * 10**9, None),
        (6 * 10**9, None),
        (7 * 10**9, 2 * 10**9),
        (7 * 10**9, 0),
        (9 * 10**9, 10**9),
    ]


def test_a_machines_numbers_are_read_from_proc(tmp_path: Path) -> None:
    files = {
        "stat": "cpu  100 20 30 4000 500 6 7 8 9 10\ncpu0 1 2 3\nbtime 1767225600\n",
        "meminfo": "MemTotal: 1000 kB\nMemFree: 100 kB\nMemAvailable: 400 kB\nAnonPages: 300 kB\n"
        "SwapTotal: 50 kB\nSwapFree: 20 kB\n",
        "vmstat": "pgfault 11\npgmajfault 2\n",
        "loadavg": "0.1 0.2 0.3 1/77 999\n",
        "sys/kernel/pid_max": "32768\n",
        "net/dev": "Inter-| Receive | Transmit\n face |bytes packets\n"
        "    lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
        "net/route": "Iface Destination Gateway\neth0 00000000 0102A8C0\n",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    told = machine_usage("n", NOW, directory=tmp_path, proc=tmp_path)
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    assert told.start_time == datetime(2026, 1, 1, tzinfo=UTC)
    assert told.cpu is not None
    assert told.cpu.usage_core_nano_seconds == (100 + 20 + 30 + 6 + 7 + 8) * tick
    memory = told.memory
    assert memory is not None
    kilobytes = [memory.available_bytes, memory.usage_bytes, memory.working_set_bytes, memory.rss_bytes]
    assert kilobytes == [400 * 1024, 900 * 1024, 600 * 1024, 300 * 1024]
    assert (memory.page_faults, memory.major_page_faults) == (11, 2)
    assert told.swap is not None
    assert (told.swap.swap_available_bytes, told.swap.swap_usage_bytes) == (20 * 1024, 30 * 1024)
    network = told.network
    assert network is not None
    assert (network.name, network.rx_bytes, network.rx_errors, network.tx_bytes, network.tx_errors) == (
        "eth0",
        1,
        3,
        9,
        11,
    )
    assert [one.name for one in network.interfaces or []] == ["eth0"]
    assert told.rlimit is not None
    assert (told.rlimit.maxpid, told.rlimit.curproc) == (32768, 77)

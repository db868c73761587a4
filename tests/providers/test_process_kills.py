"""SIGKILL in the middle of everything: of the supervisor, of the node, of both. Real processes."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import msgspec
import pytest

from tests.contract.commands import processes_with
from tests.providers.test_process_provider import Node, is_supervisor, node_in, pod, sleepers
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.providers.process import process_start, process_tree

pytestmark = [pytest.mark.may_block, pytest.mark.timeout(180)]

REPOSITORY = Path(__file__).resolve().parents[2]


async def clear(node: Node) -> None:
    """Delete what is left; then nothing may run."""
    for one in await node.provider.get_pods():
        one.metadata.deletion_grace_period_seconds = 0
        await node.provider.delete_pod(one)
    for one in await node.provider.get_pods():
        await node.gone(one, 60)


def runs_of(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


@pytest.mark.parametrize("seed", range(3))
async def test_a_supervisor_that_is_killed_again_and_again_runs_nothing_twice_and_leaves_nothing(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    seconds = 300_000 + os.getpid() % 50_000 + seed
    ran = tmp_path / "ran"
    async with node_in(tmp_path) as node:
        pods = []
        for number in range(12):
            ends = number % 3 != 0
            one = pod(f"echo {number} >> {ran}; " + (f"sleep 0.05; exit {number}" if ends else f"sleep {seconds}"))
            await node.provider.create_pod(one)
            pods.append((one, number if ends else None))
            if chance.random() < 0.4:
                for pid in [p for p in processes_with(str(tmp_path / "process")) if is_supervisor(p)]:
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(chance.random() * 0.1)
            if chance.random() < 0.3:
                victim = chance.choice(pods)[0]
                if await node.provider.get_pod(PodKey.of(victim)) is not None:
                    victim.metadata.deletion_grace_period_seconds = chance.choice([0, 1])
                    await node.provider.delete_pod(victim)
        for one, code in pods:
            if code is None or await node.provider.get_pod(PodKey.of(one)) is None:
                continue
            if one.metadata.deletion_grace_period_seconds is not None:
                continue
            ended = await node.ended(one)
            assert (ended.exit_code, ended.reason) in [
                (code, "Error"),
                (137, "ContainerStatusUnknown"),
            ], "what nobody saw the end of is said to be unknown; all else is what it was"
        await clear(node)
        assert len(runs_of(ran)) == len(set(runs_of(ran))), "restartPolicy Never: no container begins twice"
        assert sleepers(seconds) == []
        assert list((tmp_path / "process" / "containers").iterdir()) == []
        assert list((tmp_path / "process" / "pods").glob("*.json")) == []
        assert list((tmp_path / "process" / "pods" / "files").iterdir()) == []
    async with asyncio.timeout(20):
        while [p for p in processes_with(str(tmp_path / "process")) if is_supervisor(p)]:
            await asyncio.sleep(0.02)


#: A node of its own process: creates the pods of a file one after another, and says so.
NODE = """
import asyncio, sys
from pathlib import Path
import msgspec
from tests.providers.test_process_provider import node_in
from virtual_kubelet.objects.core_v1 import Pod

async def main():
    folder, pods = Path(sys.argv[1]), msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[Pod])
    async with node_in(folder) as node:
        for pod in pods:
            await node.provider.create_pod(pod)
            print(pod.metadata.name, flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""


@pytest.mark.parametrize("both", [False, True], ids=["node", "node and supervisor"])
@pytest.mark.parametrize("after", [1, 4, 10])
async def test_a_node_killed_amid_its_work_is_taken_over_where_it_was(tmp_path: Path, after: int, both: bool) -> None:
    ran, gate = tmp_path / "ran", tmp_path / "gate"
    folder = tmp_path / "node"
    folder.mkdir()
    script = f"echo $HOSTNAME >> {ran}; while [ ! -e {gate} ]; do sleep 0.05; done; exit 5"
    pods = [pod(script, name=f"p{number}-{uuid.uuid4().hex[:4]}") for number in range(10)]
    (tmp_path / "pods.json").write_bytes(msgspec.json.encode(pods))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, str(folder), str(tmp_path / "pods.json"), cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    created = [(await process.stdout.readline()).decode().strip() for _ in range(after)]
    process.kill()
    await process.wait()
    if both:
        for pid in [p for p in processes_with(str(folder / "process")) if is_supervisor(p)]:
            os.kill(pid, signal.SIGKILL)
    async with node_in(folder) as node:
        known = await node.provider.get_pods()
        assert set(created) <= {one.metadata.name for one in known}, "what was answered is not forgotten"
        for one in pods:  # the framework creates again what it is not sure of
            await node.provider.create_pod(one)
        for one in pods:
            await node.until(one, lambda s: s.phase in ("Running", "Failed"), 60)
        gate.touch()
        for one in pods:
            ended = await node.ended(one)
            assert (ended.exit_code, ended.reason) in [(5, "Error"), (137, "ContainerStatusUnknown")]
            if not both:
                assert ended.exit_code == 5
        assert len(runs_of(ran)) == len(set(runs_of(ran)))
        await clear(node)
    assert processes_with(str(ran)) == []


async def test_an_exit_while_neither_node_nor_anybody_else_looks_is_kept(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    one = pod(f"while [ ! -e {gate} ]; do sleep 0.02; done; exit 9")
    (tmp_path / "pods.json").write_bytes(msgspec.json.encode([one]))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", NODE, str(tmp_path), str(tmp_path / "pods.json"), cwd=REPOSITORY, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    record = None
    async with asyncio.timeout(30):
        while record is None or not record.exists():
            await asyncio.sleep(0.02)
            record = next(iter((tmp_path / "process" / "containers").glob("*/record.json")), None)
    process.kill()
    await process.wait()
    gate.touch()
    async with asyncio.timeout(30):
        while json.loads(record.read_text())["exit"] is None:
            await asyncio.sleep(0.02)
    # Now the supervisor too: the exit code is on disk.
    for pid in [p for p in processes_with(str(tmp_path / "process")) if is_supervisor(p)]:
        os.kill(pid, signal.SIGKILL)
    async with node_in(tmp_path) as node:
        assert (await node.ended(one)).exit_code == 9
        await clear(node)


async def test_what_a_container_leaves_while_there_is_no_supervisor_ends_too(tmp_path: Path) -> None:
    seconds = 400_000 + os.getpid() % 50_000
    one = pod(f"(setsid env -i /bin/sh -c '/bin/sleep {seconds} & exit' &) ; sleep {seconds}")
    async with node_in(tmp_path) as node:
        await node.provider.create_pod(one)
        async with asyncio.timeout(30):
            while len(sleepers(seconds)) < 2:
                await asyncio.sleep(0.02)
        record = json.loads(next((tmp_path / "process" / "containers").glob("*/record.json")).read_text())
        supervisor = node.supervisor
        os.kill(supervisor, signal.SIGSTOP)  # it sees nothing of what comes now, nor does a new one
        os.kill(record["pid"], signal.SIGKILL)
        os.kill(supervisor, signal.SIGKILL)
        assert (await node.ended(one)).reason == "ContainerStatusUnknown"
        assert sleepers(seconds) == []
        await clear(node)


#: Killed between fork and the line in which the child is written down; and one whose disk is full there.
SPAWN = """
import os, signal, sys
from virtual_kubelet.providers.process.process_start import spawn
directory, marker, how = sys.argv[1:]
for name in ("stdout", "stderr"):
    os.mkfifo(os.path.join(directory, name))
    os.open(os.path.join(directory, name), os.O_RDWR)
def forked(pid):
    print(pid, flush=True)
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    raise OSError(28, "No space left on device")
spawn(directory, {"cwd": "/", "env": {}, "argv": ["/bin/sh", "-c", f"echo ran > {marker}"]}, 1 << 61, forked)
"""


@pytest.mark.parametrize("how", ["killed", "full disk"])
def test_a_process_that_is_not_written_down_never_begins(tmp_path: Path, how: str) -> None:
    marker = tmp_path / "marker"
    done = subprocess.run(
        [sys.executable, "-c", SPAWN, str(tmp_path), str(marker), how], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    pid = int(done.stdout)
    while (stat := process_tree.stat_of(pid)) is not None and stat[0] != "Z":
        pass
    assert not marker.exists()
    assert ("No space left on device" in done.stderr) == (how == "full disk")


def test_a_child_that_hangs_before_it_begins_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        os.mkfifo(tmp_path / name)
    # The child is a fork of this process.
    monkeypatch.setattr(process_start, "make_namespace", lambda request, staging: time.sleep(3600))
    pids: list[int] = []
    request = {"cwd": "/", "env": {}, "argv": ["true"], "namespaces": ["mnt"]}
    failure = process_start.spawn(str(tmp_path), request, 1 << 61, pids.append, patience=0.1)
    assert isinstance(failure, dict)
    assert "it has not begun within 0.1 s" in failure["message"]
    assert os.waitpid(pids[0], 0)[1] == signal.SIGKILL


async def test_what_an_earlier_supervisor_left_half_made_is_in_nobodys_way(tmp_path: Path) -> None:
    one: Pod = pod("exit 3")
    half = tmp_path / "process" / "containers" / f"{one.metadata.uid}-main-0"
    half.mkdir(parents=True)
    os.mkfifo(half / "stdout")
    async with node_in(tmp_path) as node:
        await node.provider.create_pod(one)
        assert (await node.ended(one)).exit_code == 3
        await clear(node)


async def test_a_record_that_cannot_be_read_is_left_alone_and_said(tmp_path: Path) -> None:
    damaged = tmp_path / "process" / "containers" / "damaged"
    damaged.mkdir(parents=True)
    (damaged / "record.json").write_text("{")
    async with node_in(tmp_path) as node:
        one = pod("exit 3")
        await node.provider.create_pod(one)
        assert (await node.ended(one)).exit_code == 3
        await clear(node)
    assert (damaged / "record.json").exists()
    assert "damaged" in (tmp_path / "process" / "supervisor.log").read_text()


#: A node that runs a command in its pod, and is then killed.
EXEC = """
import asyncio, sys
from pathlib import Path
import msgspec
from tests.stream_clients import Client, Sizes, streams
from tests.providers.test_process_provider import node_in
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import Pod

class Shown(Client):
    async def write(self, data):
        print(data.decode().strip(), flush=True)

async def main():
    (one,) = msgspec.json.decode(Path(sys.argv[2]).read_bytes(), type=list[Pod])
    async with node_in(Path(sys.argv[1])) as node:
        await node.provider.create_pod(one)
        await node.until(one, lambda status: status.phase == "Running")
        ends = streams(Client(stays=True), Shown(), sizes=Sizes() if sys.argv[3] == "tty" else None)
        await node.provider.run_in_container(PodKey.of(one), "main", ["sh", "-c", sys.argv[4]], ends)

asyncio.run(main())
"""


@pytest.mark.parametrize("terminal", ["tty", "pipes"])
async def test_a_node_that_is_killed_takes_its_commands_with_it_and_leaves_its_pods(
    tmp_path: Path, terminal: str
) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    marker = f"marker-{uuid.uuid4().hex}"
    one = pod("exec sleep 1000009")
    (tmp_path / "pods.json").write_bytes(msgspec.json.encode([one]))
    script = f"echo started; : {marker}; while :; do read line || sleep 0.1; done"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", EXEC, str(folder), str(tmp_path / "pods.json"), terminal, script,
        cwd=REPOSITORY, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"started\n"
    process.kill()
    await process.wait()
    async with asyncio.timeout(60):
        while processes_with(marker):
            await asyncio.sleep(0.02)
    async with node_in(folder) as node:
        await node.until(one, lambda status: status.phase == "Running", 60)
        await clear(node)

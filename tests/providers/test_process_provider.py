"""Real processes, a real supervisor. Each test has a node of its own in its own folder."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.commands import processes_with
from tests.providers.contexts import context
from virtual_kubelet.contracts.logs import ContainerLogOptions
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ProviderConfigError
from virtual_kubelet.objects.core_v1 import (
    Container,
    ContainerStateTerminated,
    EnvVar,
    Pod,
    PodSecurityContext,
    PodSpec,
    PodStatus,
    SecurityContext,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.providers.process import ProcessProvider

pytestmark = pytest.mark.may_block  # files are made and looked at


class Node:
    """A process provider and the newest status of each of its pods."""

    def __init__(self, provider: ProcessProvider, folder: Path) -> None:
        self.provider, self.folder = provider, folder
        self.statuses: dict[PodKey, PodStatus] = {}
        provider.notify_pods(self._take)

    def _take(self, key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        self.statuses[key] = status

    async def until(self, one: Pod, condition: Callable[[PodStatus], object], seconds: float = 20) -> PodStatus:
        async with asyncio.timeout(seconds):
            while not (PodKey.of(one) in self.statuses and condition(self.statuses[PodKey.of(one)])):
                await asyncio.sleep(0.01)
        return self.statuses[PodKey.of(one)]

    async def ended(self, one: Pod) -> ContainerStateTerminated:
        status = await self.until(one, lambda s: s.phase in ("Succeeded", "Failed"))
        assert status.container_statuses is not None
        state = status.container_statuses[0].state
        assert state is not None
        assert state.terminated is not None
        return state.terminated

    async def gone(self, one: Pod, seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while await self.provider.get_pod(PodKey.of(one)) is not None:
                await asyncio.sleep(0.01)

    async def logs(self, one: Pod, container: str = "main", **options: Any) -> list[bytes]:
        lines = self.provider.get_container_logs(PodKey.of(one), container, ContainerLogOptions(**options))
        text = b"".join([line.data async for line in lines])  # where nobody looks at lines, they come as one
        return re.findall(rb"[^\n]*\n|[^\n]+", text)

    async def wrote(self, one: Pod) -> bool:
        """Whether the pod runs and has written something."""
        status = self.statuses.get(PodKey.of(one))
        return status is not None and status.phase == "Running" and bool(await self.logs(one))

    @property
    def supervisor(self) -> int:
        (pid,) = [p for p in processes_with(str(self.folder / "process")) if is_supervisor(p)]
        return pid


def is_supervisor(pid: int) -> bool:
    return b"supervisor import main" in Path(f"/proc/{pid}/cmdline").read_bytes()


@contextlib.asynccontextmanager
async def node_in(folder: Path, config_path: Path | None = None) -> AsyncIterator[Node]:
    provider = ProcessProvider(context(folder, config_path=config_path), allow_host_processes=True)
    async with provider:
        yield Node(provider, folder)


def pod(script: str, *, policy: str = "Never", name: str | None = None, **container: Any) -> Pod:
    name = name or f"p-{uuid.uuid4().hex[:6]}"
    main = Container(name="main", image="busybox", command=["sh", "-c", script], **container)
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default", uid=str(uuid.uuid4())),
        spec=PodSpec(restart_policy=policy, containers=[main], termination_grace_period_seconds=1),
    )


@pytest.mark.parametrize(
    ("script", "code", "number", "reason"),
    [
        ("exit 0", 0, None, "Completed"),
        ("exit 3", 3, None, "Error"),
        ("kill -9 $$$$", 137, 9, "Error"),
        ("kill -SEGV $$$$", 139, 11, "Error"),
    ],
)
async def test_exit_codes_and_signals_are_real(
    node: Node, script: str, code: int, number: int | None, reason: str
) -> None:
    one = pod(script)
    await node.provider.create_pod(one)
    ended = await node.ended(one)
    assert (ended.exit_code, ended.signal, ended.reason) == (code, number, reason)
    assert ended.started_at
    assert ended.finished_at


async def test_the_path_of_the_state_directory_may_be_longer_than_that_of_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    assert len(str(folder)) > 107
    async with node_in(folder) as node:
        one = pod("echo hello")
        await node.provider.create_pod(one)
        await node.ended(one)
        assert await node.logs(one) == [b"hello\n"]


async def test_stdout_and_stderr_are_kept_with_their_times_and_without_a_last_newline(node: Node) -> None:
    one = pod("echo out; echo err >&2; printf last")
    await node.provider.create_pod(one)
    await node.ended(one)
    assert sorted(await node.logs(one)) == [b"err\n", b"last", b"out\n"]
    lines = node.provider.get_container_logs(PodKey.of(one), "main", ContainerLogOptions(timestamps=True))
    times = [line.time_ns async for line in lines]
    assert times == sorted(times)
    assert times[0] > 1_700_000_000_000_000_000


async def test_binary_output_and_huge_lines_come_through_whole(node: Node) -> None:
    one = pod("head -c 300000 /dev/zero | tr '\\0' x; echo; printf '\\377\\000\\001\\n'")
    await node.provider.create_pod(one)
    await node.ended(one)
    whole = b"".join(await node.logs(one))
    assert whole == b"x" * 300000 + b"\n\xff\x00\x01\n"


async def test_tail_reads_from_the_end(node: Node) -> None:
    one = pod("seq 1 20000")
    await node.provider.create_pod(one)
    await node.ended(one)
    assert await node.logs(one, tail_lines=3) == [b"19998\n", b"19999\n", b"20000\n"]
    assert await node.logs(one, tail_lines=0) == []
    assert len(await node.logs(one, tail_lines=100_000)) == 20000


async def test_following_goes_across_rotation_and_ends_with_the_container(tmp_path: Path) -> None:
    config = tmp_path / "provider.yaml"
    config.write_text("maxLogBytes: 20000\nmaxLogFiles: 50\n")
    async with node_in(tmp_path, config) as node:
        one = pod("for i in $(seq 1 3000); do echo line $i; done; sleep 0.3; echo end")
        await node.provider.create_pod(one)
        await node.until(one, lambda s: s.phase == "Running")
        lines = await node.logs(one, follow=True)
        assert lines == [b"line %d\n" % i for i in range(1, 3001)] + [b"end\n"]
        folder = next((tmp_path / "process" / "containers").iterdir())
        assert len(list(folder.glob("log*"))) > 3
        assert all(path.stat().st_size <= 20000 for path in folder.glob("log*"))
        await node.provider.delete_pod(one)
        await node.gone(one)


async def test_old_log_files_are_dropped(tmp_path: Path) -> None:
    config = tmp_path / "provider.yaml"
    config.write_text("maxLogBytes: 5000\nmaxLogFiles: 2\n")
    async with node_in(tmp_path, config) as node:
        one = pod("seq 1 5000")
        await node.provider.create_pod(one)
        await node.ended(one)
        folder = next((tmp_path / "process" / "containers").iterdir())
        assert len(list(folder.glob("log*"))) == 2
        assert (await node.logs(one))[-1] == b"5000\n"
        await node.provider.delete_pod(one)
        await node.gone(one)


async def test_a_child_gets_its_own_environment_and_nothing_of_ours(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED", "planted-secret")
    one = pod("env; ls /proc/self/fd", env=[EnvVar(name="GIVEN", value="a b")])
    await node.provider.create_pod(one)
    await node.ended(one)
    text = b"".join(await node.logs(one)).decode()
    assert "GIVEN=a b" in text
    assert f"HOSTNAME={one.metadata.name}" in text
    assert "planted-secret" not in text
    assert "VIRTUAL_KUBELET" not in text
    descriptors = [line for line in text.splitlines() if line.isdigit()]
    assert len(descriptors) <= 4, descriptors  # 0, 1, 2 and the folder that ls reads


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
async def test_run_as_user_and_group_hold_and_supplementary_groups_are_dropped(node: Node) -> None:
    one = pod("id -u; id -g; id -G", security_context=SecurityContext(run_as_user=65534, run_as_group=65533))
    await node.provider.create_pod(one)
    await node.ended(one)
    assert await node.logs(one) == [b"65534\n", b"65533\n", b"65533\n"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
async def test_another_user_can_open_dev_stdout(node: Node) -> None:
    one = pod("echo hello > /dev/stdout; echo oh > /dev/stderr", security_context=SecurityContext(run_as_user=65534))
    await node.provider.create_pod(one)
    assert (await node.ended(one)).exit_code == 0
    assert sorted(await node.logs(one)) == [b"hello\n", b"oh\n"]


@pytest.mark.skipif(os.getuid() != 0, reason="only root would be root")
@pytest.mark.parametrize(
    ("user", "said"), [(None, "container has runAsNonRoot"), (0, "runAsUser breaks non-root policy")]
)
async def test_what_must_not_be_root_does_not_run_as_root(node: Node, user: int | None, said: str) -> None:
    one = pod("id -u", security_context=SecurityContext(run_as_user=user))
    one.spec.security_context = PodSecurityContext(run_as_non_root=True)
    await node.provider.create_pod(one)
    status = await node.until(one, lambda s: "CreateContainerConfigError" in str(s.container_statuses))
    assert status.phase == "Pending"
    assert said in str(status.container_statuses)
    other = pod("id -u", security_context=SecurityContext(run_as_user=65534, run_as_non_root=True))
    await node.provider.create_pod(other)
    await node.ended(other)
    assert await node.logs(other) == [b"65534\n"]


async def test_privileges_cannot_be_escalated_where_that_is_said(node: Node) -> None:
    one = pod("grep NoNewPrivs /proc/self/status", security_context=SecurityContext(allow_privilege_escalation=False))
    other = pod("grep NoNewPrivs /proc/self/status")
    for each in (one, other):
        await node.provider.create_pod(each)
        await node.ended(each)
    assert await node.logs(one) == [b"NoNewPrivs:\t1\n"]
    assert await node.logs(other) == [b"NoNewPrivs:\t0\n"]


async def test_a_working_directory_holds_and_a_missing_one_is_said(node: Node, tmp_path: Path) -> None:
    one, other = pod("pwd", working_dir=str(tmp_path)), pod("pwd", working_dir=str(tmp_path / "no"))
    for each in (one, other):
        await node.provider.create_pod(each)
    await node.ended(one)
    assert await node.logs(one) == [f"{tmp_path}\n".encode()]
    status = await node.until(other, lambda s: "workingDir" in str(s.container_statuses))
    assert status.phase == "Pending"


async def test_a_command_that_is_not_there_fails_as_on_a_kubelet(node: Node) -> None:
    one = pod("")
    one.spec.containers[0].command = ["no-such-program"]
    await node.provider.create_pod(one)
    ended = await node.ended(one)
    assert (ended.exit_code, ended.reason) == (128, "StartError")
    assert "no-such-program" in (ended.message or "")


async def test_a_container_without_a_command_waits_with_a_clear_reason(node: Node) -> None:
    one = pod("")
    one.spec.containers[0].command = None
    await node.provider.create_pod(one)
    status = await node.until(one, lambda s: "has no command" in str(s.container_statuses))
    assert status.phase == "Pending"


async def test_a_process_that_ignores_term_is_killed_when_its_grace_is_over(node: Node) -> None:
    one = pod("trap '' TERM; echo ready; while :; do sleep 0.1; done")
    await node.provider.create_pod(one)
    await node.until(one, lambda s: s.phase == "Running")
    async with asyncio.timeout(60):
        while not await node.logs(one):
            await asyncio.sleep(0.02)
    one.metadata.deletion_grace_period_seconds = 1
    await node.provider.delete_pod(one)
    ended = await node.ended(one)
    assert (ended.exit_code, ended.signal) == (137, 9)
    await node.gone(one)


async def test_term_reaches_a_handler_and_its_exit_code_counts(node: Node) -> None:
    one = pod("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    await node.provider.create_pod(one)
    async with asyncio.timeout(60):
        while not await node.wrote(one):
            await asyncio.sleep(0.02)
    one.metadata.deletion_grace_period_seconds = 20
    await node.provider.delete_pod(one)
    assert (await node.ended(one)).exit_code == 5


#: Ways of a process to hide: its session, its parent, its environment, its open files.
ESCAPES = [
    "setsid sleep {n} &",
    "(setsid sh -c 'sleep {n} & sleep {n}' &);",
    "setsid env -i sleep {n} &",
    "(setsid env -i /bin/sh -c '/bin/sleep {n} & exit' &) ;",
    "(setsid env -i /bin/sh -c 'exec 0<&- 1>&- 2>&-; /bin/sleep {n} & exit' &) ;",
]


@pytest.mark.parametrize("supervisor_dies", [False, True])
@pytest.mark.parametrize("escape", ESCAPES)
async def test_a_process_that_hides_is_found_and_ended_with_its_pod_and_no_other_is(
    node: Node, escape: str, supervisor_dies: bool
) -> None:
    seconds, other_seconds = 100_000 + os.getpid() % 50_000, 200_000 + os.getpid() % 50_000
    one = pod(f"{escape.format(n=seconds)} sleep {seconds}")
    other = pod(f"{ESCAPES[-1].format(n=other_seconds)} sleep {other_seconds}")
    for each in (one, other):
        await node.provider.create_pod(each)
    expected = {seconds: escape.count("{n}") + 1, other_seconds: 2}

    async def until_there() -> None:
        async with asyncio.timeout(30):
            while any(len(sleepers(n)) != count for n, count in expected.items()):
                await asyncio.sleep(0.02)

    await until_there()
    if supervisor_dies:
        os.kill(node.supervisor, signal.SIGKILL)
    one.metadata.deletion_grace_period_seconds = 0
    await node.provider.delete_pod(one)
    await node.gone(one)
    assert sleepers(seconds) == []
    assert len(sleepers(other_seconds)) == 2
    other.metadata.deletion_grace_period_seconds = 0
    await node.provider.delete_pod(other)
    await node.gone(other)
    assert sleepers(other_seconds) == []


def sleepers(seconds: int) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if path.name.isdigit() and (path / "cmdline").read_bytes().split(b"\0")[-2:-1] == [b"%d" % seconds]:
                found.append(int(path.name))
    return found


async def test_what_a_main_process_leaves_behind_ends_with_it(node: Node) -> None:
    marker = f"marker-{uuid.uuid4().hex}"
    one = pod("sleep 1000 & exit 0", env=[EnvVar(name="MARKER", value=marker)])
    await node.provider.create_pod(one)
    await node.ended(one)
    assert processes_with(marker) == []


async def test_a_hundred_processes_at_once(node: Node) -> None:
    pods = [pod(f"echo {n}; exit {n}") for n in range(100)]
    await asyncio.gather(*(node.provider.create_pod(one) for one in pods))
    codes = [(await node.ended(one)).exit_code for one in pods]
    assert codes == list(range(100))


async def test_a_restart_counts_and_the_run_before_has_its_logs(node: Node, tmp_path: Path) -> None:
    one = pod(
        f"echo run; if [ -e {tmp_path}/once ]; then sleep 1000; fi; touch {tmp_path}/once; exit 1", policy="Always"
    )
    await node.provider.create_pod(one)
    status = await node.until(
        one, lambda s: s.container_statuses is not None and s.container_statuses[0].restart_count == 1
    )
    assert status.phase == "Running"
    assert await node.logs(one, previous=True) == [b"run\n"]


# Refused, never half-run


async def test_the_user_must_have_said_that_pods_may_run_here(tmp_path: Path) -> None:
    with pytest.raises(ProviderConfigError) as raised:
        ProcessProvider(context(tmp_path))
    assert "--allow-host-processes" in raised.value.hint


@pytest.mark.parametrize("text", ["[]", "{", "cpu: lots", "colour: red", "maxLogFiles: 0"])
async def test_a_wrong_configuration_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ProviderConfigError, match=r"c\.yaml"):
        ProcessProvider(context(tmp_path, config_path=path), allow_host_processes=True)


# Outliving the node, and the supervisor


async def test_a_new_provider_adopts_running_processes_and_their_exit_codes(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    stays = pod("sleep 1000", name="stays")
    ends = pod(f"while [ ! -e {gate} ]; do sleep 0.02; done; echo last words; exit 7", name="ends")
    async with node_in(tmp_path) as node:
        for one in (stays, ends):
            await node.provider.create_pod(one)
            await node.until(one, lambda s: s.phase == "Running")
        before = node.statuses[PodKey.of(stays)]
    gate.touch()
    record = next((tmp_path / "process" / "containers").glob(f"{ends.metadata.uid}*")) / "record.json"
    async with asyncio.timeout(60):
        while json.loads(record.read_text())["exit"] is None:
            await asyncio.sleep(0.02)
    async with node_in(tmp_path) as node:
        assert (await node.ended(ends)).exit_code == 7
        assert await node.logs(ends) == [b"last words\n"]
        assert node.statuses[PodKey.of(stays)] == before
        for one in (stays, ends):
            one.metadata.deletion_grace_period_seconds = 0
            await node.provider.delete_pod(one)
            await node.gone(one)


async def test_a_killed_supervisor_costs_no_container_and_its_output_goes_on(tmp_path: Path) -> None:
    go = tmp_path / "go"
    one = pod(f"echo before; while [ ! -e {go} ]; do sleep 0.02; done; echo after; exit 4")
    async with node_in(tmp_path) as node:
        await node.provider.create_pod(one)
        await node.until(one, lambda s: s.phase == "Running")
        first = node.supervisor
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(60):
            while not (
                pids := [p for p in processes_with(str(tmp_path / "process")) if is_supervisor(p) and p != first]
            ):
                await asyncio.sleep(0.02)
        assert len(pids) == 1
        await node.provider._processes.list_containers()  # it answers: it has adopted what runs
        assert node.statuses[PodKey.of(one)].phase == "Running"
        go.touch()
        ended = await node.ended(one)
        # Nobody is told the exit code of another process's orphan: it is said to be unknown, as by a kubelet.
        assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
        assert await node.logs(one) == [b"before\n", b"after\n"]
        one.metadata.deletion_grace_period_seconds = 0
        await node.provider.delete_pod(one)
        await node.gone(one)


async def test_a_reused_pid_fools_nobody(tmp_path: Path) -> None:
    one = pod("sleep 1000")
    async with node_in(tmp_path) as node:
        await node.provider.create_pod(one)
        await node.until(one, lambda s: s.phase == "Running")
        supervisor = node.supervisor
        record = next((tmp_path / "process" / "containers").iterdir()) / "record.json"
    os.kill(supervisor, signal.SIGKILL)
    content = json.loads(record.read_text())
    os.kill(content["pid"], signal.SIGKILL)
    bystander = await asyncio.create_subprocess_exec("sleep", "1000")
    content["pid"] = bystander.pid  # the number is another's now; its start time is not
    record.write_text(json.dumps(content))
    async with node_in(tmp_path) as node:
        ended = await node.ended(one)
        assert ended.reason == "ContainerStatusUnknown"
        one.metadata.deletion_grace_period_seconds = 0
        await node.provider.delete_pod(one)
        await node.gone(one)
    assert bystander.returncode is None
    bystander.kill()
    await bystander.wait()


async def test_an_idle_supervisor_goes_with_its_node(tmp_path: Path) -> None:
    async with node_in(tmp_path) as node:
        one = pod("exit 0")
        await node.provider.create_pod(one)
        await node.ended(one)
        pid = node.supervisor
    async with asyncio.timeout(60):
        while Path(f"/proc/{pid}/exe").exists():
            await asyncio.sleep(0.02)


async def test_the_supervisor_stays_small(node: Node) -> None:
    one = pod("sleep 1000")
    await node.provider.create_pod(one)
    await node.until(one, lambda s: s.phase == "Running")
    status = Path(f"/proc/{node.supervisor}/status").read_text()
    assert int(status.partition("VmRSS:")[2].split()[0]) < 20 * 1024
    modules = Path(f"/proc/{node.supervisor}/maps").read_text()
    assert "msgspec" not in modules


async def test_nobody_else_may_speak_to_the_supervisor(node: Node) -> None:
    one = pod("sleep 1000")
    await node.provider.create_pod(one)
    folder = node.folder / "process"
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "supervisor.sock").stat().st_mode & 0o077 == 0
    for path in (folder / "pods").iterdir():
        assert path.stat().st_mode & 0o077 == 0


async def test_a_client_that_speaks_nonsense_is_cut_and_the_others_are_served(node: Node) -> None:
    one = pod("sleep 1000")
    await node.provider.create_pod(one)
    for nonsense in (b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\3{x}", b'\0\0\0\x0b{"op":"no"}'):
        reader, writer = await asyncio.open_unix_connection(str(node.folder / "process" / "supervisor.sock"))
        writer.write(nonsense)
        async with asyncio.timeout(60):
            await reader.read(1000)
        writer.close()
    other = pod("exit 0")
    await node.provider.create_pod(other)
    assert (await node.ended(other)).exit_code == 0


async def test_a_client_that_does_not_read_delays_nobody(node: Node) -> None:
    one = pod("sleep 1000")
    await node.provider.create_pod(one)
    _, writer = await asyncio.open_unix_connection(str(node.folder / "process" / "supervisor.sock"))
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    body = b'{"op":"list","seq":1}'
    for _ in range(3000):
        writer.write(len(body).to_bytes(4, "big") + body)
    others = [pod("exit 0") for _ in range(5)]
    for other in others:
        await node.provider.create_pod(other)
    for other in others:
        assert (await node.ended(other)).exit_code == 0
    writer.close()

"""Commands in a process provider's containers: real processes, pipes and terminals."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.contract.commands import processes_with
from tests.providers.test_process_provider import Node, pod
from tests.stream_clients import Client, Gone, Sizes, streams
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.streams import TerminalSize
from virtual_kubelet.errors import NotFoundError, ProviderError
from virtual_kubelet.objects.core_v1 import EnvVar, Pod, SecurityContext

pytestmark = pytest.mark.may_block  # files are made and looked at

PATIENCE = 30


async def running(node: Node, script: str = "sleep 1000000", **container: Any) -> Pod:
    one = pod(script, **container)
    await node.provider.create_pod(one)
    await node.until(one, lambda status: status.phase != "Pending")  # some end at once
    return one


async def run(node: Node, one: Pod, *command: str, stdin: Client | None = None) -> tuple[int, bytes, bytes]:
    out, err = Client(), Client()
    async with asyncio.timeout(PATIENCE * 2):
        code = await node.provider.run_in_container(PodKey.of(one), "main", command, streams(stdin, out, err))
    return code, bytes(out.data), bytes(err.data)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def test_output_errors_and_the_exit_code(node: Node) -> None:
    one = await running(node)
    assert await run(node, one, "sh", "-c", "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
    assert (await run(node, one, "sh", "-c", "kill -9 $$"))[0] == 137


async def test_it_has_the_containers_environment_and_directory_and_nothing_of_ours(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURS", "secret")
    one = await running(node, env=[EnvVar(name="THEIRS", value="a b\nc")], working_dir=str(tmp_path))
    read, write = os.pipe()
    os.set_inheritable(write, True)
    try:
        code, out, _ = await run(node, one, "sh", "-c", "pwd; env; ls /proc/self/fd | wc -l; ulimit -n")
    finally:
        os.close(read)
        os.close(write)
    assert code == 0
    assert out.startswith(str(tmp_path).encode())
    assert b"\nTHEIRS=a b\nc\n" in out
    assert b"OURS" not in out
    assert out.split()[-2] == b"4"  # three, and the folder that ls reads


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
async def test_it_is_the_containers_user_and_group(node: Node) -> None:
    one = await running(node, security_context=SecurityContext(run_as_user=1234, run_as_group=2345))
    assert await run(node, one, "sh", "-c", "id -u; id -g; id -G") == (0, b"1234\n2345\n2345\n", b"")
    out = Client()
    command = ["sh", "-c", "id -u; echo mine >/dev/tty"]
    code = await node.provider.run_in_container(PodKey.of(one), "main", command, streams(None, out, sizes=Sizes()))
    assert (code, bytes(out.data)) == (0, b"1234\r\nmine\r\n")


async def test_a_hundred_megabytes_through_stdin_and_back_have_equal_checksums(node: Node) -> None:
    one = await running(node)
    payload = bytes(range(250)) * 400_000
    code, out, err = await run(node, one, "cat", stdin=Client(payload))
    assert (code, err, len(out)) == (0, b"", len(payload))
    assert hashlib.sha256(out).digest() == hashlib.sha256(payload).digest()


async def test_stdin_into_a_command_that_ends_early(node: Node) -> None:
    one = await running(node)
    given = Client(b"abcdefgh\n" * 200_000, stays=True)
    assert await run(node, one, "head", "-c", "3", stdin=given) == (0, b"abc", b"")


async def test_without_stdin_there_is_nothing_to_read(node: Node) -> None:
    assert await run(node, await running(node), "cat") == (0, b"", b"")


async def test_what_goes_on_in_the_background_does_not_hold_up_the_end(node: Node) -> None:
    one = await running(node)
    code, out, _ = await run(node, one, "sh", "-c", "yes & sleep 1000001 & echo ends >&2; exit 4")
    assert code == 4
    assert out.strip(b"y\n") == b""


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/no/such", 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("no-such", 'exec: "no-such": executable file not found in $PATH'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
    ],
)
async def test_a_command_that_cannot_be_run_is_said_so_as_by_a_kubelet(node: Node, command: str, why: str) -> None:
    one = await running(node)
    with pytest.raises(ProviderError, match="failed to exec in container: failed to start exec") as raised:
        await run(node, one, command)
    assert why in str(raised.value)


async def test_a_container_that_is_not_there_or_has_ended_is_not_found(node: Node) -> None:
    one = pod("exit 0")
    await node.provider.create_pod(one)
    await node.ended(one)
    with pytest.raises(NotFoundError, match=r'container not found \("main"\)'):
        await run(node, one, "true")
    with pytest.raises(NotFoundError, match=r'container not found \("zz"\)'):
        await node.provider.run_in_container(PodKey.of(one), "zz", ["true"], streams())


async def test_a_terminal_is_one_and_has_the_clients_size(node: Node) -> None:
    one = await running(node)
    sizes, out = Sizes(), Client()
    sizes.queue.put_nowait(TerminalSize(97, 31))
    script = "tty; trap 'stty size' WINCH; until [ \"$(stty size)\" = '31 97' ]; do sleep 0.02; done; echo first; " + (
        'until [ "$(stty size)" = \'40 120\' ]; do sleep 0.02; done; read line; echo "<$line>"; exit 5'
    )
    typed = Client(b"hello\r", stays=True)
    task = asyncio.ensure_future(
        node.provider.run_in_container(PodKey.of(one), "main", ["sh", "-c", script], streams(typed, out, sizes=sizes))
    )
    await out.until(b"first")
    sizes.queue.put_nowait(TerminalSize(120, 40))
    async with asyncio.timeout(PATIENCE):
        assert await task == 5
    assert out.data.startswith(b"/dev/pts/") or b"/dev/pts/" in out.data
    assert b"<hello>\r\n" in out.data
    assert b"40 120\r\n" in out.data  # the kernel told it of the change


async def test_all_output_of_a_terminal_comes_through(node: Node) -> None:
    one = await running(node)
    out = Client()
    code = await node.provider.run_in_container(
        PodKey.of(one), "main", ["seq", "1", "30000"], streams(None, out, sizes=Sizes())
    )
    assert code == 0
    assert out.data.split() == [b"%d" % number for number in range(1, 30001)]


@pytest.mark.parametrize("tty", [False, True])
async def test_a_client_that_vanishes_leaves_no_process(node: Node, tty: bool) -> None:
    one = await running(node)
    seconds = 400_000 + os.getpid() % 50_000
    out = Client()
    script = (
        f"trap '' HUP TERM; setsid sleep {seconds} & (sleep {seconds} &) ; echo started; while :; do sleep 0.1; done"
    )
    task = asyncio.ensure_future(
        node.provider.run_in_container(
            PodKey.of(one),
            "main",
            ["sh", "-c", script],
            streams(Client(stays=True), out, sizes=Sizes() if tty else None),
        )
    )
    await out.until(b"started")
    await until(lambda: len(processes_with(f"sleep\0{seconds}")) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not processes_with(f"sleep\0{seconds}")
    assert not processes_with(script)
    assert (await node.until(one, lambda status: True)).phase == "Running"


async def test_a_command_ends_with_its_container(node: Node) -> None:
    one = await running(node)
    seconds = 450_000 + os.getpid() % 50_000
    out = Client()
    script = f"setsid sleep {seconds} & echo started; wait; exec sleep 1000"  # whichever of the two is killed first
    task = asyncio.ensure_future(
        node.provider.run_in_container(PodKey.of(one), "main", ["sh", "-c", script], streams(None, out))
    )
    await out.until(b"started")
    await until(lambda: processes_with(f"sleep\0{seconds}"))
    one.metadata.deletion_grace_period_seconds = 0
    await node.provider.delete_pod(one)
    async with asyncio.timeout(PATIENCE):
        assert await task == 137
    await until(lambda: not processes_with(f"sleep\0{seconds}"))


async def test_output_that_the_client_does_not_take_any_more_breaks_the_commands_pipe(node: Node) -> None:
    one = await running(node)
    async with asyncio.timeout(PATIENCE):
        code = await node.provider.run_in_container(PodKey.of(one), "main", ["yes"], streams(None, Gone()))
    assert code == 128 + 13


async def test_commands_leave_no_descriptors(node: Node) -> None:
    one = await running(node)
    await run(node, one, "true")
    before = set(os.listdir("/proc/self/fd"))
    await asyncio.gather(*(run(node, one, "true") for _ in range(5)))
    tasks = [asyncio.ensure_future(run(node, one, "sleep", "1000002")) for _ in range(5)]
    await until(lambda: len(processes_with("sleep\x001000002")) == 5)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    with pytest.raises(ProviderError):
        await run(node, one, "/no/such")
    assert len(os.listdir("/proc/self/fd")) <= len(before)

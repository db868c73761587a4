"""Clients attached to the main processes of a process provider's containers: real processes and FIFOs."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.contract.commands import processes_with
from tests.providers.test_process_commands import running, until
from tests.providers.test_process_provider import Node, pod
from tests.stream_clients import Client, Sizes, streams
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.streams import TerminalSize
from virtual_kubelet.errors import NotFoundError, TransientError
from virtual_kubelet.objects.core_v1 import Pod, SecurityContext

pytestmark = pytest.mark.may_block  # files are made and looked at

ANSWERS = 'while read line; do echo "out $line"; echo "err $line" >&2; [ "$line" = end ] && exit 3; done; echo over'


def attached(
    node: Node, one: Pod, stdin: Client | None, out: Client, err: Client | None = None, sizes: Sizes | None = None
) -> asyncio.Task[None]:
    work = node.provider.attach_to_container(PodKey.of(one), "main", streams(stdin, out, err, sizes=sizes))
    return asyncio.ensure_future(work)


async def over(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(30):
        await task


async def test_input_and_output_pass_until_the_process_ends_and_the_log_has_it_too(node: Node) -> None:
    one = await running(node, ANSWERS, stdin=True)
    out, err = Client(), Client()
    await over(attached(node, one, Client(b"one\nend\n", stays=True), out, err))
    assert (bytes(out.data), bytes(err.data)) == (b"out one\nout end\n", b"err one\nerr end\n")
    assert (await node.ended(one)).exit_code == 3
    assert len(await node.logs(one)) == 4


async def test_without_stdin_once_input_stays_open_for_the_next_client(node: Node) -> None:
    one = await running(node, ANSWERS, stdin=True)
    first, second = Client(), Client()
    task = attached(node, one, Client(b"one\n"), first)
    await first.until(b"out one\n")
    task.cancel()
    await asyncio.wait([task])
    await over(attached(node, one, Client(b"end\n"), second))
    assert bytes(second.data) == b"out end\n"
    assert (await node.ended(one)).exit_code == 3


@pytest.mark.parametrize("vanishes", [False, True])
async def test_with_stdin_once_input_ends_with_the_first_client(node: Node, vanishes: bool) -> None:
    one = await running(node, ANSWERS, stdin=True, stdin_once=True)
    out = Client()
    task = attached(node, one, Client(b"one\n", stays=vanishes), out)
    await out.until(b"out one\n")
    if vanishes:
        task.cancel()
        await asyncio.wait([task])
    else:
        await over(task)
        assert bytes(out.data) == b"out one\nover\n"
    assert (await node.ended(one)).exit_code == 0
    assert b"over\n" in await node.logs(one)  # stdout and stderr are two FIFOs: their order is not kept


async def test_without_stdin_it_is_empty_and_what_a_client_sends_goes_nowhere(node: Node) -> None:
    one = await running(node, "cat; echo read; sleep 1000006")
    async with asyncio.timeout(30):
        while not await node.wrote(one):
            await asyncio.sleep(0.05)
    assert await node.logs(one) == [b"read\n"]
    out = Client()
    task = attached(node, one, Client(b"sent\n", stays=True), out)
    one.metadata.deletion_grace_period_seconds = 0
    await node.provider.delete_pod(one)
    await over(task)
    assert bytes(out.data) == b""


async def test_a_client_that_does_not_read_is_cut_off_and_holds_up_nobody(node: Node) -> None:
    class Stuck(Client):
        free = asyncio.Event()

        async def write(self, data: bytes | bytearray | memoryview) -> None:
            await self.free.wait()

    # Long lines: the test is about bytes that nobody takes.
    lines = "yes $(printf %01000d 7) | head -n 8000"
    one = await running(node, f"read go; {lines}; echo done; sleep 1000007", stdin=True)
    stuck, good = Stuck(), Client()
    task = attached(node, one, None, stuck)
    await asyncio.sleep(0)
    other = attached(node, one, Client(b"go\n"), good)
    async with asyncio.timeout(200):
        while (await node.logs(one, tail_lines=1)) != [b"done\n"]:
            await asyncio.sleep(0.1)
    stuck.free.set()
    with pytest.raises(TransientError, match="cut off"):
        await over(task)
    other.cancel()
    await asyncio.wait([other])


async def test_a_container_that_has_ended_is_not_found(node: Node) -> None:
    one = pod("exit 0")
    await node.provider.create_pod(one)
    await node.ended(one)
    with pytest.raises(NotFoundError, match=r'container not found \("main"\)'):
        await over(attached(node, one, None, Client()))


def keepers(node: Node) -> list[int]:
    ours = set(processes_with(str(node.folder)))
    return [pid for pid in processes_with("terminal_keeper") if pid in ours]


async def test_a_terminal_echoes_has_its_clients_size_and_its_output_is_the_log(node: Node) -> None:
    sized = "until [ \"$(stty size)\" = '31 97' ]; do sleep 0.02; done"
    script = f'tty; echo $TERM; {sized}; read line; echo "<$line>" >&2; exit 4'
    one = await running(node, script, stdin=True, tty=True)
    sizes, out = Sizes(), Client()
    sizes.queue.put_nowait(TerminalSize(97, 31))
    await over(attached(node, one, Client(b"typed\r", stays=True), out, sizes=sizes))
    assert (await node.ended(one)).exit_code == 4
    lines = await node.logs(one)
    assert b"".join(lines).endswith(out.data)
    assert out.data.endswith(b"<typed>\r\n")
    assert lines.pop() == b"<typed>\r\n"
    lines.remove(b"typed\r\n")  # echoed when it is typed, be it before the script says anything
    assert lines[0].startswith(b"/dev/pts/")
    assert lines[1:] == [b"xterm\r\n"]
    await until(lambda: not keepers(node))


async def test_what_is_written_to_a_terminal_last_is_not_lost(node: Node) -> None:
    one = await running(node, "read go; seq 1 30000", stdin=True, tty=True)
    out = Client()
    await over(attached(node, one, Client(b"go\n", stays=True), out))
    expected = [b"go\r\n"] + [b"%d\r\n" % number for number in range(1, 30001)]
    assert out.data == b"".join(expected)
    await node.ended(one)
    assert await node.logs(one) == expected


async def test_a_terminal_stays_open_between_clients_with_stdin_once_too(node: Node) -> None:
    one = await running(node, ANSWERS, stdin=True, stdin_once=True, tty=True)
    first, second = Client(), Client()
    task = attached(node, one, Client(b"one\n"), first)
    await first.until(b"out one\r\nerr one\r\n")
    task.cancel()
    await asyncio.wait([task])
    await over(attached(node, one, Client(b"end\n"), second))
    assert second.data == b"end\r\nout end\r\nerr end\r\n"
    assert (await node.ended(one)).exit_code == 3


async def test_a_terminal_outlives_its_supervisor(node: Node) -> None:
    one = await running(node, f"trap 'echo hung up' HUP; {ANSWERS}", stdin=True, tty=True)
    (keeper,) = keepers(node)
    os.kill(node.supervisor, signal.SIGKILL)
    out = Client()

    async def answered() -> bytes:
        """A client that comes before the new supervisor has its turn is cut off with the old one."""
        async with asyncio.timeout(30):
            while True:
                try:
                    await attached(node, one, Client(b"end\n"), out)
                    return bytes(out.data)
                except TransientError:
                    await asyncio.sleep(0.05)

    assert await answered() == b"end\r\nout end\r\nerr end\r\n"
    ended = await node.ended(one)
    assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")  # nobody of us was its parent
    assert await node.logs(one) == [b"end\r\n", b"out end\r\n", b"err end\r\n"]
    await until(lambda: keeper not in keepers(node))


async def test_what_was_written_to_a_terminal_while_there_was_no_supervisor_is_in_the_log(
    node: Node, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    one = await running(node, f"while [ ! -e {gate} ]; do sleep 0.02; done; echo last; exit 5", tty=True)
    supervisor = node.supervisor
    os.kill(supervisor, signal.SIGSTOP)  # it reads no more, and its node does not start another one
    gate.touch()
    await until(lambda: not processes_with(f"-e {gate}"))
    os.kill(supervisor, signal.SIGKILL)
    assert (await node.ended(one)).exit_code == 137
    assert await node.logs(one) == [b"last\r\n"]
    await until(lambda: not keepers(node))


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
async def test_a_terminal_is_its_users_own(node: Node) -> None:
    security = SecurityContext(run_as_user=1234, run_as_group=2345)
    one = await running(node, "id -u >/dev/tty; exit 0", tty=True, security_context=security)
    await node.ended(one)
    assert await node.logs(one) == [b"1234\r\n"]


async def test_output_of_a_process_that_has_closed_its_terminal_for_a_while_comes(node: Node) -> None:
    script = "read go; exec <&- >&- 2>&-; sleep 0.2; exec >/dev/tty; echo back; exit 0"
    one = await running(node, script, stdin=True, tty=True)
    out = Client()
    await over(attached(node, one, Client(b"go\n", stays=True), out))
    assert out.data == b"go\r\nback\r\n"

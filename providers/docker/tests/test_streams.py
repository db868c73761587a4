"""Commands, clients, logs and ports of containers at a real Podman and a real dockerd."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from providers.docker.tests.machine import PATIENCE, Machine, machine_at, pod, shell
from tests.contract.commands import processes_with
from tests.stream_clients import Client, Sizes, streams
from virtual_kubelet import ContainerConfig, ContainerLogOptions, NotFoundError, TerminalSize, TransientError
from virtual_kubelet.objects.core_v1 import Container, EnvVar, SecurityContext

pytestmark = pytest.mark.may_block


async def running(machine: Machine, what: Container | None = None) -> tuple[str, ContainerConfig]:
    config = await machine.config(pod(), what or shell("sleep 1000000"))
    return (await machine.runtime.start_container(config)).id, config


async def run(
    machine: Machine, started: tuple[str, ContainerConfig], *command: str, stdin: Client | None = None
) -> tuple[int, bytes, bytes]:
    out, err = Client(), Client()
    async with asyncio.timeout(PATIENCE):
        code = await machine.runtime.exec_in_container(*started, command, streams(stdin, out, err))
    return code, bytes(out.data), bytes(err.data)


async def test_a_commands_outputs_exit_code_user_directory_and_environment(machine: Machine) -> None:
    what = shell(
        "sleep 1000",
        env=[EnvVar(name="A", value="b c")],
        working_dir="/tmp",
        security_context=SecurityContext(run_as_user=12),
    )
    started = await running(machine, what)
    assert await run(machine, started, "sh", "-c", "id -u; pwd; echo $A; echo err >&2; exit 3") == (
        3,
        b"12\n/tmp\nb c\n",
        b"err\n",
    )
    # What looks like an engine's refusal and is none.
    assert await run(machine, started, "sh", "-c", "printf 'Error: mine\n' >&2; exit 127") == (
        127,
        b"",
        b"Error: mine\n",
    )
    assert await run(machine, started, "printf", "OCI") == (0, b"OCI", b"")


async def test_stdin_to_its_end_and_back(machine: Machine) -> None:
    started = await running(machine)
    payload = bytes(range(250)) * 40_000
    code, out, err = await run(machine, started, "cat", stdin=Client(payload))
    assert (code, err, len(out)) == (0, b"", len(payload))
    assert hashlib.sha256(out).digest() == hashlib.sha256(payload).digest()
    assert await run(machine, started, "cat") == (0, b"", b"")
    assert await run(machine, started, "head", "-c", "3", stdin=Client(b"abcdef", stays=True)) == (0, b"abc", b"")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("/no/such", 'exec: "/no/such": stat /no/such: no such file or directory'),
        ("no-such", 'exec: "no-such": executable file not found in $PATH'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
    ],
)
async def test_a_command_that_cannot_be_run_is_said_so_as_by_a_kubelet(
    machine: Machine, command: str, why: str
) -> None:
    started = await running(machine)
    prefix = (
        "failed to exec in container: failed to start exec: OCI runtime exec failed: exec failed: "
        "unable to start container process: "
    )
    with pytest.raises(TransientError) as raised:
        await run(machine, started, command)
    assert str(raised.value) == prefix + why


async def test_a_container_that_has_ended_or_is_gone_is_not_found(machine: Machine) -> None:
    started = await running(machine, shell("true"))
    await machine.exit_of(started[0])
    with pytest.raises(NotFoundError, match=r'container not found \("main"\)'):
        await run(machine, started, "true")
    await machine.runtime.remove_container(started[0])
    with pytest.raises(NotFoundError, match=r'container not found \("main"\)'):
        await run(machine, started, "true")
    with pytest.raises(NotFoundError):
        await machine.runtime.attach_container(*started, streams(None, Client()))
    with pytest.raises(NotFoundError):
        await machine.log(started[0])


async def test_a_terminal_is_one_and_has_the_clients_size(machine: Machine) -> None:
    started = await running(machine)
    sizes, out, typed = Sizes(), Client(), Client(b"hello\r", stays=True)
    sizes.queue.put_nowait(TerminalSize(97, 31))
    wait = "until [ \"$(stty size)\" = '{}' ]; do sleep 0.1; done; echo {};"
    script = f'tty; {wait.format("31 97", "first")} {wait.format("40 120", "second")} read line; echo "<$line>"; exit 5'
    async with asyncio.timeout(PATIENCE):
        task = asyncio.ensure_future(
            machine.runtime.exec_in_container(*started, ["sh", "-c", script], streams(typed, out, sizes=sizes))
        )
        await out.until(b"first")
        sizes.queue.put_nowait(TerminalSize(120, 40))
        assert await task == 5
    assert b"/dev/pts/" in out.data
    assert b"second\r\n<hello>\r\n" in out.data


@pytest.mark.parametrize("tty", [False, True])
async def test_a_client_that_vanishes_leaves_no_process(machine: Machine, tty: bool) -> None:
    started = await running(machine)
    seconds = str(400_000 + time.monotonic_ns() % 500_000)
    out = Client()
    script = f"trap '' HUP TERM; sleep {seconds} & echo started; wait; sleep {seconds}"
    task = asyncio.ensure_future(
        machine.runtime.exec_in_container(
            *started, ["sh", "-c", script], streams(Client(stays=True), out, sizes=Sizes() if tty else None)
        )
    )
    await out.until(b"started")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(PATIENCE):
        while processes_with(seconds):
            await asyncio.sleep(0.05)
    assert (await run(machine, started, "true"))[0] == 0


async def test_attach_gives_and_takes_until_the_end(machine: Machine) -> None:
    what = shell('read line; echo "out $line"; echo "err $line" >&2; cat; exit 3', stdin=True, stdin_once=True)
    started = await running(machine, what)
    typed, out, err = Client(b"first\nrest", stays=True), Client(), Client()
    async with asyncio.timeout(PATIENCE):
        task = asyncio.ensure_future(machine.runtime.attach_container(*started, streams(typed, out, err)))
        await out.until(b"out first\nrest")
        typed.send(b"")
        await task
    assert bytes(err.data) == b"err first\n"
    assert (await machine.exit_of(started[0])).exit_code == 3


async def test_attach_to_a_terminal(machine: Machine) -> None:
    what = shell(
        'until [ "$(stty size)" = \'33 99\' ]; do sleep 0.1; done; read line; echo "<$line>"; sleep 1000',
        stdin=True,
        tty=True,
    )
    started = await running(machine, what)
    sizes, out, typed = Sizes(), Client(), Client(stays=True)
    sizes.queue.put_nowait(TerminalSize(99, 33))
    task = asyncio.ensure_future(machine.runtime.attach_container(*started, streams(typed, out, sizes=sizes)))
    typed.send(b"word\r")
    await out.until(b"<word>\r\n")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [one.exit for one in await machine.runtime.list_containers()] == [None]  # who leaves harms nobody


async def test_logs_have_times_and_long_lines_are_one(machine: Machine) -> None:
    before = time.time_ns()
    started = await machine.start(pod(), shell("echo first; head -c 50000 /dev/zero | tr '\\0' a; echo; printf last"))
    await machine.exit_of(started.id)
    lines = [line async for line in machine.runtime.container_logs(started.id, ContainerLogOptions())]
    assert [line.data for line in lines] == [b"first\n", b"a" * 50_000 + b"\n", b"last"]
    assert all(before - 2_000_000_000 < line.time_ns < time.time_ns() for line in lines)
    if machine.engine.kind == "dockerd":
        assert lines[0].time_ns % 1_000_000_000 != 0
    # What an engine gives in parts is given whole; the framework cuts what is too much.
    assert (await machine.log(started.id, tail_lines=2)).splitlines()[-2:] == [b"a" * 50_000, b"last"]
    assert await machine.log(started.id, since=datetime.now(UTC) + timedelta(hours=1)) == b""


async def test_the_last_lines_are_the_last(machine: Machine) -> None:
    started = await machine.start(pod(), shell("seq 1 2000"))
    await machine.exit_of(started.id)
    last = (await machine.log(started.id, tail_lines=3)).split()
    assert last[-3:] == [b"1998", b"1999", b"2000"]
    assert machine.engine.kind == "podman" or len(last) == 3  # and no more is read
    assert await machine.log(started.id, tail_lines=0) == b""
    assert len((await machine.log(started.id)).split()) == 2000


async def test_following_a_log_ends_with_the_container(machine: Machine) -> None:
    started = await machine.start(pod(), shell("echo one; until [ -e /go ]; do sleep 0.1; done; echo two"))
    lines = machine.runtime.container_logs(started.id, ContainerLogOptions(follow=True))
    async with asyncio.timeout(PATIENCE):
        assert (await anext(lines)).data == b"one\n"
        machine.engine.cli("exec", started.id, "touch", "/go")
        assert [line.data async for line in lines] == [b"two\n"]


async def test_logs_are_rotated(machine: Machine) -> None:
    async with machine_at(machine.engine, max_log_bytes=100_000, max_log_files=2) as small:
        started = await small.start(pod(), shell("seq 1 100000"))
        await small.exit_of(started.id)
        lines = (await small.log(started.id)).split()
    assert len(lines) < 60_000
    if machine.engine.kind == "dockerd":
        assert lines[-1] == b"100000"


@pytest.mark.skipif(os.geteuid() != 0, reason="the pod's network is root's to enter")
async def test_a_port_on_the_pods_loopback_interface_is_reached(machine: Machine) -> None:
    one = pod()
    sandbox = await machine.runtime.ensure_sandbox(one)
    await machine.start(one, shell("echo served >/tmp/index.html; exec httpd -f -p 127.0.0.1:8080 -h /tmp"))
    answer = b""
    async with asyncio.timeout(PATIENCE):
        while not answer:
            client = Client(b"GET /index.html HTTP/1.0\r\n\r\n")
            try:
                await machine.runtime.forward_port(one, sandbox, [], 8080, client)
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            answer = bytes(client.data)
    assert answer.endswith(b"\r\n\r\nserved\n")
    with pytest.raises(
        ConnectionRefusedError,
        match=r"localhost:9999: IPv4: dial tcp4 127\.0\.0\.1:9999: connect: connection refused IPv6: ",
    ):
        await machine.runtime.forward_port(one, sandbox, [], 9999, Client())

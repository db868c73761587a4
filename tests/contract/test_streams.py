"""kubectl exec, attach, cp and port-forward through the API server: kubectl in front, our node behind."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.commands import NodeProcess, processes_with, running_node
from tests.contract.scenarios import eventually, pod_on
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import PODS


class Result:
    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code, self.out, self.err = code, out, err.decode()


class Kubectl:
    """kubectl with bytes for stdin and stdout."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        self._start = ("kubectl", "--kubeconfig", str(kubeconfig), "--namespace", namespace)

    async def start(self, *args: str, wrapper: tuple[str, ...] = ()) -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*wrapper, *self._start, *args, stdin=pipe, stdout=pipe, stderr=pipe)

    async def __call__(self, *args: str, stdin: bytes = b"") -> Result:
        process = await self.start(*args)
        async with asyncio.timeout(120):
            out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Result(process.returncode, out, err)

    def line(self, *args: str) -> str:
        """For ``script``, which takes one string."""
        return " ".join((*self._start, *args))


@pytest.fixture
async def node(
    api_server: ApiServer, node_name: str, kubeconfig_file: Callable[[str], Path], tmp_path: Path
) -> AsyncIterator[NodeProcess]:
    """A node with streams and nothing but its own identity."""
    certificate, key = api_server.serving_certificate("127.0.0.1")
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)
    async with running_node(
        kubeconfig_file(api_server.node_kubeconfig(node_name)), node_name,
        "--provider", "tests.contract.streaming_provider:StreamingMock",
        "--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1",
        "--tls-cert-file", str(tmp_path / "tls.crt"), "--tls-private-key-file", str(tmp_path / "tls.key"),
    ) as process:  # fmt: skip
        yield process


@pytest.fixture
async def kubectl(
    api_server: ApiServer,
    node: NodeProcess,
    node_name: str,
    namespace: str,
    admin: ApiClient,
    kubeconfig_file: Callable[[str], Path],
) -> Kubectl:
    """kubectl of an administrator, in a namespace with a running pod ``p``."""
    await admin.create(PODS, pod_on(node_name, "p"), namespace)

    async def running() -> bool:
        return (await admin.get(PODS, "p", namespace)).status.phase == "Running"

    await eventually(running)
    return Kubectl(kubeconfig_file(api_server.admin_kubeconfig()), namespace)


async def test_exec_gives_output_errors_and_the_exit_code(kubectl: Kubectl) -> None:
    result = await kubectl("exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert (result.code, result.out) == (3, b"out\n")
    assert result.err == "err\ncommand terminated with exit code 3\n"


async def test_a_signal_is_an_exit_code(kubectl: Kubectl) -> None:
    assert (await kubectl("exec", "p", "--", "sh", "-c", "kill -9 $$")).code == 137


async def test_a_command_that_does_not_exist_is_said_so(kubectl: Kubectl) -> None:
    result = await kubectl("exec", "p", "--", "/no/such")
    assert result.code == 1
    assert "error executing command in container: No such file or directory: /no/such" in result.err


async def test_megabytes_through_stdin_and_back_have_equal_checksums(kubectl: Kubectl) -> None:
    payload = bytes(range(251)) * 80_000  # 20 MB
    result = await kubectl("exec", "-i", "p", "--", "cat", stdin=payload)
    assert result.code == 0, result.err
    assert hashlib.sha256(result.out).digest() == hashlib.sha256(payload).digest()


async def test_stdin_into_a_command_that_ends_early(kubectl: Kubectl) -> None:
    result = await kubectl("exec", "-i", "p", "--", "head", "-c", "3", stdin=b"abcdefgh\n" * 50_000)
    assert (result.code, result.out) == (0, b"abc"), result.err


async def test_a_terminal_has_the_size_of_kubectls(kubectl: Kubectl) -> None:
    line = kubectl.line("exec", "-it", "p", "--", "sh", "-c", "'sleep 1; stty size; exit 4'")
    process = await asyncio.create_subprocess_exec(
        "script", "-qec", f"stty rows 31 cols 97; {line}; echo code=$?", "/dev/null",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        assert process.stdout is not None
        out = (await process.stdout.read()).decode()
        await process.wait()
    assert "31 97\r\n" in out
    assert "code=4" in out


async def test_attach_passes_bytes_both_ways(kubectl: Kubectl) -> None:
    result = await kubectl("attach", "-i", "p", stdin=b"ping\n")
    assert (result.code, result.out) == (0, b"got ping\n"), result.err


async def test_files_are_copied_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 4000)
    away = await kubectl("cp", str(tmp_path / "a"), f"p:{tmp_path / 'b'}")
    assert away.code == 0, away.err
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()
    back = await kubectl("cp", f"p:{tmp_path / 'b'}", str(tmp_path / "c"))
    assert back.code == 0, back.err
    assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()


async def test_a_client_that_is_killed_has_its_command_killed(kubectl: Kubectl, node_name: str) -> None:
    marker = f"marker-{node_name}"
    process = await kubectl.start("exec", "p", "--", "sh", "-c", f"echo started; : {marker}; sleep 1000; :")
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert await process.stdout.readline() == b"started\n"

    def shells() -> list[int]:
        return [pid for pid in processes_with(marker) if pid != process.pid]

    assert shells()
    process.kill()
    await process.wait()
    await eventually(lambda: not shells())


async def test_fifty_connections_at_once_through_port_forward(kubectl: Kubectl) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.readline())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        process = await kubectl.start("port-forward", "p", f":{port}")
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                found = re.search(rb"127\.0\.0\.1:(\d+) ->", await process.stdout.readline())
            assert found is not None

            async def one(number: int) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
                writer.write(b"%d\n" % number)
                answer = await reader.read()
                writer.close()
                return answer

            async with asyncio.timeout(90):
                answers = await asyncio.gather(*(one(number) for number in range(50)))
            assert answers == [b"you said %d\n" % number for number in range(50)]
        finally:
            process.kill()
            await process.wait()


async def test_a_port_that_nobody_listens_on_is_said_so(kubectl: Kubectl) -> None:
    process = await kubectl.start("port-forward", "p", ":1")
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        async with asyncio.timeout(60):
            found = re.search(rb"127\.0\.0\.1:(\d+) ->", await process.stdout.readline())
            assert found is not None
            reader, writer = await asyncio.open_connection("127.0.0.1", int(found[1]))
            writer.write(b"x")
            assert await reader.read() == b""
            writer.close()
            said = await process.stderr.readline()
        assert b"error forwarding port 1 to pod p_" in said
        assert b"Connect call failed" in said or b"refused" in said
    finally:
        process.kill()
        await process.wait()

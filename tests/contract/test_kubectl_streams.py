"""kubectl exec, cp, attach and port-forward into containers that are real processes, over WebSocket and over SPDY."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest

from tests.contract.api_servers import ApiServer
from tests.contract.commands import Kubectl, processes_with, running_node
from tests.contract.scenarios import eventually, pod_on
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.objects.core_v1 import Container

pytestmark = pytest.mark.timeout(240)

SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
#: Says its port; answers a connection with what it was sent, in capitals.
SERVER = """
import socketserver
class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.read().upper())
class Server(socketserver.ThreadingTCPServer):
    request_queue_size = 100
with Server(("127.0.0.1", 0), Upper) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""


class Streams(Kubectl):
    """kubectl of an administrator, with bytes for stdin and stdout, in a namespace where a pod ``p`` runs."""

    def __init__(self, kubeconfig: Path, namespace: str, mode: str, environment: dict[str, str]) -> None:
        super().__init__(kubeconfig, environment)
        self.namespace, self.mode = namespace, mode

    def line(self, *args: str) -> list[str]:
        return ["kubectl", "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *args]

    @contextlib.asynccontextmanager
    async def started(self, *line: str, stdin: bool = False) -> AsyncIterator[asyncio.subprocess.Process]:
        child = await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **self.environment},
        )
        try:
            async with asyncio.timeout(120):
                yield child
        finally:
            if child.returncode is None:
                child.kill()
            await child.communicate()

    async def run(self, *args: str, stdin: bytes | None = None) -> tuple[int | None, bytes, str]:
        async with self.started(*self.line(*args), stdin=stdin is not None) as child:
            out, err = await child.communicate(stdin)
            return child.returncode, out, err.decode()


@pytest.fixture
async def both(
    api_server: ApiServer,
    node_name: str,
    namespace: str,
    admin: ApiClient,
    kubeconfig_file: Callable[[str], Path],
    tmp_path: Path,
) -> AsyncIterator[list[Streams]]:
    """One that speaks WebSocket, one that speaks SPDY; a node whose containers are processes, under its own identity."""
    certificate, key = api_server.serving_certificate("127.0.0.1")
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)
    options = [
        "--listen", "127.0.0.1:0", "--node-ip", "127.0.0.1",
        "--tls-cert-file", str(tmp_path / "tls.crt"), "--tls-private-key-file", str(tmp_path / "tls.key"),
        "--provider", "process", "--allow-host-processes", "--state-dir", str(tmp_path / "state"),
        "--on-shutdown", "drain", "--drain-timeout", "1s",
    ]  # fmt: skip
    kubeconfig = kubeconfig_file(api_server.node_kubeconfig(node_name))
    async with running_node(kubeconfig, node_name, *options) as node:
        one = pod_on(node_name, "p")
        one.spec.containers = [Container(name="main", image="none", command=[sys.executable, "-c", SERVER])]
        await admin.create(PODS, one, namespace)

        async def running() -> bool:
            return (await admin.get(PODS, "p", namespace)).status.phase == "Running"

        await eventually(running, seconds=40)
        admins = kubeconfig_file(api_server.admin_kubeconfig())
        yield [Streams(admins, namespace, "websocket", {}), Streams(admins, namespace, "spdy", SPDY)]
        assert await node.stop() == 0


async def test_exec_gives_output_errors_exit_codes_and_a_kubelets_words(both: list[Streams]) -> None:
    for kubectl in both:
        ran = await kubectl.run("exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 42")
        assert ran == (42, b"out\n", "err\ncommand terminated with exit code 42\n")
        code, _, err = await kubectl.run("exec", "p", "--", "sh", "-c", "kill -9 $$")
        assert (code, err) == (137, "command terminated with exit code 137\n")
        code, out, err = await kubectl.run("exec", "p", "--", "/no/such")
        assert (code, out) == (1, b"")
        assert "error executing command in container: failed to exec in container: failed to start exec" in err
        assert err.endswith('exec: "/no/such": stat /no/such: no such file or directory\n')


async def test_a_hundred_megabytes_pass_whole_and_a_command_may_end_before_its_input(both: list[Streams]) -> None:
    for kubectl in both:
        payload = bytes(range(250)) * 400_000
        code, out, err = await kubectl.run("exec", "-i", "p", "--", "cat", stdin=payload)
        assert (code, err, len(out)) == (0, "", len(payload))
        assert hashlib.sha256(out).digest() == hashlib.sha256(payload).digest()
        assert await kubectl.run("exec", "-i", "p", "--", "head", "-c", "3", stdin=b"abcdefgh\n") == (0, b"abc", "")


async def test_a_terminal_has_the_size_of_kubectls_and_an_exit_code(both: list[Streams]) -> None:
    for kubectl in both:
        script = '\'until [ "$(stty size)" = "31 97" ]; do sleep 0.1; done; tty; exit 4\''
        line = " ".join(kubectl.line("exec", "-it", "p", "--", "sh", "-c", script))
        terminal = ["script", "-qec", f"stty rows 31 cols 97; {line}; echo code=$?", "/dev/null"]
        async with kubectl.started(*terminal, stdin=True) as child:
            assert child.stdout is not None
            out = await child.stdout.read()
        assert b"/dev/pts/" in out
        assert b"code=4" in out


async def test_a_client_that_is_killed_leaves_no_process(both: list[Streams], node_name: str) -> None:
    for kubectl in both:
        marker = f"marker-{node_name}-{kubectl.mode}"
        line = kubectl.line(
            "exec", "p", "--", "sh", "-c", f"echo started; : {marker}; (setsid sleep 1000004 &); sleep 1000005; :"
        )
        async with kubectl.started(*line) as child:
            assert child.stdout is not None
            assert await child.stdout.readline() == b"started\n"

            assert set(processes_with(marker)) - {child.pid}
            child.kill()
            await child.wait()
            await eventually(partial(_nobody_has, marker))
            await eventually(lambda: not processes_with("sleep\x001000004") and not processes_with("sleep\x001000005"))


async def test_files_are_copied_both_ways(both: list[Streams], tmp_path: Path) -> None:
    for kubectl in both:
        (tmp_path / "a").write_bytes(bytes(range(256)) * 4000)
        code, _, err = await kubectl.run("cp", str(tmp_path / "a"), f"p:{tmp_path / f'b-{kubectl.mode}'}")
        assert code == 0, err
        code, _, err = await kubectl.run("cp", f"p:{tmp_path / f'b-{kubectl.mode}'}", str(tmp_path / "c"))
        assert code == 0, err
        assert (tmp_path / "c").read_bytes() == (tmp_path / "a").read_bytes()


async def test_attach_passes_input_and_output_until_the_process_ends(
    both: list[Streams], admin: ApiClient, node_name: str
) -> None:
    for kubectl in both:
        one = pod_on(node_name, f"q-{kubectl.mode}")
        one.spec.restart_policy = "Never"
        script = 'while read line; do echo "got $line"; done; echo err >&2'
        one.spec.containers = [
            Container(name="main", image="none", command=["sh", "-c", script], stdin=True, stdin_once=True)
        ]
        await admin.create(PODS, one, kubectl.namespace)

        await eventually(partial(_phase_is, "Running", admin, f"q-{kubectl.mode}", kubectl.namespace), seconds=40)
        code, out, err = await kubectl.run("attach", "-i", f"q-{kubectl.mode}", stdin=b"one\ntwo\n")
        assert (code, out) == (0, b"got one\ngot two\n"), err
        assert "err\n" in err


async def test_attach_to_a_terminal_passes_keys_and_sizes(
    both: list[Streams], admin: ApiClient, node_name: str
) -> None:
    for kubectl in both:
        one = pod_on(node_name, f"t-{kubectl.mode}")
        one.spec.restart_policy = "Never"
        script = (
            'until [ "$(stty size)" = \'31 97\' ]; do sleep 0.1; done; echo sized; read line; echo "<$line>"; exit 6'
        )
        one.spec.containers = [
            Container(name="main", image="none", command=["sh", "-c", script], stdin=True, stdin_once=True, tty=True)
        ]
        await admin.create(PODS, one, kubectl.namespace)

        await eventually(partial(_phase_is, "Running", admin, f"t-{kubectl.mode}", kubectl.namespace), seconds=40)
        line = " ".join(kubectl.line("attach", "-it", f"t-{kubectl.mode}"))
        async with kubectl.started("script", "-qec", f"stty rows 31 cols 97; {line}", "/dev/null", stdin=True) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            out = b""
            while b"sized" not in out:
                out += await child.stdout.readline()
            child.stdin.write(b"typed\r")
            out += await child.stdout.read()
        assert b"typed\r\n<typed>\r\n" in out

        await eventually(partial(_phase_is, "Failed", admin, f"t-{kubectl.mode}", kubectl.namespace))
        status = ((await admin.get(PODS, f"t-{kubectl.mode}", kubectl.namespace)).status.container_statuses or [])[0]
        assert status.state
        assert status.state.terminated
        assert status.state.terminated.exit_code == 6


async def test_fifty_connections_are_forwarded_at_once(both: list[Streams]) -> None:
    async def said() -> int:
        text = (await both[0].run("logs", "p"))[1].strip()
        return int(text) if text.isdigit() else 0

    port = await eventually(said, seconds=40)
    for kubectl in both:
        async with kubectl.started(*kubectl.line("port-forward", "p", f":{port}")) as child:
            local = await _local_port(child)

            answers = await asyncio.gather(*(_call(local, b"call %d " % number * 1000) for number in range(50)))
        assert answers == [b"CALL %d " % number * 1000 for number in range(50)]


async def test_a_port_that_is_not_the_pods_is_refused(both: list[Streams]) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"not for pods")
        writer.close()

    for kubectl in both:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with kubectl.started(*kubectl.line("port-forward", "p", f":{port}")) as child:
                reader, writer = await asyncio.open_connection("127.0.0.1", await _local_port(child))
                writer.write(b"x")
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
                writer.close()
                assert child.stderr is not None
                error = (await child.stderr.readline()).decode()
        assert f"error forwarding port {port} to pod p_" in error
        assert f"dial tcp4 127.0.0.1:{port}: connect: connection refused" in error


async def _phase_is(phase: str, admin: ApiClient, name: str, namespace: str) -> bool:
    return (await admin.get(PODS, name, namespace)).status.phase == phase


def _nobody_has(marker: str) -> bool:
    return not processes_with(marker)


async def _call(port: int, question: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(question)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def _local_port(child: asyncio.subprocess.Process) -> int:
    assert child.stdout is not None
    found = re.search(rb"127\.0\.0\.1:(\d+) ->", await child.stdout.readline())
    assert found is not None
    return int(found[1])

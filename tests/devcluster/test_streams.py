"""Streams through the dev cluster to a real node: real kubectl, both protocols on each side."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.contract.commands import Kubectl
from tests.contract.scenarios import eventually, pod_on
from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.streams import AttachIO, InputStream, OutputStream, PortStream
from virtual_kubelet.devcluster import DevCluster
from virtual_kubelet.errors import NotFoundError, TransientError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.kubeconfig import load_kubeconfig
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.kubelet import Kubelet, KubeletConfig
from virtual_kubelet.objects.core_v1 import ContainerState, ContainerStateRunning, ContainerStatus, Node, Pod, PodStatus

BYTES = 8 * 1024 * 1024
SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
DIRECT = "ExtendWebSocketsToKubelet"


async def _copy(reader: asyncio.StreamReader, output: OutputStream | None) -> None:
    while data := await reader.read(65536):
        if output is not None:
            await output.write(data)


async def _feed(stdin: InputStream | None, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while stdin is not None and (data := await stdin.read()):
            writer.write(data)
            await writer.drain()
    writer.close()


class Shell:
    """Containers on paper; commands in them are real processes of this machine."""

    direct = True

    def __init__(self, context: ProviderContext) -> None:
        self.pods: dict[PodKey, Pod] = {}

    def configure_node(self, node: Node) -> None:
        node.status.capacity = node.status.allocatable = {"cpu": "2", "memory": "1Gi", "pods": "10"}
        node.status.declared_features = [DIRECT] if self.direct else []

    async def create_pod(self, pod: Pod) -> None:
        self.pods[PodKey.of(pod)] = pod

    async def update_pod(self, pod: Pod) -> None:
        self.pods[PodKey.of(pod)] = pod

    async def delete_pod(self, pod: Pod) -> None:
        self.pods.pop(PodKey.of(pod), None)

    async def get_pod(self, key: PodKey) -> Pod | None:
        return self.pods.get(key)

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        if key not in self.pods:
            return None
        running = ContainerState(running=ContainerStateRunning(started_at="2026-01-01T00:00:00Z"))
        main = ContainerStatus(name="main", image="", image_id="", ready=True, restart_count=0, state=running)
        return PodStatus(phase="Running", container_statuses=[main])

    async def get_pods(self) -> Sequence[Pod]:
        return list(self.pods.values())

    async def run_in_container(self, key: PodKey, container: str, command: Sequence[str], streams: AttachIO) -> int:
        if container != "main":
            raise NotFoundError(f'container not found ("{container}")')
        try:
            child = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
        except FileNotFoundError as error:
            raise TransientError(f'exec: "{command[0]}": {error.strerror}') from None
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        feeding = asyncio.create_task(_feed(streams.stdin, child.stdin))
        try:
            await asyncio.gather(_copy(child.stdout, streams.stdout), _copy(child.stderr, streams.stderr))
            code = await child.wait()
        finally:
            feeding.cancel()
            if child.returncode is None:
                child.kill()
                await child.wait()
        return code if code >= 0 else 128 - code

    async def attach_to_container(self, key: PodKey, container: str, streams: AttachIO) -> None:
        assert streams.stdout is not None
        while streams.stdin is not None and (data := await streams.stdin.read()):
            await streams.stdout.write(b"heard " + data)

    async def port_forward(self, key: PodKey, port: int, stream: PortStream) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        feeding = asyncio.create_task(self._forward(stream, writer))
        try:
            while data := await reader.read(65536):
                await stream.write(data)
        finally:
            feeding.cancel()
            writer.close()

    @staticmethod
    async def _forward(stream: PortStream, writer: asyncio.StreamWriter) -> None:
        while data := await stream.read():
            writer.write(data)
            await writer.drain()
        writer.write_eof()


class Translated(Shell):
    """On a node that does not take WebSockets from the API server."""

    direct = False


@pytest.fixture(
    params=[(Shell, {}), (Translated, {}), (Shell, SPDY)], ids=["websocket", "translated websocket", "spdy"]
)
def combination(request: pytest.FixtureRequest) -> tuple[type[Shell], dict[str, str]]:
    """How the node and kubectl speak."""
    found: tuple[type[Shell], dict[str, str]] = request.param
    return found


@pytest.fixture
async def kubeconfig(combination: tuple[type[Shell], dict[str, str]], tmp_path: Path) -> AsyncIterator[Path]:
    """Of a dev cluster with the node ``n`` and the pod ``p`` on it."""
    async with DevCluster() as cluster:
        for name, text in {"admin": cluster.kubeconfig(), "node": cluster.node_kubeconfig("n")}.items():
            await asyncio.to_thread((tmp_path / name).write_text, text)
        config = KubeletConfig(
            provider=combination[0],
            node_name="n",
            client_config=load_kubeconfig(tmp_path / "node"),
            listen_host="127.0.0.1",
            listen_port=0,
            state_directory=tmp_path / "state",
        )
        kubelet = Kubelet(config)
        node = asyncio.create_task(kubelet.run())
        try:
            await kubelet.wait_ready(60)
            async with ApiClient(load_kubeconfig(tmp_path / "admin")) as admin:
                await admin.create(PODS, pod_on("n", "p"), "default")

                async def running() -> bool:
                    return (await admin.get(PODS, "p", "default")).status.phase == "Running"

                await eventually(running)
            yield tmp_path / "admin"
        finally:
            node.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await node


@pytest.fixture
def kubectl(combination: tuple[type[Shell], dict[str, str]], kubeconfig: Path) -> Kubectl:
    return Kubectl(kubeconfig, environment=combination[1])


async def test_exec_passes_output_errors_and_exit_code(kubectl: Kubectl) -> None:
    done = await kubectl("exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 3", code=3)
    assert (done.out, done.err) == ("out\n", "err\ncommand terminated with exit code 3\n")
    assert (await kubectl("exec", "p", "--", "echo", "a b", "c")).out == "a b c\n"


async def test_exec_passes_stdin_to_its_end(kubectl: Kubectl) -> None:
    assert (await kubectl("exec", "-i", "p", "--", "wc", "-c", stdin="four")).out.strip() == "4"


async def test_much_data_goes_both_ways_unchanged(kubectl: Kubectl, tmp_path: Path) -> None:
    sent = os.urandom(BYTES)
    await asyncio.to_thread((tmp_path / "sent").write_bytes, sent)
    script = f"kubectl --kubeconfig {kubectl.kubeconfig} exec -i p -- cat < {tmp_path}/sent > {tmp_path}/received"
    child = await asyncio.create_subprocess_shell(script, env={**os.environ, **kubectl.environment})
    async with asyncio.timeout(120):
        assert await child.wait() == 0
    received = await asyncio.to_thread((tmp_path / "received").read_bytes)
    assert hashlib.sha256(received).digest() == hashlib.sha256(sent).digest()


async def test_a_command_that_cannot_start_is_told(kubectl: Kubectl) -> None:
    refused = await kubectl("exec", "p", "--", "/no/such", code=1)
    assert 'exec: "/no/such": No such file or directory' in refused.err


async def test_an_unknown_container_and_pod_are_told(kubectl: Kubectl) -> None:
    refused = await kubectl("exec", "p", "-c", "zz", "--", "id", code=1)
    assert refused.err == "error: container zz is not valid for pod p out of: main\n"
    refused = await kubectl("exec", "zz", "--", "id", code=1)
    assert refused.err == 'Error from server (NotFound): pods "zz" not found\n'


async def test_attach_talks_to_the_main_process(kubectl: Kubectl) -> None:
    assert (await kubectl("attach", "-i", "p", stdin="hello\n")).out == "heard hello\n"


async def test_files_are_copied_both_ways(kubectl: Kubectl, tmp_path: Path) -> None:
    await asyncio.to_thread((tmp_path / "here").write_text, "content")
    await kubectl("cp", str(tmp_path / "here"), f"p:{tmp_path}/there")
    assert await asyncio.to_thread((tmp_path / "there").read_text) == "content"
    await kubectl("cp", f"p:{tmp_path}/there", str(tmp_path / "back"))
    assert await asyncio.to_thread((tmp_path / "back").read_text) == "content"


async def test_fifty_connections_are_forwarded_at_once(kubectl: Kubectl) -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(upper, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    child = await asyncio.create_subprocess_exec(
        "kubectl", "--kubeconfig", str(kubectl.kubeconfig), "port-forward", "p", f":{port}",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env={**os.environ, **kubectl.environment},
    )  # fmt: skip
    assert child.stdout is not None
    try:
        async with asyncio.timeout(120):
            line = (await child.stdout.readline()).decode()
            local = int(line.split("127.0.0.1:")[1].split()[0])

            async def call(number: int) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", local)
                writer.write(b"call %d " % number * 1000)
                writer.write_eof()
                answer = await reader.read()
                writer.close()
                return answer

            answers = await asyncio.gather(*(call(n) for n in range(50)))
        assert answers == [b"CALL %d " % n * 1000 for n in range(50)]
    finally:
        child.send_signal(signal.SIGINT)
        await child.wait()
        server.close()

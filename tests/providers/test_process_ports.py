"""Port-forward into a process provider's pods: real sockets of real processes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.providers.test_process_provider import Node, pod
from tests.stream_clients import Client
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import Container, Pod

pytestmark = pytest.mark.may_block  # files are made and looked at

#: Says its port; turns what it is sent, to its end, into capitals.
SERVER = """
import socket, socketserver, sys
class Upper(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.read().upper())
class Server(socketserver.ThreadingTCPServer):
    address_family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
with Server((sys.argv[1], 0), Upper) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
"""


async def serving(node: Node, *command: str) -> tuple[Pod, int]:
    one = pod("")
    one.spec.containers = [Container(name="main", image="none", command=list(command))]
    await node.provider.create_pod(one)
    async with asyncio.timeout(30):
        while not await node.wrote(one):
            await asyncio.sleep(0.05)
    return one, int((await node.logs(one))[0])


async def call(node: Node, one: Pod, port: int, data: bytes) -> bytes:
    client = Client(data)
    async with asyncio.timeout(60):
        await node.provider.port_forward(PodKey.of(one), port, client)
    return bytes(client.data)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1", "::"])
async def test_bytes_pass_both_ways_and_the_port_may_answer_after_the_clients_end(node: Node, address: str) -> None:
    if ":" in address and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    one, port = await serving(node, sys.executable, "-c", SERVER, address)
    data = b"some bytes " * 100_000
    assert await call(node, one, port, data) == data.upper()


async def test_a_port_of_a_descendant_that_has_left_its_session_is_the_pods(node: Node) -> None:
    one, port = await serving(node, "sh", "-c", 'setsid "$0" -c "$1" 127.0.0.1 & sleep 1000003', sys.executable, SERVER)
    assert await call(node, one, port, b"x") == b"X"


async def test_a_port_of_the_machine_or_of_another_pod_is_refused(node: Node) -> None:
    one, port = await serving(node, sys.executable, "-c", SERVER, "127.0.0.1")
    other, others_port = await serving(node, sys.executable, "-c", SERVER, "127.0.0.1")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        ours = server.sockets[0].getsockname()[1]
        for refused in (ours, others_port, 1):
            with pytest.raises(ConnectionRefusedError, match=f"failed to connect to localhost:{refused}: .*refused"):
                await call(node, one, refused, b"x")
    assert await call(node, other, others_port, b"x") == b"X"
    assert await call(node, one, port, b"x") == b"X"


async def test_a_pod_that_does_not_run_has_no_ports(node: Node) -> None:
    one = pod("exit 0")
    await node.provider.create_pod(one)
    await node.ended(one)
    with pytest.raises(ConnectionRefusedError):
        await call(node, one, 1, b"x")


async def test_a_client_that_vanishes_closes_its_connection(node: Node) -> None:
    script = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); "
        "c = s.accept()[0]; c.sendall(b'hello');\ntry: c.recv(1)\nexcept OSError: pass\nprint('closed')"
    )
    one, port = await serving(node, sys.executable, "-c", script)
    client = Client(stays=True)
    task = asyncio.ensure_future(node.provider.port_forward(PodKey.of(one), port, client))
    await client.until(b"hello")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await node.ended(one)).exit_code == 0
    assert (await node.logs(one))[-1] == b"closed\n"

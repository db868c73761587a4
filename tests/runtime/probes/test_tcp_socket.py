from __future__ import annotations

import asyncio
import socket

import pytest

from tests.runtime.probes.raw_server import free_port, raw_server, says, target
from virtual_kubelet.objects.core_v1 import TCPSocketAction
from virtual_kubelet.runtime.probes.target import Outcome, ProbeError
from virtual_kubelet.runtime.probes.tcp_socket import probe_tcp_socket


async def test_a_port_that_takes_connections_is_a_success_and_the_connection_is_closed() -> None:
    async def until_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""

    async with raw_server(until_closed, wait_for_request=False) as server:
        probed = await probe_tcp_socket(target(ports={"db": server.port}), TCPSocketAction(port="db"), 60)
        assert probed == (Outcome.SUCCESS, "")
        async with asyncio.timeout(60):
            await server.closed.wait()


async def test_ipv6_works() -> None:
    try:
        async with raw_server(says(b""), wait_for_request=False, host="::1") as server:
            probed = await probe_tcp_socket(target(ip="::1"), TCPSocketAction(port=server.port), 60)
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert probed == (Outcome.SUCCESS, "")


async def test_a_port_without_a_server_refuses() -> None:
    port = free_port()
    text = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
    assert await probe_tcp_socket(target(), TCPSocketAction(port=port), 60) == (Outcome.FAILURE, text)


async def test_who_does_not_answer_is_given_up() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.socket() as first, socket.socket() as second:
            for sock in (first, second):  # the queue is full: nobody takes the next one
                sock.setblocking(False)
                sock.connect_ex(address)
            await asyncio.sleep(0.05)
            probed = await probe_tcp_socket(target(), TCPSocketAction(port=address[1]), 0.3)
    assert probed == (Outcome.FAILURE, f"dial tcp 127.0.0.1:{address[1]}: i/o timeout")


async def test_a_port_that_has_no_number_is_no_failure_of_the_container() -> None:
    with pytest.raises(ProbeError, match=r"strconv\.Atoi"):
        await probe_tcp_socket(target(), TCPSocketAction(port="web"), 60)

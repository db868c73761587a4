"""All kinds of hostile clients at once, over TLS: memory stays bounded, and everybody else is served."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import socket
import ssl
import struct
import termios
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from tests.server.raw_http_client import RawClient
from tests.server.recorded_node import LoggingProvider, Pods
from tests.server.test_kubelet_api import RUNNING, Ada, forever, pod
from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.server.authentication import CertificateAuthenticator
from virtual_kubelet.server.authorization import AlwaysAllowAuthorizer
from virtual_kubelet.server.connection import ServerLimits, _keep_alive
from virtual_kubelet.server.container_logs import LogLimits
from virtual_kubelet.server.kubelet_api import KubeletServer

#: A request line that is known, and credentials of nobody.
GET = b"GET /pods HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer nobody\r\n"
FOLLOW = b"GET /containerLogs/ns/web/main?follow=true HTTP/1.1\r\nHost: x\r\n\r\n"


async def endless(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
    """A log that is never silent, of tiny and of large lines."""
    while True:
        for _ in range(100):
            yield LogLine(1, b"\n")
        yield LogLine(1, b"x" * 10_000 + b"\n")


class Attack:
    """Clients without end: each does its worst, is cut, and comes again."""

    def __init__(self, address: tuple[str, int], stranger: ssl.SSLContext, caller: ssl.SSLContext) -> None:
        self.address, self.stranger, self.caller = address, stranger, caller
        self.random = random.Random(0)
        self.rounds: dict[str, int] = {}

    async def repeat(self, kind: Callable[[], Awaitable[None]]) -> None:
        while True:
            self.rounds[kind.__name__] = self.rounds.get(kind.__name__, 0) + 1
            with suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
                await kind()
            await asyncio.sleep(0.5)

    async def says_nothing(self) -> None:
        reader, writer = await asyncio.open_connection(*self.address)
        try:
            await reader.read()
        finally:
            writer.transport.abort()

    async def trickles(self) -> None:
        async with await RawClient.open(self.address, self.stranger) as client:
            client.send(GET + b"X: ")
            while not client.writer.transport.is_closing():
                client.send(b"a")
                await asyncio.sleep(0.01)

    async def floods_headers(self) -> None:
        async with await RawClient.open(self.address, self.stranger) as client:
            client.send(GET + b"".join(b"a%d: b\r\n" % number for number in range(5000)) + b"\r\n")
            await client.reader.read()

    async def sends_endless_headers(self) -> None:
        async with await RawClient.open(self.address, self.stranger) as client:
            client.send(GET + b"X: ")
            for _ in range(100):
                client.send(b"a" * 100_000)
                await client.writer.drain()

    async def sends_a_huge_body(self) -> None:
        async with await RawClient.open(self.address, self.stranger) as client:
            client.send(b"POST" + GET[3:] + b"Content-Length: 1000000000000\r\n\r\n")
            for _ in range(200):
                client.send(b"a" * 100_000)
                await client.writer.drain()

    async def sends_nonsense(self) -> None:
        async with await RawClient.open(self.address, self.stranger) as client:
            client.send(self.random.randbytes(self.random.randrange(1, 5000)) + b"\r\n\r\n")
            await client.reader.read()

    async def asks_without_reading(self) -> None:
        async with await RawClient.open(self.address, self.stranger) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            while not client.writer.transport.is_closing():
                client.send((GET + b"\r\n") * 1000)
                await client.writer.drain()
                await asyncio.sleep(0)

    async def follows_without_reading(self) -> None:
        async with await RawClient.open(self.address, self.caller) as client:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            client.send(FOLLOW)
            await asyncio.sleep(1)

    async def asks_for_a_tail_without_end(self) -> None:
        async with await RawClient.open(self.address, self.caller) as client:
            client.send(FOLLOW.replace(b"follow=true", b"tailLines=9223372036854775807"))
            await asyncio.sleep(1)


async def test_everybody_else_is_served_and_memory_is_bounded(
    nothing_left: None,
    serving_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
    certified_context: ssl.SSLContext,
) -> None:
    limits = ServerLimits(max_connections=40, header_timeout=5, body_timeout=5, write_timeout=5)
    server = KubeletServer(
        "node-1",
        LoggingProvider(endless),
        Pods([pod(main=RUNNING)]),
        authenticator=CertificateAuthenticator(),
        authorizer=AlwaysAllowAuthorizer(),
        ssl_context=serving_context,
        limits=limits,
        log_limits=LogLimits(max_streams=8, tail_bytes=2_000_000, all_tails_bytes=4_000_000, silence=2),
    )
    (address,) = await server.start("127.0.0.1", 0)
    attack = Attack(address, client_context, certified_context)
    # More than there are connections, but those who are served for long, and so do not give way, are fewer.
    kinds = {
        attack.says_nothing: 16,
        attack.trickles: 8,
        attack.floods_headers: 2,
        attack.sends_endless_headers: 2,
        attack.sends_a_huge_body: 2,
        attack.sends_nonsense: 2,
        attack.asks_without_reading: 4,
        attack.follows_without_reading: 4,
        attack.asks_for_a_tail_without_end: 4,
    }
    tracemalloc.start()
    attackers = [asyncio.create_task(attack.repeat(kind)) for kind, count in kinds.items() for _ in range(count)]
    served = 0
    try:
        async with asyncio.timeout(150):
            while served < 5 or len(attack.rounds) < len(kinds):
                with suppress(
                    OSError, asyncio.IncompleteReadError
                ):  # it may be refused or give way itself: it comes again
                    async with await RawClient.open(address, certified_context) as client:
                        answer = await client.ask("GET", "/pods")
                        assert answer.status == 200
                        assert [item["metadata"]["name"] for item in json.loads(answer.body)["items"]] == ["web"]
                        served += 1
                assert server.connections <= limits.max_connections
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        for attacker in attackers:
            attacker.cancel()
        await asyncio.gather(*attackers, return_exceptions=True)
        await server.aclose(grace=0)
    assert set(attack.rounds) == {kind.__name__ for kind in kinds}
    assert server.log_streams == 0
    assert peak < 150_000_000  # the clients' own memory is in there


async def test_a_client_that_vanishes_without_a_word_ends_its_silent_stream(
    nothing_left: None, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a connection vanish (TCP_REPAIR)")
    closed = asyncio.Event()

    async def silent(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        try:
            await forever()
            yield LogLine(1, b"never")
        finally:
            closed.set()

    server = KubeletServer(
        "node-1",
        LoggingProvider(silent),
        Pods([pod(main=RUNNING)]),
        authenticator=Ada(),
        authorizer=AlwaysAllowAuthorizer(),
        ssl_context=serving_context,
        limits=ServerLimits(keep_alive=1),
    )
    (address,) = await server.start("127.0.0.1", 0)
    try:
        client = await RawClient.open(address, client_context)
        client.send(FOLLOW)
        await client.head()
        (served,) = server._http._connections
        ours = served._transport.get_extra_info("socket")
        async with asyncio.timeout(60):
            while struct.unpack("i", fcntl.ioctl(ours, termios.TIOCOUTQ, b"\0" * 4))[0]:
                await asyncio.sleep(
                    0.01
                )  # what is not acknowledged would be sent again, and the silence noticed by that
        connection: socket.socket = client.writer.get_extra_info("socket")
        try:
            connection.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR: closes without FIN or RST
        except OSError:
            await client.aclose()
            pytest.skip("TCP_REPAIR is not allowed here")
        await client.aclose()
        await asyncio.wait_for(closed.wait(), 30)
    finally:
        await server.aclose(grace=0)


def test_keep_alive_is_asked_for_as_documented() -> None:
    with socket.socket() as plain:
        _keep_alive(plain, 15)
        options = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT]
        assert [plain.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [15, 5, 3]
        assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)

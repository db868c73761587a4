"""HTTP probes against real servers, most of which misbehave. The texts are those of Go's net/http, asked the same."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import struct

import pytest
import trustme

from tests.runtime.probes.raw_server import RawServer, free_port, raw_server, says, says_and_hangs, target
from virtual_kubelet.objects.core_v1 import HTTPGetAction, HTTPHeader
from virtual_kubelet.runtime.probes.http_get import probe_by_http
from virtual_kubelet.runtime.probes.target import OUTPUT_LIMIT, Outcome, ProbeAnswer, ProbeError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#: Seconds; what does not hang must be over long before, even on a loaded machine.
AMPLE = 60.0


async def ask(server: RawServer, *, timeout: float = AMPLE, scheme: str = "HTTP", path: str = "/x") -> ProbeAnswer:
    return await probe_by_http(target(), HTTPGetAction(port=server.port, path=path, scheme=scheme), timeout)


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("nobody.example").configure_cert(context)
    return context


async def test_a_success_shows_the_body_and_the_request_is_as_a_kubelets() -> None:
    async with raw_server(says(OK)) as server:
        action = HTTPGetAction(port="web", path="/h?a=b", http_headers=[HTTPHeader(name="Host", value="h.example")])
        assert await probe_by_http(target(ports={"web": server.port}), action, AMPLE) == (Outcome.SUCCESS, "ok")
    assert server.requests == [
        "GET /h?a=b HTTP/1.1\r\nHost: h.example\r\nUser-Agent: kube-probe/1.36\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ]


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_other_statuses_are_failures(status: int) -> None:
    async with raw_server(says(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % status)) as server:
        failed = (Outcome.FAILURE, f"HTTP probe failed with statuscode: {status}")
        assert await ask(server) == failed


async def test_a_port_without_a_server_refuses() -> None:
    port = free_port()
    answer = await probe_by_http(target(), HTTPGetAction(port=port, path="/ok"), AMPLE)
    text = f'Get "http://127.0.0.1:{port}/ok": dial tcp 127.0.0.1:{port}: connect: connection refused'
    assert answer == (Outcome.FAILURE, text)


async def test_a_name_that_is_not_known_is_said() -> None:
    answer = await probe_by_http(target(), HTTPGetAction(port=80, path="/", host="no.such.invalid"), AMPLE)
    assert answer == (
        Outcome.FAILURE,
        'Get "http://no.such.invalid:80/": dial tcp: lookup no.such.invalid: no such host',
    )


async def test_a_port_that_has_no_number_is_no_failure_of_the_container() -> None:
    with pytest.raises(ProbeError, match=r"strconv\.Atoi"):
        await probe_by_http(target(), HTTPGetAction(port="web", path="/"), AMPLE)


BROKEN = "net/http: HTTP/1.x transport connection broken: "


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"", "EOF"),
        (b"garbage\r\n\r\n", BROKEN + 'malformed HTTP response "garbage"'),
        (b"\x00\x01\x02\x03", BROKEN),
        (b"HTTP/1.1 abc\r\n\r\n", BROKEN),
        (b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", BROKEN),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * (1 << 20), "server response headers exceeded 65536 bytes"),
    ],
)
async def test_what_is_no_http_is_a_failure(said: bytes, text: str) -> None:
    async with raw_server(says(said)) as server:
        outcome, message = await ask(server)
    assert outcome is Outcome.FAILURE
    assert message.startswith(f'Get "http://127.0.0.1:{server.port}/x": ')
    assert text in message


async def test_a_connection_that_is_reset_is_a_failure() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with raw_server(reset) as server:
        _, message = await ask(server)
    ends = rf"127\.0\.0\.1:\d+->127\.0\.0\.1:{server.port}"
    assert re.search(rf": read tcp {ends}: read: connection reset by peer$", message)


async def test_a_server_that_is_slow_is_given_up_and_left() -> None:
    async with raw_server(says_and_hangs(b"HTTP/1.1 200 OK\r\n")) as server:
        outcome, message = await ask(server, timeout=0.2)
        late = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        assert (outcome, message) == (Outcome.FAILURE, f'Get "http://127.0.0.1:{server.port}/x": {late}')
        async with asyncio.timeout(AMPLE):
            await server.closed.wait()


async def test_a_body_that_does_not_come_is_a_failure_too() -> None:
    async with raw_server(says_and_hangs(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")) as server:
        for timeout in (0.3, 3.0, 30.0):  # on a loaded machine even the headers take their time
            outcome, message = await ask(server, timeout=timeout)
            assert outcome is Outcome.FAILURE
            if "awaiting headers" not in message:
                break
        assert message == "context deadline exceeded (Client.Timeout or context cancellation while reading body)"


async def test_a_body_that_is_cut_off_is_a_failure() -> None:
    async with raw_server(says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nab")) as server:
        assert await ask(server) == (Outcome.FAILURE, "unexpected EOF")


async def test_of_an_endless_body_ten_kibibytes_are_read() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 4096)
            await writer.drain()

    async with raw_server(endless) as server:
        assert await ask(server) == (Outcome.SUCCESS, "x" * OUTPUT_LIMIT)
        async with asyncio.timeout(AMPLE):
            await server.closed.wait()


async def test_a_redirect_on_the_same_host_is_followed_and_its_answer_counts() -> None:
    async with raw_server(says(b"HTTP/1.1 404 Gone\r\nContent-Length: 0\r\n\r\n")) as last:
        moved = f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{last.port}/y\r\nContent-Length: 0\r\n\r\n"
        async with raw_server(says(moved.encode())) as first:
            assert await ask(first) == (Outcome.FAILURE, "HTTP probe failed with statuscode: 404")
        assert last.requests[0].startswith("GET /y HTTP/1.1\r\n")


async def test_a_redirect_to_another_host_is_not_followed_but_a_warning() -> None:
    moved = b"HTTP/1.1 302 Found\r\nLocation: http://other.example/\r\nContent-Length: 2\r\n\r\nhi"
    async with raw_server(says(moved)) as server:
        assert await ask(server) == (Outcome.WARNING, "Probe terminated redirects, Response body: hi")


async def test_redirects_in_a_circle_end() -> None:
    async with raw_server(says(b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n")) as server:
        assert await ask(server) == (Outcome.FAILURE, 'Get "/loop": stopped after 10 redirects')
    assert len(server.requests) == 11


async def test_one_time_out_is_for_all_redirects_together() -> None:
    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.15)
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n")

    async with raw_server(slowly) as server:
        outcome, message = await ask(server, timeout=0.5)
    assert outcome is Outcome.FAILURE
    assert message.endswith("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")
    assert len(server.requests) < 11


async def test_https_is_asked_without_looking_at_the_certificate(tls: ssl.SSLContext) -> None:
    async with raw_server(says(OK), tls=tls) as server:
        assert await ask(server, scheme="HTTPS") == (Outcome.SUCCESS, "ok")


async def test_a_large_answer_comes_through_tls_whole(tls: ssl.SSLContext) -> None:
    async with raw_server(says(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n", b"y" * 9000), tls=tls) as server:
        assert await ask(server, scheme="HTTPS") == (Outcome.SUCCESS, "y" * 9000)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "http: server gave HTTP response to HTTPS client"),
        (b"garbage garbage", "tls: first record does not look like a TLS handshake"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "remote error: tls: "),
        (b"", "EOF"),
    ],
)
async def test_what_is_no_tls_is_a_failure(said: bytes, text: str) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)  # else closing would be a reset
        await says(said)(reader, writer)

    async with raw_server(answer, wait_for_request=False) as server:
        outcome, message = await ask(server, scheme="HTTPS")
    assert outcome is Outcome.FAILURE
    assert message.startswith(f'Get "https://127.0.0.1:{server.port}/x": {text}')


async def test_a_handshake_that_hangs_is_given_up() -> None:
    async with raw_server(says_and_hangs(), wait_for_request=False) as server:
        outcome, message = await ask(server, scheme="HTTPS", timeout=0.2)
        assert outcome is Outcome.FAILURE
        assert message.endswith("context deadline exceeded (Client.Timeout exceeded while awaiting headers)")
        async with asyncio.timeout(AMPLE):
            await server.closed.wait()


async def test_a_header_that_cannot_be_sent_is_a_failure_and_not_sent() -> None:
    async with raw_server(says(OK)) as server:
        headers = [HTTPHeader(name="X-A", value="1\r\nX-Evil: 1")]
        action = HTTPGetAction(port=server.port, path="/", http_headers=headers)
        outcome, message = await probe_by_http(target(), action, AMPLE)
    assert outcome is Outcome.FAILURE
    assert "net/http: invalid header" in message
    assert server.requests == []

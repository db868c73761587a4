"""Nothing secret leaves: a token, a command, a key and a log's text are planted and looked for in all that is written."""

from __future__ import annotations

import asyncio
import logging
import ssl
import traceback
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from tests.server.raw_http_client import Answer, RawClient
from tests.server.recorded_node import LoggingProvider, Pods
from tests.server.review_server import ReviewServer
from tests.server.test_kubelet_api import RUNNING, pod
from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import ApiConnectionError, ConfigurationError, ForbiddenError
from virtual_kubelet.objects.authentication_v1 import UserInfo
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.server.authentication import CertificateAuthenticator, FirstOf, TokenAuthenticator
from virtual_kubelet.server.authorization import AccessReviewAuthorizer
from virtual_kubelet.server.certificates import self_signed, server_context
from virtual_kubelet.server.http_messages import Headers, Request, parse_target
from virtual_kubelet.server.kubelet_api import KubeletServer

TOKEN = "planted-t0ken"
COMMAND = "planted-c0mmand"
TEXT = "planted-l0g-text"
BODY = "planted-b0dy"
PLANTED = (TOKEN, COMMAND, TEXT, BODY)


class Provider(LoggingProvider):
    """Its logs hold a secret; one of its containers breaks while it reads them, and it cannot list its pods."""

    def __init__(self) -> None:
        super().__init__(self.read)

    async def read(self, key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        line = LogLine(1, TEXT.encode())
        yield line
        if container == "broken":
            raise RuntimeError("the backend broke")

    async def get_pods(self) -> list[Pod]:
        raise RuntimeError("the backend broke")


@pytest.fixture
def reviews() -> ReviewServer:
    server = ReviewServer()
    server.tokens[TOKEN] = UserInfo(username="ada")
    return server


@pytest.fixture
def server(reviews: ReviewServer, serving_context: ssl.SSLContext) -> KubeletServer:
    return KubeletServer(
        "node-1",
        Provider(),
        Pods([pod(main=RUNNING, broken=RUNNING)]),
        authenticator=FirstOf(CertificateAuthenticator(), TokenAuthenticator(reviews, retries=(), cache_seconds=0)),
        authorizer=AccessReviewAuthorizer(reviews, retries=(), allow_seconds=0, deny_seconds=0),
        ssl_context=serving_context,
    )


async def test_no_answer_and_no_log_line_shows_what_a_caller_sent(
    nothing_left: None,
    server: KubeletServer,
    reviews: ReviewServer,
    client_context: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    (address,) = await server.start("127.0.0.1", 0)
    answers: list[Answer] = []

    async def ask(method: str, target: str, *headers: str, token: str = TOKEN) -> None:
        async with await RawClient.open(address, client_context) as client:
            answers.append(
                await client.ask(method, target, f"Authorization: Bearer {token}", *headers, body=BODY.encode())
            )

    for target in ("/pods", "/runningpods/", f"/exec/ns/web/main?command={COMMAND}&output=1", f"/nope?{COMMAND}"):
        for method in ("GET", "POST", "BREW"):
            await ask(method, target)
            await ask(method, target, token=TOKEN + "-wrong")
    await ask("GET", "/pods", f"Cookie: {COMMAND}", f"Bad Header {COMMAND}: x")
    await ask("GET", "/pods", f"Content-Length: {COMMAND}")
    for failure in (ApiConnectionError("away"), ForbiddenError(403, "Forbidden", "no reviews")):
        reviews.failures = [failure]
        await ask("GET", f"/pods?{COMMAND}")
    reviews.rule = lambda spec: False
    await ask("GET", f"/pods?{COMMAND}")
    statuses = {answer.status for answer in answers}
    assert statuses >= {200, 400, 401, 403, 404, 405, 500, 501}
    for answer in answers:
        for secret in PLANTED:
            assert secret not in repr(answer)

    reviews.rule = lambda spec: True
    async with await RawClient.open(address, client_context) as client:  # a log is shown to who may see it, no one else
        client.send(
            b"GET /containerLogs/ns/web/broken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
            + TOKEN.encode()
            + b"\r\n\r\n"
        )
        assert TEXT.encode() in await client.ended()
    await server.aclose(grace=0)

    assert "the backend broke" in caplog.text  # with a traceback
    assert "Traceback" in caplog.text
    for record in caplog.records:
        for secret in PLANTED:
            assert secret not in logging.Formatter().format(record)
            assert secret not in repr(vars(record))


async def test_no_repr_and_no_traceback_with_its_variables_shows_what_a_caller_sent(
    server: KubeletServer, reviews: ReviewServer
) -> None:
    headers = Headers([(b"authorization", f"Bearer {TOKEN}".encode()), (b"cookie", COMMAND.encode())])
    request = Request("GET", parse_target(f"/runningpods/?{COMMAND}".encode()), headers)
    response = await server.handle(request)
    assert response.status == 500
    for thing in (request, request.headers, request.query, response, server, server._authenticator):
        for secret in PLANTED:
            assert secret not in repr(thing)
    user = await server._authenticator.authenticate(request)
    assert TOKEN not in repr(user)


async def test_no_task_of_a_request_shows_it(server: KubeletServer, reviews: ReviewServer) -> None:
    reviews.hold = asyncio.Event()
    request = Request(
        "GET", parse_target(f"/pods?{COMMAND}".encode()), Headers([(b"authorization", f"Bearer {TOKEN}".encode())])
    )
    task = asyncio.create_task(server.handle(request))
    while not reviews.asked:
        await asyncio.sleep(0)
    shown = repr(task) + "".join(str(frame) for frame in task.get_stack())
    reviews.hold.set()
    await task
    for secret in PLANTED:
        assert secret not in shown


def test_no_error_about_a_certificate_shows_a_key() -> None:
    certificate, key = self_signed(["node.example"])
    _, other = self_signed(["node.example"], lifetime=timedelta(days=2))
    lines = {line for pem in (key, other) for line in pem.decode().splitlines() if len(line) > 20 and "KEY" not in line}
    mistakes: list[tuple[Any, ...]] = [(certificate, other), (key, key), (certificate, other[:80])]
    for mistake in mistakes:
        with pytest.raises(ConfigurationError) as caught:
            server_context(*mistake)
        shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caught.value.hint
        assert not [line for line in lines if line in shown]

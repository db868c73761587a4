"""Meeting the API server: out of reach, without credentials or rights; what is tried again; which version is shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest

from virtual_kubelet.errors import ApiConnectionError, ForbiddenError, UnauthorizedError
from virtual_kubelet.kube.client import ApiClient, ServerVersion
from virtual_kubelet.kube.config import ClientConfig
from virtual_kubelet.kube.credentials import Anonymous
from virtual_kubelet.preflight import address_towards, explain_refusal, kubelet_version, meet_api_server
from virtual_kubelet.server.connection import HttpServer, Request, Response

Answer = Callable[[Request], tuple[int, object]]
VERSION = {"major": "1", "minor": "36+", "gitVersion": "v1.36.2"}
NO_PODS = {"apiVersion": "v1", "kind": "PodList", "metadata": {}, "items": []}


class Server:
    """An API server that answers what the test says."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, object]]] = {}
        self.requests: list[Request] = []

    async def handle(self, request: Request) -> Response:
        self.requests.append(request)
        answers = self.answers.get(request.path) or [(200, VERSION if request.path == "/version" else NO_PODS)]
        code, body = answers.pop(0) if len(answers) > 1 else answers[0]
        return Response(code, [("Content-Type", "application/json")], msgspec.json.encode(body))


def status(code: int, reason: str, message: str) -> tuple[int, object]:
    return code, {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": message}


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[ApiClient]:
    http = HttpServer(server.handle, ssl_context=None)
    [(host, port), *_] = await http.start("127.0.0.1", 0)
    config = ClientConfig(f"http://{host}:{port}", None, Anonymous(), source="a test")
    async with ApiClient(config) as client:
        yield client
    await http.aclose(0)


async def test_it_asks_for_what_a_node_may_ask(server: Server, client: ApiClient) -> None:
    assert await meet_api_server(client, "n", deadline=None) == ServerVersion(1, 36, "v1.36.2")
    version, pods = server.requests
    assert version.path == "/version"
    assert (pods.path, pods.query.get("fieldSelector"), pods.query.get("limit")) == (
        "/api/v1/pods", "spec.nodeName=n", "1",
    )  # fmt: skip


async def test_nobody_there_is_said_at_once() -> None:
    async with ApiClient(ClientConfig("http://127.0.0.1:9", None, Anonymous())) as client:
        with pytest.raises(ApiConnectionError, match=r"127\.0\.0\.1:9.*refused"):
            await meet_api_server(client, "n", deadline=None)


@pytest.mark.looptime
async def test_with_a_deadline_it_tries_again_until_then(caplog: pytest.LogCaptureFixture) -> None:
    async with ApiClient(ClientConfig("http://127.0.0.1:9", None, Anonymous())) as client:
        start = asyncio.get_running_loop().time()
        with pytest.raises(ApiConnectionError):
            await meet_api_server(client, "n", deadline=start + 60)
        assert asyncio.get_running_loop().time() - start > 30
    assert "trying again in" in caplog.text


async def test_an_overloaded_server_is_tried_again(server: Server, client: ApiClient) -> None:
    server.answers["/version"] = [status(500, "InternalError", "etcd"), (200, VERSION)]
    deadline = asyncio.get_running_loop().time() + 30
    assert (await meet_api_server(client, "n", deadline=deadline)).minor == 36


async def test_unknown_credentials_are_told_where_they_come_from(server: Server, client: ApiClient) -> None:
    server.answers["/api/v1/pods"] = [status(401, "Unauthorized", "Unauthorized")]
    with pytest.raises(UnauthorizedError) as refused:
        await meet_api_server(client, "n", deadline=asyncio.get_running_loop().time() + 30)
    assert "a test" in refused.value.__notes__[0]


async def test_missing_rights_are_told_with_the_identity_that_has_them(server: Server, client: ApiClient) -> None:
    server.answers["/api/v1/pods"] = [status(403, "Forbidden", "pods is forbidden")]
    with pytest.raises(ForbiddenError, match="pods is forbidden") as refused:
        await meet_api_server(client, "n", deadline=None)
    explain_refusal(refused.value, "n")
    assert len(refused.value.__notes__) == 1
    assert "system:node:n" in refused.value.__notes__[0]


async def test_a_server_that_hides_its_version_is_no_reason_to_stop(server: Server, client: ApiClient) -> None:
    server.answers["/version"] = [status(403, "Forbidden", "forbidden")]
    assert (await meet_api_server(client, "n", deadline=None)).major == 0


async def test_an_old_server_is_noticed(server: Server, client: ApiClient, caplog: pytest.LogCaptureFixture) -> None:
    server.answers["/version"] = [(200, {"major": "1", "minor": "19", "gitVersion": "v1.19.0"})]
    await meet_api_server(client, "n", deadline=None)
    assert "v1.19.0 is older than 1.20" in caplog.text


@pytest.mark.parametrize(
    ("server_version", "shown"),
    [
        (ServerVersion(1, 20, ""), "v1.20.0-vk-0.1.0"),
        (ServerVersion(1, 36, ""), "v1.36.0-vk-0.1.0"),
        (ServerVersion(1, 40, ""), "v1.36.0-vk-0.1.0"),
        (ServerVersion(0, 0, ""), "v1.36.0-vk-0.1.0"),
    ],
)
def test_a_node_is_never_newer_than_its_server(server_version: ServerVersion, shown: str) -> None:
    assert kubelet_version(server_version, "0.1.0") == shown


async def test_the_address_towards_the_server() -> None:
    assert await address_towards("https://127.0.0.1:6443") == ["127.0.0.1"]
    assert await address_towards("http://[::1]") in (["::1"], [])
    assert await address_towards("https://no.such.host.invalid") == []

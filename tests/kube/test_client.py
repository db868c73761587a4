"""ApiClient against a scripted API server over real TLS."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme

from tests.kube.api_stand_in import (
    SECRET,
    ApiStandIn,
    answers,
    config_map,
    drops,
    event,
    hangs,
    key_pair,
    listed,
    refuses,
    status,
    streams,
    with_client_certificate,
)
from tests.kube.conftest import NewClient
from virtual_kubelet.errors import (
    AlreadyExistsError,
    ApiConnectionError,
    ApiError,
    ApiNotFoundError,
    ApiTimeoutError,
    BadRequestError,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidObjectError,
    ServerError,
    TooManyRequestsError,
    UnauthorizedError,
)
from virtual_kubelet.kube.client import ApiClient, PatchType
from virtual_kubelet.kube.client_certificate import RENEWAL_HINT, ClientCertificate
from virtual_kubelet.kube.credentials import StaticToken
from virtual_kubelet.kube.resources import CONFIG_MAPS, NODES, PODS, SECRETS
from virtual_kubelet.objects.core_v1 import ConfigMap
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.telemetry.metrics import Metrics


def everything_said(error: BaseException) -> str:
    """What could end in a log: the error and its whole chain."""
    return "".join(traceback.format_exception(error)) + repr(error)


# Verbs


async def test_get_asks_for_the_object_and_decodes_it(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [answers(200, config_map("c", data={"k": "v"}))]
    found = await client.get(CONFIG_MAPS, "c", "ns")
    assert found.data == {"k": "v"}
    assert (server.seen[0].method, server.seen[0].path) == ("GET", "/api/v1/namespaces/ns/configmaps/c")
    assert server.seen[0].headers["Accept"] == "application/json"


async def test_list_hands_on_selectors_limit_and_continue_and_returns_the_page(
    server: ApiStandIn, client: ApiClient
) -> None:
    page = listed(config_map("a"), config_map("b"), version="7", continue_="t==")
    page["metadata"]["remainingItemCount"] = 3
    server.script = [answers(200, page)]
    found = await client.list(
        PODS, label_selector="a=b,c in (d)", field_selector="spec.nodeName=n", limit=2, continue_="x+/="
    )
    assert ([p.metadata.name for p in found.items], found.resource_version) == (["a", "b"], "7")
    assert (found.continue_, found.remaining, found.malformed) == ("t==", 3, [])
    assert server.seen[0].path == "/api/v1/pods"
    assert server.seen[0].query == {
        "labelSelector": "a=b,c in (d)", "fieldSelector": "spec.nodeName=n", "limit": "2", "continue": "x+/=",
    }  # fmt: skip


async def test_a_list_without_items_is_empty(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [answers(200, {"metadata": {"resourceVersion": "1"}, "items": None})]
    assert (await client.list(CONFIG_MAPS)).items == []


async def test_a_malformed_item_is_left_out_of_a_list_and_named(server: ApiStandIn, client: ApiClient) -> None:
    bad, nameless = config_map("bad", "5"), config_map("x")
    bad["data"] = nameless["metadata"] = 3
    server.script = [answers(200, listed(config_map("a"), bad, nameless))]
    found = await client.list(CONFIG_MAPS)
    assert [o.metadata.name for o in found.items] == ["a"]
    assert found.malformed == [("ns", "bad", "5"), None]


async def test_an_item_that_is_not_utf_8_is_left_out_of_a_list(server: ApiStandIn, client: ApiClient) -> None:
    text = json.dumps(listed(config_map("a"), config_map("b", data={"k": "@"}))).encode().replace(b"@", b"\xff")
    server.script = [answers(200, text)]
    found = await client.list(CONFIG_MAPS)
    assert [o.metadata.name for o in found.items] == ["a"]
    assert found.malformed == [("ns", "b", "1")]


async def test_create_posts_the_object(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [answers(201, config_map("c", "9"))]
    made = await client.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="c"), data={"k": "v"}), "ns")
    assert made.metadata.resource_version == "9"
    assert server.seen[0].method == "POST"
    assert json.loads(server.seen[0].body)["data"] == {"k": "v"}


@pytest.mark.parametrize("patch_type", list(PatchType))
async def test_a_patch_is_sent_with_its_media_type(
    server: ApiStandIn, client: ApiClient, patch_type: PatchType
) -> None:
    server.script = [answers(200, config_map("n"))]
    patch: Any = [] if patch_type is PatchType.JSON else {"a": None}
    await client.patch(NODES, "n", patch, patch_type=patch_type, subresource="status")
    assert (server.seen[0].method, server.seen[0].path) == ("PATCH", "/api/v1/nodes/n/status")
    assert server.seen[0].headers["Content-Type"] == patch_type.value
    assert json.loads(server.seen[0].body) == patch


async def test_send_patch_does_not_read_the_answer_as_an_object(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [answers(200, b"anything")]
    await client.send_patch(PODS, "p", b'{"status":{}}', "ns", subresource="status")
    assert server.seen[0].body == b'{"status":{}}'


async def test_delete_names_incarnation_and_grace(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [answers(200, {})]
    await client.delete(PODS, "p", "ns", uid="u", grace_period_seconds=0, propagation_policy="Background")
    assert json.loads(server.seen[0].body) == {
        "gracePeriodSeconds": 0, "preconditions": {"uid": "u"}, "propagationPolicy": "Background",
    }  # fmt: skip


async def test_server_version_copes_with_a_vendors_suffix(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [answers(200, {"major": "1", "minor": "27+", "gitVersion": "v1.27.3-eks"})]
    assert await client.server_version() == (1, 27, "v1.27.3-eks")


# Errors


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", BadRequestError),
        (401, "Unauthorized", UnauthorizedError),
        (403, "Forbidden", ForbiddenError),
        (404, "NotFound", ApiNotFoundError),
        (409, "Conflict", ConflictError),
        (409, "AlreadyExists", AlreadyExistsError),
        (410, "Expired", GoneError),
        (410, "", GoneError),
        (422, "Invalid", InvalidObjectError),
        (429, "TooManyRequests", TooManyRequestsError),
        (500, "InternalError", ServerError),
        (504, "Timeout", ServerError),
        (418, "Teapot", ApiError),
    ],
)
async def test_a_status_is_raised_as_its_error(
    server: ApiStandIn, client: ApiClient, code: int, reason: str, kind: type[ApiError]
) -> None:
    details = {"causes": [{"field": "spec", "reason": "FieldValueInvalid", "message": "no"}]}
    server.script = [refuses(code, reason, "a sentence", details=details)]
    with pytest.raises(ApiError) as caught:
        await client.get(PODS, "p", "ns")
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.reason, str(caught.value)) == (code, reason, "a sentence")
    assert caught.value.causes == (("spec", "FieldValueInvalid", "no"),)


@pytest.mark.parametrize("body", [SECRET.encode(), json.dumps({"data": SECRET}).encode(), b'{"kind":"\xff"}', b""])
async def test_a_body_that_is_no_status_is_not_quoted(server: ApiStandIn, client: ApiClient, body: bytes) -> None:
    server.script = [answers(502, body)]
    with pytest.raises(ServerError) as caught:
        await client.get(PODS, "p", "ns")
    assert str(caught.value) == "the API server answered 502"
    assert SECRET not in everything_said(caught.value)


@pytest.mark.parametrize(
    "body", [json.dumps([SECRET]).encode(), f"<html>{SECRET}".encode(), SECRET.encode() + b"\xff",
             b'{"data":{"k":"' + SECRET.encode() + b'\xff"}}', b'{"x":' + b"[" * 100_000]
)  # fmt: skip
async def test_an_answer_that_is_no_object_is_an_error_and_not_quoted(
    server: ApiStandIn, client: ApiClient, body: bytes
) -> None:
    server.script = [answers(200, body)]
    with pytest.raises(ApiError, match="the API server's answer is not a Secret") as caught:
        await client.get(SECRETS, "s", "ns")
    assert SECRET not in everything_said(caught.value)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
async def test_a_redirect_is_an_error_and_not_followed(server: ApiStandIn, client: ApiClient, code: int) -> None:
    server.script = [answers(code, b"", {"Location": "/elsewhere"})]
    with pytest.raises(ApiError, match="a redirect, which is not followed"):
        await client.send_patch(PODS, "p", {}, "ns")
    with pytest.raises(ApiError, match="a redirect, which is not followed"):
        await anext(client.watch(PODS))
    assert "/elsewhere" not in [seen.path for seen in server.seen]


# Tried again


async def test_429_and_503_are_tried_again_after_what_retry_after_says(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [
        refuses(429, "TooManyRequests", headers={"Retry-After": "0"}),
        answers(503, b"starting", {"Retry-After": "0"}),
        answers(201, config_map("c")),
    ]
    await client.create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="c")), "ns")
    assert len(server.seen) == 3


async def test_a_server_that_refuses_for_ever_is_given_up(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [refuses(429, "TooManyRequests", "enough", headers={"Retry-After": "0"})]
    with pytest.raises(TooManyRequestsError, match="enough"):
        await new_client(retries=2).get(PODS, "p", "ns")
    assert len(server.seen) == 3


async def test_a_long_retry_after_is_cut(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [refuses(503, "", headers={"Retry-After": "86400"}), answers(200, config_map("c"))]
    await new_client(longest_retry_after=0.01).get(CONFIG_MAPS, "c", "ns")
    assert len(server.seen) == 2


async def test_503_without_retry_after_is_raised_at_once(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [refuses(503, "ServiceUnavailable")]
    with pytest.raises(ServerError):
        await client.get(PODS, "p", "ns")
    assert len(server.seen) == 1


async def test_a_retry_after_is_known_to_who_catches_the_error(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [refuses(429, "TooManyRequests", details={"retryAfterSeconds": 3})]
    with pytest.raises(TooManyRequestsError) as caught:
        await new_client(retries=0).get(PODS, "p", "ns")
    assert caught.value.retry_after == 3


async def _delete(client: ApiClient, uid: str | None) -> None:
    await client.delete(PODS, "p", "ns", uid=uid)


@pytest.mark.parametrize(
    ("call", "times"),
    [
        (lambda c: c.get(CONFIG_MAPS, "c", "ns"), 2),
        (lambda c: c.send_patch(CONFIG_MAPS, "c", {}, "ns"), 2),
        (lambda c: c.send_patch(CONFIG_MAPS, "c", [], "ns", patch_type=PatchType.JSON), 1),
        (lambda c: _delete(c, "u"), 2),
        (lambda c: _delete(c, None), 1),
        (lambda c: c.send_create(CONFIG_MAPS, ConfigMap(metadata=ObjectMeta(name="c")), "ns"), 1),
        (lambda c: c.request("PUT", "/x"), 1),
    ],
    ids=["get", "patch", "json patch", "delete of a UID", "delete of a name", "create", "raw put"],
)
async def test_after_a_broken_connection_only_what_is_safe_to_repeat_is_sent_once_more(
    server: ApiStandIn, client: ApiClient, call: Any, times: int
) -> None:
    server.script = [drops()]
    with pytest.raises(ApiConnectionError, match="it closed the connection"):
        await call(client)
    assert len(server.seen) == times


async def test_a_stale_connection_is_not_noticed_by_a_reader(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [drops(), answers(200, config_map("c"))]
    assert (await client.get(CONFIG_MAPS, "c", "ns")).metadata.name == "c"


class Renewable:
    """Credentials that count."""

    def __init__(self) -> None:
        self.rejections = 0

    async def authorization(self) -> str | None:
        return f"Bearer {SECRET}-{self.rejections}"

    def reject(self, used: str | None) -> None:
        assert used == f"Bearer {SECRET}-{self.rejections}"
        self.rejections += 1


async def test_401_renews_the_credentials_once(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [refuses(401, "Unauthorized"), answers(200, config_map("c"))]
    await new_client(config=server.config(Renewable())).get(CONFIG_MAPS, "c", "ns")
    assert [seen.headers["Authorization"] for seen in server.seen] == [f"Bearer {SECRET}-0", f"Bearer {SECRET}-1"]


async def test_a_second_401_is_raised(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [refuses(401, "Unauthorized", "Unauthorized")]
    with pytest.raises(UnauthorizedError) as caught:
        await new_client(config=server.config(Renewable())).get(CONFIG_MAPS, "c", "ns")
    assert len(server.seen) == 2
    assert SECRET not in everything_said(caught.value)


async def test_a_watch_renews_the_credentials_once_too(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [refuses(401, "Unauthorized"), streams(event("ADDED", config_map("c")))]
    client = new_client(config=server.config(Renewable()))
    assert [e.type async for e in client.watch(CONFIG_MAPS)] == ["ADDED"]
    server.script = [refuses(401, "Unauthorized")]
    with pytest.raises(UnauthorizedError):
        await anext(client.watch(CONFIG_MAPS))
    assert len(server.seen) == 4


async def test_the_request_budget_spreads_requests(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [answers(200, config_map("c"))]
    client = new_client(qps=50, burst=1)
    loop = asyncio.get_running_loop()
    started = loop.time()
    await asyncio.gather(*(client.get(CONFIG_MAPS, "c", "ns") for _ in range(6)))
    assert loop.time() - started > 5 / 50 - 0.01


# Time and connections


async def test_a_server_that_does_not_answer_is_a_time_out(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [hangs()]
    with pytest.raises(ApiTimeoutError, match=f"the API server at {server.url} did not answer in time"):
        await client.get(PODS, "p", "ns", timeout=0.05)


async def test_a_watch_that_is_not_answered_is_a_time_out(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [hangs()]
    with pytest.raises(ApiTimeoutError):
        await anext(new_client(request_timeout=0.05).watch(PODS))


async def test_the_time_out_of_requests_does_not_end_a_watch(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [streams(0.3, event("ADDED", config_map("c")))]
    assert [e.type async for e in new_client(request_timeout=0.2).watch(CONFIG_MAPS)] == ["ADDED"]


async def test_a_silent_watch_is_a_time_out(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [streams(event("ADDED", config_map("c")), end="hang")]
    events = client.watch(CONFIG_MAPS, inactivity=0.1)
    async with aclosing(events):
        assert (await anext(events)).type == "ADDED"
        with pytest.raises(ApiTimeoutError):
            await anext(events)


async def test_a_watch_that_breaks_off_is_a_connection_error(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [streams(event("ADDED", config_map("c")), b'{"type":', 0.05, end="abort")]
    got = []
    with pytest.raises(ApiConnectionError, match="cannot talk to the API server"):
        async for e in client.watch(CONFIG_MAPS):
            got.append(e.type)  # noqa: PERF401 - what came before the error counts
    assert got == ["ADDED"]


async def test_calls_can_be_cancelled(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [hangs()]
    for call in (client.get(PODS, "p", "ns"), anext(client.watch(PODS))):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await call


async def test_more_requests_than_connections_wait_for_one(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [answers(200, config_map("c"))]
    client = new_client(connections=2)
    await asyncio.gather(*(client.get(CONFIG_MAPS, "c", "ns") for _ in range(20)))
    assert len(server.seen) == 20
    assert len(server.connections) <= 2


async def test_a_refused_connection_says_so(new_client: NewClient, server: ApiStandIn) -> None:
    await server.stop()
    with pytest.raises(ApiConnectionError) as caught:
        await new_client().get(PODS, "p", "ns")
    assert str(caught.value) == f"cannot talk to the API server at {server.url}: connection refused"
    await server.start()


async def test_an_unknown_host_says_so(new_client: NewClient, server: ApiStandIn) -> None:
    with pytest.raises(ApiConnectionError, match="its name cannot be resolved"):
        await new_client(config=server.config(server="https://nowhere.invalid:1")).get(PODS, "p", "ns")


async def test_a_server_that_has_moved_is_found_at_once(
    new_client: NewClient, server: ApiStandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [answers(200, config_map("c"))]
    loop = asyncio.get_running_loop()
    addresses = ["127.0.0.9", "127.0.0.1"]  # nobody listens on the first

    async def moving(host: str, port: int, **options: Any) -> Any:
        assert host == "api.example"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (addresses.pop(0), port))]

    monkeypatch.setattr(loop, "getaddrinfo", moving)
    config = server.config(server=f"https://api.example:{server.port}", tls_server_name="127.0.0.1")
    client = new_client(config=config)
    with pytest.raises(ApiConnectionError, match="connection refused"):
        await client.get(CONFIG_MAPS, "c", "ns")
    assert (await client.get(CONFIG_MAPS, "c", "ns")).metadata.name == "c"


async def test_a_peer_that_does_not_speak_http_is_not_quoted(authority: trustme.CA, new_client: NewClient) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"220 {SECRET} ESMTP\r\n".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    stranger = ApiStandIn(authority)
    async with await asyncio.start_server(talk, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        config = stranger.config(server=f"http://127.0.0.1:{port}", ssl_context=None)
        with pytest.raises(ApiConnectionError, match="it does not speak HTTP") as caught:
            await new_client(config=config).get(PODS, "p", "ns")
    assert SECRET not in str(caught.value)


# TLS


async def test_an_untrusted_authority_says_so(new_client: NewClient, server: ApiStandIn) -> None:
    with pytest.raises(ApiConnectionError, match="its certificate is not trusted: unable to get local issuer"):
        await new_client(config=server.config(ssl_context=ssl.create_default_context())).get(PODS, "p", "ns")


async def test_a_certificate_for_another_host_says_so(new_client: NewClient, authority: trustme.CA) -> None:
    other = ApiStandIn(authority, [answers(200, config_map("c"))], names=("api.example",))
    await other.start()
    with pytest.raises(ApiConnectionError, match="its certificate is not trusted: IP address mismatch"):
        await new_client(config=other.config()).get(CONFIG_MAPS, "c", "ns")
    await other.stop()


async def test_tls_server_name_is_expected_instead_of_the_hosts(new_client: NewClient, authority: trustme.CA) -> None:
    other = ApiStandIn(authority, [answers(200, config_map("c"))], names=("api.example",))
    await other.start()
    client = new_client(config=other.config(tls_server_name="api.example"))
    assert (await client.get(CONFIG_MAPS, "c", "ns")).metadata.name == "c"
    other.script = [streams(event("ADDED", config_map("c")))]
    assert [e.type async for e in client.watch(CONFIG_MAPS)] == ["ADDED"]
    with pytest.raises(ApiConnectionError, match="Hostname mismatch"):
        await new_client(config=other.config(tls_server_name="else.example")).get(CONFIG_MAPS, "c", "ns")
    await other.stop()


@pytest.fixture
async def strict(authority: trustme.CA) -> AsyncIterator[ApiStandIn]:
    """Wants a client certificate."""
    strict = ApiStandIn(authority, [answers(200, config_map("c"))], client_authority=authority)
    await strict.start()
    yield strict
    await strict.stop()


async def test_a_client_certificate_is_shown(new_client: NewClient, strict: ApiStandIn, authority: trustme.CA) -> None:
    context = with_client_certificate(strict.trust(), *key_pair(authority.issue_cert("me.example")))
    found = await new_client(config=strict.config(ssl_context=context)).get(CONFIG_MAPS, "c", "ns")
    assert found.metadata.name == "c"


class Refusing:
    """A TLS server that lets nobody in: says why with an alert, or just goes, which a loaded machine makes of an alert.

    Not aiohttp's server, which never sends the alert; and TLS 1.3, where it comes after the client's handshake.
    """

    def __init__(self, authority: trustme.CA, *, alert: bool) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(self.context)
        authority.issue_cert("127.0.0.1").configure_cert(self.context)
        self.alert = alert
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        self.serving = asyncio.create_task(asyncio.to_thread(self.serve))

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:  # closed: the test is over
                return
            with connection:
                if self.alert:
                    self._refuse(connection)
                else:
                    connection.recv(1)  # most of the greeting is unread when it ends: the kernel resets the connection

    def _refuse(self, connection: socket.socket) -> None:
        """A handshake up to the alert, which arrives for sure: nothing is left unread."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65536))
            except ssl.SSLError:
                break
        connection.sendall(outgoing.read())
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    async def aclose(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        await self.serving


@pytest.mark.parametrize("alert", [True, False], ids=["an alert", "a reset"])
async def test_an_expired_client_certificate_says_so_however_the_server_refuses_it(
    new_client: NewClient, authority: trustme.CA, alert: bool
) -> None:
    refusing = Refusing(authority, alert=alert)
    stand_in = ApiStandIn(authority, port=refusing.port)
    context = stand_in.trust()
    shown = ClientCertificate(context, "user 'u' of a file")
    end = datetime.now(UTC) - timedelta(days=1)
    await shown.renew(*key_pair(authority.issue_cert("me.example", not_after=end)))
    client = new_client(config=stand_in.config(ssl_context=context, client_certificate=shown))
    for call in (client.get(CONFIG_MAPS, "c", "ns"), anext(client.watch(CONFIG_MAPS))):
        with pytest.raises(ApiConnectionError) as caught:
            await call
        said = str(caught.value)
        assert said.endswith(f": the client certificate of user 'u' of a file expired on {end:%Y-%m-%d %H:%M} UTC")
        assert ("alert certificate expired" if alert else "it closed the connection") in said
        assert caught.value.__notes__ == [RENEWAL_HINT]
    await refusing.aclose()


async def test_a_reset_with_a_good_certificate_is_only_a_reset(new_client: NewClient, authority: trustme.CA) -> None:
    refusing = Refusing(authority, alert=False)
    stand_in = ApiStandIn(authority, port=refusing.port)
    context = stand_in.trust()
    shown = ClientCertificate(context, "user 'u' of a file")
    await shown.renew(*key_pair(authority.issue_cert("me.example")))
    with pytest.raises(ApiConnectionError) as caught:
        await new_client(config=stand_in.config(ssl_context=context, client_certificate=shown)).get(CONFIG_MAPS, "c")
    assert "expired" not in str(caught.value)
    await refusing.aclose()


async def test_a_401_for_an_expired_client_certificate_says_so(
    new_client: NewClient, server: ApiStandIn, authority: trustme.CA
) -> None:
    """What a real API server answers: it looks at the certificate's end after the handshake."""
    context = server.trust()
    shown = ClientCertificate(context, "user 'u' of a file")
    end = datetime.now(UTC) - timedelta(days=1)
    await shown.renew(*key_pair(authority.issue_cert("me.example", not_after=end)))
    server.script = [refuses(401, "Unauthorized", "Unauthorized")]
    client = new_client(config=server.config(ssl_context=context, client_certificate=shown))
    for call in (client.get(CONFIG_MAPS, "c", "ns"), anext(client.watch(CONFIG_MAPS))):
        with pytest.raises(UnauthorizedError, match="the client certificate of user 'u' of a file expired") as caught:
            await call
        assert caught.value.__notes__ == [RENEWAL_HINT]


async def test_a_new_client_certificate_is_shown_on_new_connections(
    new_client: NewClient, strict: ApiStandIn, authority: trustme.CA
) -> None:
    context = strict.trust()
    shown = ClientCertificate(context, "us")
    await shown.renew(*key_pair(authority.issue_cert("one.example")))
    client = new_client(config=strict.config(ssl_context=context, client_certificate=shown))
    await client.get(CONFIG_MAPS, "c", "ns")
    await client.get(CONFIG_MAPS, "c", "ns")
    assert len(strict.connections) == 1
    await shown.renew(*key_pair(authority.issue_cert("two.example")))
    await client.get(CONFIG_MAPS, "c", "ns")
    assert len(strict.connections) == 2


async def test_what_is_under_way_ends_on_its_connection_when_the_certificate_changes(
    new_client: NewClient, strict: ApiStandIn, authority: trustme.CA
) -> None:
    context, go = strict.trust(), asyncio.Event()
    shown = ClientCertificate(context, "us")
    await shown.renew(*key_pair(authority.issue_cert("one.example")))
    client = new_client(config=strict.config(ssl_context=context, client_certificate=shown))
    first, second = event("ADDED", config_map("a")), event("ADDED", config_map("b"))
    strict.script = [streams(first, go.wait(), second), answers(200, config_map("c"))]
    async with aclosing(client.watch(CONFIG_MAPS)) as events:
        assert (await anext(events)).type == "ADDED"
        await shown.renew(*key_pair(authority.issue_cert("two.example")))
        await client.get(CONFIG_MAPS, "c", "ns")
        go.set()
        assert (await anext(events)).type == "ADDED"
    assert len(strict.connections) == 2


# A proxy


class Proxy:
    """Answers CONNECT: with a tunnel, or with ``refusal``."""

    def __init__(self, refusal: bytes = b"") -> None:
        self.refusal = refusal
        self.requests: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        try:
            if self.refusal:
                writer.write(self.refusal)
                await writer.drain()
                return
            host, port = head.split()[1].decode().rsplit(":", 1)
            upstream_reader, upstream = await asyncio.open_connection(host, int(port))
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(self._pump(reader, upstream), self._pump(upstream_reader, writer))
            upstream.close()
        finally:
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            return


async def test_requests_and_watches_go_through_the_proxy(server: ApiStandIn, authority: trustme.CA) -> None:
    server.script = [answers(200, config_map("c")), streams(event("ADDED", config_map("c")))]
    proxy = Proxy()
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with ApiClient(server.config(proxy=f"http://user:{SECRET}@127.0.0.1:{port}")) as client:
            await client.get(CONFIG_MAPS, "c", "ns")
            assert [e.type async for e in client.watch(CONFIG_MAPS)] == ["ADDED"]
        assert len(proxy.requests) == 2
        assert b"Proxy-Authorization: Basic" in proxy.requests[0]
        assert SECRET not in repr(client.config)


async def test_a_proxy_that_refuses_or_is_not_there_says_so(server: ApiStandIn, new_client: NewClient) -> None:
    proxy = Proxy(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        url = f"http://user:{SECRET}@127.0.0.1:{port}"
        with pytest.raises(ApiConnectionError, match="the proxy answered 407") as caught:
            await new_client(config=server.config(proxy=url)).get(CONFIG_MAPS, "c", "ns")
        assert SECRET not in str(caught.value)
    with pytest.raises(ApiConnectionError, match="the proxy: connection refused") as caught:
        await new_client(config=server.config(proxy=url)).get(CONFIG_MAPS, "c", "ns")
    assert SECRET not in str(caught.value)


# Watching


async def test_a_watch_asks_for_what_it_was_told(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [streams()]
    assert [e async for e in client.watch(PODS, field_selector="spec.nodeName=n", resource_version="5",
                                          timeout_seconds=28)] == []  # fmt: skip
    assert server.seen[0].query == {
        "watch": "1", "fieldSelector": "spec.nodeName=n", "resourceVersion": "5", "allowWatchBookmarks": "true",
        "timeoutSeconds": "28",
    }  # fmt: skip


async def test_a_streaming_list_asks_for_initial_events(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [streams()]
    assert [e async for e in client.watch(PODS, send_initial_events=True, allow_bookmarks=False)] == []
    assert server.seen[0].query == {
        "watch": "1", "allowWatchBookmarks": "true", "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
    }  # fmt: skip


async def test_a_chunk_may_end_inside_a_character(server: ApiStandIn, client: ApiClient) -> None:
    line = event("ADDED", config_map("c", data={"k": "träge ☃"}))
    cut = line.index("☃".encode()) + 1
    server.script = [streams(line[:cut], 0.05, line[cut:])]
    found = [e.object async for e in client.watch(CONFIG_MAPS)]
    assert found[0] is not None
    assert found[0].data == {"k": "träge ☃"}


async def test_a_line_of_more_than_two_megabytes_is_read(server: ApiStandIn, client: ApiClient) -> None:
    server.script = [streams(event("ADDED", config_map("c", data={"k": "x" * 3_000_000})))]
    found = [e.object async for e in client.watch(CONFIG_MAPS)]
    assert found[0] is not None
    assert found[0].data is not None
    assert len(found[0].data["k"]) == 3_000_000


async def test_a_line_over_the_limit_is_a_connection_error(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [streams(event("ADDED", config_map("c", data={"k": SECRET * 50_000})))]
    with pytest.raises(ApiConnectionError, match="a watch line is longer than 100000 bytes") as caught:
        await anext(new_client(max_line=100_000).watch(CONFIG_MAPS))
    assert SECRET not in everything_said(caught.value)


async def test_a_watch_refused_with_410_and_one_ended_by_an_error_event_are_both_gone(
    server: ApiStandIn, client: ApiClient
) -> None:
    for script in (
        refuses(410, "Expired", "too old"),
        streams(event("ERROR", status(410, "Expired", "too old"))),
    ):
        server.script = [script]
        with pytest.raises(GoneError, match="too old"):
            await anext(client.watch(PODS))


async def test_closing_a_watch_closes_its_connection(server: ApiStandIn, client: ApiClient) -> None:
    closed = asyncio.Event()

    async def until_closed() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            closed.set()

    server.script = [streams(event("ADDED", config_map("c")), until_closed())]
    events = client.watch(CONFIG_MAPS)
    assert (await anext(events)).type == "ADDED"
    await events.aclose()
    await asyncio.wait_for(closed.wait(), 5)


# Telling


async def test_requests_are_counted_by_verb_resource_and_code(server: ApiStandIn, new_client: NewClient) -> None:
    metrics = Metrics()
    client = new_client(metrics=metrics, request_timeout=0.2)
    server.script = [answers(200, config_map("c")), refuses(404, "NotFound"), hangs()]
    await client.get(CONFIG_MAPS, "c", "ns")
    with pytest.raises(ApiNotFoundError):
        await client.get(CONFIG_MAPS, "c", "ns")
    with pytest.raises(ApiTimeoutError):
        await client.get(CONFIG_MAPS, "c", "ns")
    text = metrics.exposition().decode()
    for code in ("200", "404", "error"):
        assert f'api_requests_total{{code="{code}",resource="configmaps",verb="get"}} 1.0' in text


async def test_a_token_is_in_no_repr_and_no_error(server: ApiStandIn, new_client: NewClient) -> None:
    server.script = [drops()]
    client = new_client(config=server.config(StaticToken(SECRET)))
    with pytest.raises(ApiConnectionError) as caught:
        await client.get(PODS, "p", "ns")
    assert server.seen[0].headers["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in everything_said(caught.value) + repr(client) + repr(client.config)

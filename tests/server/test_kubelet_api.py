"""The node's HTTPS API beyond what was recorded: refusals, failures, limits, streams."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.server.raw_http_client import RawClient
from tests.server.recorded_node import LoggingProvider, Pods, SilentProvider
from tests.server.review_server import ReviewServer
from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import (
    ApiConnectionError,
    InvalidInputError,
    NotFoundError,
    ProviderError,
    TransientError,
    UnsupportedError,
)
from virtual_kubelet.objects.core_v1 import Pod, PodStatus
from virtual_kubelet.objects.serialization import decode
from virtual_kubelet.server.authentication import CertificateAuthenticator, User
from virtual_kubelet.server.authorization import AccessReviewAuthorizer, AlwaysAllowAuthorizer
from virtual_kubelet.server.certificates import self_signed, server_context
from virtual_kubelet.server.connection import Headers, Request, Response, ResponseBroken, ServerLimits
from virtual_kubelet.server.container_logs import LogLimits
from virtual_kubelet.server.http_messages import parse_target
from virtual_kubelet.server.kubelet_api import KubeletServer
from virtual_kubelet.telemetry.logs import bound_fields

QUICK = LogLimits(first_line_wait=0.02, settle=0.02, settle_empty=0.05, close_timeout=1.0)


def pod(name: str = "web", **statuses: dict[str, Any]) -> Pod:
    """A pod with one container for each status; ``init_`` and ``debug_`` in front of a name make other kinds."""
    kinds: dict[str, list[str]] = {"containers": [], "initContainers": [], "ephemeralContainers": []}
    states: dict[str, list[dict[str, Any]]] = {}
    for container, status in statuses.items():
        kind = (
            "initContainers"
            if container.startswith("init_")
            else "ephemeralContainers"
            if container.startswith("debug_")
            else "containers"
        )
        kinds[kind].append(container)
        field = {"initContainers": "initContainerStatuses", "ephemeralContainers": "ephemeralContainerStatuses"}
        if status:
            states.setdefault(field.get(kind, "containerStatuses"), []).append(
                {"name": container, "image": "i", "imageID": "", "ready": True, "restartCount": 0, **status}
            )
    return decode(
        msgspec.json.encode(
            {
                "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"},
                "spec": {kind: [{"name": container} for container in names] for kind, names in kinds.items()},
                "status": states,
            }
        ),
        Pod,
    )


RUNNING: dict[str, Any] = {"state": {"running": {}}}
ENDED: dict[str, Any] = {"terminated": {"exitCode": 1}}
WEB = pod(main=RUNNING)


def source(*lines: bytes | BaseException, then: Callable[[], Awaitable[object]] | None = None) -> Any:
    async def read(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        for line in lines:
            if isinstance(line, BaseException):
                raise line
            yield LogLine(1, line)
        if then is not None:
            await then()

    return read


async def forever() -> None:
    await asyncio.Event().wait()


class Ada:
    """Everybody is ada."""

    async def authenticate(self, request: Request) -> User | None:
        return User("ada", groups=("system:authenticated",))


@pytest.fixture(scope="module")
def some_context() -> ssl.SSLContext:
    return server_context(*self_signed(["node-1"]))


Make = Callable[..., KubeletServer]


@pytest.fixture
def make(some_context: ssl.SSLContext) -> Make:
    def make(provider: SilentProvider | None = None, pods: list[Pod] | None = None, **kwargs: Any) -> KubeletServer:
        settings: dict[str, Any] = {
            "authenticator": Ada(),
            "authorizer": AlwaysAllowAuthorizer(),
            "ssl_context": some_context,
            "log_limits": QUICK,
        }
        return KubeletServer("node-1", provider or SilentProvider(), Pods(pods or [WEB]), **(settings | kwargs))

    return make


def ask(server: KubeletServer, target: str, method: str = "GET") -> Awaitable[Response]:
    return server.handle(Request(method, parse_target(target.encode()), Headers()))


async def text(response: Response) -> str:
    """The body; if it breaks off, with ``!`` behind it."""
    if isinstance(response.body, bytes):
        return response.body.decode()
    body = b""
    try:
        async for chunk in response.body:
            body += chunk
    except ResponseBroken:
        body += b"!"
    finally:
        await response.body.aclose()  # type: ignore[attr-defined]
    return body.decode()


async def logs(server: KubeletServer, query: str = "", container: str = "main") -> tuple[int, str]:
    response = await ask(server, f"/containerLogs/ns/web/{container}?{query}")
    found = response.status, await text(response)
    assert server.log_streams == 0
    return found


# Who may do what


async def test_rights_are_asked_for_from_the_finest_to_the_coarsest(make: Make) -> None:
    reviews = ReviewServer()
    reviews.rule = lambda spec: spec.resource_attributes is not None and spec.resource_attributes.subresource == "proxy"
    server = make(authorizer=AccessReviewAuthorizer(reviews))
    assert (await ask(server, "/pods")).status == 200
    assert reviews.questions() == ["ada get nodes/pods node-1", "ada get nodes/proxy node-1"]


@pytest.mark.parametrize(
    ("method", "target", "words"),
    [
        ("GET", "/pods", "user=ada, verb=get, resource=nodes, subresource(s)=[pods proxy]"),
        ("GET", "/metrics/resource", "user=ada, verb=get, resource=nodes, subresource(s)=[metrics]"),
        ("GET", "/exec/ns/web/main", "user=ada, verb=create, resource=nodes, subresource(s)=[proxy]"),
        ("BREW", "/nope", "user=ada, verb=, resource=nodes, subresource(s)=[proxy]"),
    ],
)
async def test_who_may_not_is_403_in_the_kubelets_words(make: Make, method: str, target: str, words: str) -> None:
    reviews = ReviewServer()
    reviews.rule = lambda spec: False
    response = await ask(make(authorizer=AccessReviewAuthorizer(reviews)), target, method)
    assert (response.status, response.body) == (403, f"Forbidden ({words})\n".encode())


async def test_when_nobody_can_say_the_answer_is_500_not_yes(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    reviews = ReviewServer()
    reviews.failures = [ApiConnectionError("api server down")]
    response = await ask(make(authorizer=AccessReviewAuthorizer(reviews, retries=())), "/pods")
    assert response.status == 500
    assert response.body == b"Authorization error (user=ada, verb=get, resource=nodes, subresource=pods)"
    assert "api server down" in caplog.text


async def test_nobody_is_401_whatever_the_path(make: Make) -> None:
    server = make(authenticator=CertificateAuthenticator())
    for target in ("/pods", "/healthz", "/metrics", "/nope", "/", "/containerLogs/ns/web/main"):
        response = await ask(server, target)
        assert (response.status, response.body) == (401, b"Unauthorized")


async def test_an_authenticator_that_breaks_lets_nobody_in(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        async def authenticate(self, request: Request) -> User | None:
            raise RuntimeError("inner secret")

    response = await ask(make(authenticator=Broken()), "/pods")
    assert response.status == 500
    assert b"secret" not in (response.body if isinstance(response.body, bytes) else b"")
    assert "inner secret" in caplog.text


# Routes


@pytest.mark.parametrize(
    ("method", "target", "status", "allow"),
    [
        ("POST", "/pods", 405, "GET"),
        ("HEAD", "/pods", 405, "GET"),
        ("PUT", "/exec/ns/web/main", 405, "GET, POST"),
        ("GET", "/run/ns/web/main", 405, "POST"),
        ("DELETE", "/metrics", 405, "GET"),
        ("BREW", "/containerLogs/ns/web/main", 405, "GET"),
        ("GET", "/pods/", 200, None),
        ("GET", "/runningpods", 200, None),
        ("GET", "/metrics/", 200, None),
    ],
)
async def test_methods_and_slashes(make: Make, method: str, target: str, status: int, allow: str | None) -> None:
    response = await ask(make(), target, method)
    assert (response.status, dict(response.headers).get("Allow")) == (status, allow)
    await text(response)


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/containerLogs/ns/web", "404: Page Not Found"),
        ("/containerLogs//web/main", "404: Page Not Found"),
        ("/containerLogs/ns/web/main/more", "404: Page Not Found"),
        ("/exec", "404: Page Not Found"),
        ("/stats/nope", "404: Page Not Found"),
        ("//exec/ns/web/main", "404 page not found\n"),
        ("//pods", "404 page not found\n"),
        ("/pods//", "404: Page Not Found"),
        ("/Pods", "404 page not found\n"),
        ("/metrics/nope", "404 page not found\n"),
        ("/healthz/nope", "404 page not found\n"),
        ("/configz/more", "404 page not found\n"),
        ("/checkpoint/ns/web", "404: Page Not Found"),
    ],
)
async def test_unknown_paths(make: Make, target: str, body: str) -> None:
    response = await ask(make(), target)
    assert (response.status, response.body) == (404, body.encode())


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/exec/ns/web/main?command=id&output=1"),
        ("GET", "/exec/ns/web/uid-web/main?command=id&input=1"),
        ("POST", "/attach/ns/web/main?error=1"),
        ("POST", "/portForward/ns/web"),
        ("POST", "/portForward/ns/web/uid-web"),
        ("POST", "/run/ns/web/main?cmd=id"),
        ("POST", "/checkpoint/ns/web/main"),
        ("GET", "/configz"),
    ],
)
async def test_what_is_not_offered_yet_is_501_with_a_sentence(make: Make, method: str, target: str) -> None:
    response = await ask(make(), target, method)
    assert response.status == 501
    assert re.match("(the provider of )?this node does not offer ", await text(response))


@pytest.mark.parametrize(
    ("target", "status", "body"),
    [
        ("/exec/ns/web/wrong-uid/main?output=1", 500, 'container not found ("main")'),
        ("/attach/ns/web/wrong-uid/main?output=1", 500, "container main not found in pod web_ns"),
        ("/portForward/ns/web/wrong-uid", 404, "pod not found"),
        ("/exec/ns/web/main?output=true", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("/run/ns/zz/main?cmd=id", 404, "pod does not exist"),
        ("/checkpoint/ns/zz/main", 404, "pod does not exist"),
        ("/checkpoint/ns/web/zz", 404, "container zz does not exist"),
    ],
)
async def test_requests_to_a_container_are_checked_as_the_kubelet_does(
    make: Make, target: str, status: int, body: str
) -> None:
    response = await ask(make(), target, "POST")
    assert (response.status, await text(response)) == (status, body)


# Pods, health, metrics


@pytest.mark.parametrize(
    "target",
    ["/exec/ns/web/main?output=1", "/attach/ns/web/main", "/portForward/ns/web", "/run/ns/web/main?cmd=id",
     "/containerLogs/ns/web/main", "/runningpods/", "/logs/", "/debug/pprof/", "/exec/whatever"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_debugging_handlers_that_are_off_are_405_as_with_a_kubelet(make: Make, target: str, method: str) -> None:
    response = await ask(make(debugging_handlers=False), target, method)
    assert (response.status, await text(response)) == (405, "Debug endpoints are disabled.\n")


async def test_without_debugging_handlers_everything_else_is_there_but_for_the_configuration(make: Make) -> None:
    server = make(debugging_handlers=False, configuration={})
    for target, status in (("/pods", 200), ("/metrics", 200), ("/healthz", 200), ("/configz", 404), ("/nope", 404)):
        assert (await ask(server, target)).status == status


async def test_many_pods_are_one_list(make: Make) -> None:
    pods = [pod(f"p{number}", main=RUNNING) for number in range(150)]
    response = await ask(make(pods=pods), "/pods")
    listed = msgspec.json.decode(await text(response))
    assert [item["metadata"]["name"] for item in listed["items"]] == [f"p{number}" for number in range(150)]
    assert "kind" not in listed["items"][0]


async def test_no_pods_are_an_empty_list(make: Make) -> None:
    server = make()
    server._pods = Pods()
    empty = '{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]}\n'
    assert await text(await ask(server, "/pods")) == empty
    assert await text(await ask(server, "/runningpods/")) == empty


@pytest.mark.parametrize(
    ("error", "body"),
    [
        (TransientError("backend is away"), "Internal Error: backend is away"),
        (RuntimeError("inner secret"), "Internal Error: the node failed to answer this request; its log says why."),
    ],
)
async def test_a_provider_that_cannot_list_its_pods_is_500(make: Make, error: Exception, body: str) -> None:
    class Failing(SilentProvider):
        async def get_pods(self) -> list[Pod]:
            raise error

    response = await ask(make(Failing()), "/runningpods/")
    assert (response.status, await text(response)) == (500, body)


@pytest.mark.looptime
async def test_a_provider_that_hangs_is_500(make: Make) -> None:
    class Hanging(SilentProvider):
        async def get_pods(self) -> list[Pod]:
            await forever()
            raise AssertionError

    response = await ask(make(Hanging(), provider_timeout=30), "/runningpods/")
    assert (response.status, await text(response)) == (500, "Internal Error: the provider did not answer in time")
    assert asyncio.get_running_loop().time() == pytest.approx(30)


@pytest.mark.looptime
async def test_health_checks_fail_by_name_without_their_reasons(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    async def fine() -> None:
        return

    async def ill() -> None:
        raise RuntimeError("inner secret")

    server = make(health_checks={"watch": fine, "provider": ill, "lease": forever})
    report = "[+]ping ok\n[+]watch ok\n[-]provider failed: reason withheld\n[-]lease failed: reason withheld\n"
    for target, status, body in [
        ("/healthz", 500, f"{report}healthz check failed\n"),
        ("/healthz/watch", 200, "ok"),
        ("/healthz/ping", 200, "ok"),
        ("/healthz/provider", 500, "[+]ping ok\n[-]provider failed: reason withheld\nhealthz check failed\n"),
        ("/healthz?exclude=provider&exclude=lease", 200, "ok"),
        ("/healthz?exclude=provider&exclude=lease&verbose", 200, "[+]ping ok\n[+]watch ok\nhealthz check passed\n"),
    ]:
        response = await ask(server, target)
        assert (response.status, await text(response)) == (status, body)
    assert "inner secret" in caplog.text


async def test_requests_are_counted_under_few_labels(make: Make) -> None:
    server = make()
    for target, method in [
        ("/pods", "GET"),
        ("/pods", "BREW"),
        ("/a-path-of-the-callers-own", "GET"),
        ("/containerLogs/ns/web/zz", "GET"),
    ]:
        await ask(server, target, method)
    response = await ask(server, "/metrics")
    assert dict(response.headers)["Content-Type"].startswith("text/plain; version=0.0.4")
    shown = await text(response)
    for labels in [
        'code="200",method="GET",path="pods"',
        'code="405",method="other",path="pods"',
        'code="404",method="GET",path="other"',
        'code="404",method="GET",path="containerLogs"',
    ]:
        assert f"virtual_kubelet_http_requests_total{{{labels}}} 1.0" in shown
    assert "callers-own" not in shown


async def test_the_configuration_is_shown_as_the_kubelets_is(make: Make) -> None:
    server = make(configuration={"port": 10250, "clusterDomain": "cluster.local"})
    response = await ask(server, "/configz")
    assert (response.status, dict(response.headers)["Content-Type"]) == (200, "application/json")
    assert await text(response) == '{"kubeletconfig":{"port":10250,"clusterDomain":"cluster.local"}}'


# Logs


async def test_a_provider_without_logs_is_501(make: Make) -> None:
    assert await logs(make()) == (501, "the provider of this node does not offer container logs")


@pytest.mark.parametrize(
    ("error", "status", "body"),
    [
        (NotFoundError("no such container over there"), 404, "no such container over there"),
        (NotFoundError(), 404, 'container "main" not found in pod "web"'),
        (InvalidInputError("has not started"), 400, "has not started"),
        (UnsupportedError("no logs of this kind"), 501, "no logs of this kind"),
        (ProviderError("disk is gone"), 500, "Internal Error: disk is gone"),
        (RuntimeError("inner"), 500, "Internal Error: the node failed to answer this request; its log says why."),
    ],
)
async def test_what_the_provider_raises_first_is_the_status(
    make: Make, error: Exception, status: int, body: str
) -> None:
    assert await logs(make(LoggingProvider(source(error)))) == (status, body)

    def at_once(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        raise error

    assert await logs(make(LoggingProvider(at_once))) == (status, body)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ProviderError("disk is gone"), "disk is gone\n"),
        (RuntimeError("inner"), "Internal Error: the log could not be read to its end; the node's log says why.\n"),
    ],
)
async def test_what_it_raises_later_ends_the_body_visibly(make: Make, error: Exception, words: str) -> None:
    assert await logs(make(LoggingProvider(source(b"one\n", error)))) == (200, f"one\n{words}!")


@pytest.mark.parametrize("query", ["", "follow=true", "follow=true&tailLines=1"])
async def test_a_time_out_of_the_providers_own_is_an_error_like_others(make: Make, query: str) -> None:
    words = "Internal Error: the log could not be read to its end; the node's log says why.\n"
    server = make(LoggingProvider(source(b"one\n", TimeoutError("backend"))))
    async with asyncio.timeout(60):
        assert await logs(server, query) == (200, f"one\n{words}!")
        assert (await logs(make(LoggingProvider(source(TimeoutError()))), query))[0] == 500


async def test_a_provider_that_falls_silent_in_a_log_that_is_not_followed_is_left(make: Make) -> None:
    limits = replace(QUICK, silence=0.05)
    words = "the provider gave no further line of this log for 0.05 s\n"
    server = make(LoggingProvider(source(b"one\n", b"two\n", then=forever)), log_limits=limits)
    assert await logs(server) == (200, f"one\ntwo\n{words}!")
    assert await logs(server, "tailLines=1") == (200, f"two\n{words}!")


async def test_a_tail_too_large_to_be_held_is_shortened_and_that_is_logged(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [b"%d\n" % number for number in range(9)]
    for limits in (replace(QUICK, tail_bytes=500), replace(QUICK, all_tails_bytes=500)):
        caplog.clear()
        assert await logs(make(LoggingProvider(source(*lines)), log_limits=limits), "tailLines=9") == (200, "6\n7\n8\n")
        assert "its oldest lines were left out" in caplog.text


async def test_an_error_behind_a_held_tail_shows_the_tail_too(make: Make) -> None:
    provider = LoggingProvider(source(b"one\n", b"two\n", ProviderError("gone")))
    assert await logs(make(provider), "tailLines=1") == (200, "two\ngone\n!")


@pytest.mark.parametrize(
    "nonsense",
    [b"bytes", None, ("x",), LogLine(1, "text")],  # type: ignore[arg-type]
)
async def test_a_provider_that_gives_nonsense_is_500(
    make: Make, nonsense: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def read(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[Any]:
        yield nonsense

    assert (await logs(make(LoggingProvider(read))))[0] == 500
    assert "Traceback" in caplog.text


async def test_a_provider_whose_logs_are_a_coroutine_is_told_what_is_wrong(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def read(key: PodKey, container: str, options: ContainerLogOptions) -> list[LogLine]:
        return []

    assert (await logs(make(LoggingProvider(read))))[0] == 500  # type: ignore[arg-type]
    assert "it must be an async generator" in caplog.text


async def test_all_options_work_with_a_provider_that_knows_none(make: Make) -> None:
    provider = LoggingProvider(source(b"one\n", b"two\n", b"three\n"))
    server = make(provider)
    assert await logs(server) == (200, "one\ntwo\nthree\n")
    assert await logs(server, "tailLines=2&limitBytes=6") == (200, "two\nth")
    assert await logs(server, "tailLines=0") == (200, "")
    assert await logs(server, "sinceSeconds=5") == (200, "")
    assert await logs(server, "tailLines=1&timestamps=true") == (200, "1970-01-01T00:00:00.000000001Z three\n")
    assert await logs(server, "follow=true&tailLines=1") == (200, "three\n")
    key, container, options = provider.asked[-1]
    assert (key, container) == (PodKey("ns", "web", "uid-web"), "main")
    assert options == ContainerLogOptions(follow=True, tail_lines=1)


@pytest.mark.parametrize("container", ["init_one", "debug_one"])
async def test_all_kinds_of_containers_have_logs(make: Make, container: str) -> None:
    statuses = {"main": RUNNING, container: {"state": ENDED}}
    pods = [pod("web", **statuses)]
    assert await logs(make(LoggingProvider(source(b"x")), pods), container=container) == (200, "x")


@pytest.mark.parametrize(
    ("status", "query", "words"),
    [
        ({}, "", "is not available"),
        ({"state": {}}, "", "is waiting to start - no logs yet"),
        ({"state": {"waiting": {"reason": "ContainerCreating"}}}, "", "is waiting to start: ContainerCreating"),
        ({"state": {"waiting": {"reason": "ErrImagePull"}}}, "", "is waiting to start: image can't be pulled"),
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff"}}},
            "",
            "is waiting to start: trying and failing to pull image",
        ),
        (RUNNING, "previous=true", "not found"),
        ({"state": ENDED}, "previous=true", "not found"),
    ],
)
async def test_a_container_without_that_instance_is_400_and_the_provider_is_not_asked(
    make: Make, status: dict[str, Any], query: str, words: str
) -> None:
    provider = LoggingProvider(source(b"x"))
    prefix = "previous terminated container" if query else "container"
    assert await logs(make(provider, [pod(main=status)]), query) == (400, f'{prefix} "main" in pod "web" {words}')
    assert provider.asked == []


@pytest.mark.parametrize(
    ("status", "query", "previous"),
    [
        (RUNNING, "", False),
        ({"state": ENDED}, "", False),
        ({**RUNNING, "lastState": ENDED}, "previous=true", True),
        ({"state": ENDED, "lastState": ENDED}, "previous=true", True),
        # Between two runs the newest instance is the one in lastState, with and without "previous".
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ENDED}, "", False),
        ({"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ENDED}, "previous=true", False),
    ],
)
async def test_the_provider_is_asked_for_the_instance_that_is_meant(
    make: Make, status: dict[str, Any], query: str, previous: bool
) -> None:
    provider = LoggingProvider(source(b"x"))
    assert await logs(make(provider, [pod(main=status)]), query) == (200, "x")
    assert provider.asked[0][2].previous is previous


async def test_a_status_newer_than_the_api_servers_counts(make: Make) -> None:
    newest: dict[PodKey, PodStatus] = {PodKey("ns", "web", "uid-web"): WEB.status}
    stale = [pod(main={"state": {"waiting": {"reason": "ContainerCreating"}}})]
    server = make(LoggingProvider(source(b"x")), stale, newest_status=newest.get)
    assert await logs(server) == (200, "x")


async def test_the_provider_logs_with_the_pods_fields(make: Make) -> None:
    seen: list[dict[str, str]] = []

    async def read(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        seen.append(dict(bound_fields()))
        yield LogLine(1, b"x")
        await asyncio.sleep(0.05)
        seen.append(dict(bound_fields()))

    await logs(make(LoggingProvider(read)))
    assert seen == [{"node": "node-1", "namespace": "ns", "pod": "web", "uid": "uid-web"}] * 2
    assert dict(bound_fields()) == {}


async def test_more_log_streams_than_allowed_are_429(make: Make) -> None:
    server = make(LoggingProvider(source(then=forever)), log_limits=replace(QUICK, max_streams=2))
    streams = [await ask(server, "/containerLogs/ns/web/main?follow=true") for _ in range(2)]
    assert server.log_streams == 2
    refused = await ask(server, "/containerLogs/ns/web/main")
    assert (refused.status, dict(refused.headers)["Retry-After"]) == (429, "1")
    for stream in streams:
        await stream.body.aclose()  # type: ignore[union-attr]
    assert server.log_streams == 0


async def test_a_past_that_comes_slowly_is_still_a_tail(make: Make) -> None:
    async def read(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        await asyncio.sleep(0.03)  # longer than a pause between lines, shorter than that before the first
        for number in range(100):
            yield LogLine(1, b"%d\n" % number)
        await asyncio.sleep(0.1)
        yield LogLine(2, b"later\n")

    server = make(LoggingProvider(read), log_limits=replace(QUICK, settle_empty=30))
    assert await logs(server, "follow=true&tailLines=2") == (200, "98\n99\nlater\n")


async def test_a_lagging_clock_of_the_backend_hides_no_new_line_for_long(make: Make) -> None:
    async def read(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        await asyncio.sleep(0.15)
        yield LogLine(1, b"new\n")

    assert await logs(make(LoggingProvider(read)), "follow=true&tailLines=0") == (200, "new\n")


# Streams through real connections

Start = Callable[..., Awaitable[tuple[KubeletServer, tuple[str, int]]]]


@pytest.fixture
async def start(make: Make, nothing_left: None, serving_context: ssl.SSLContext) -> AsyncIterator[Start]:
    servers: list[KubeletServer] = []

    async def begin(provider: SilentProvider, **kwargs: Any) -> tuple[KubeletServer, tuple[str, int]]:
        server = make(provider, ssl_context=serving_context, **kwargs)
        servers.append(server)
        return server, (await server.start("127.0.0.1", 0))[0]

    yield begin
    for server in servers:
        await server.aclose(grace=0)
        assert (server.connections, server.log_streams) == (0, 0)


async def test_a_silent_log_shows_its_headers_at_once_and_its_lines_as_they_come(
    start: Start, client_context: ssl.SSLContext
) -> None:
    lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        while data := await lines.get():
            yield LogLine(1, data)

    _, address = await start(LoggingProvider(read))
    async with await RawClient.open(address, client_context) as client:
        client.send(b"GET /containerLogs/ns/web/main?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(60):
            status, headers = await client.head()
            assert (status, headers["transfer-encoding"]) == (200, "chunked")
            assert "content-type" not in headers
            lines.put_nowait(b"one\n")
            assert await client.chunk() == b"one\n"
            lines.put_nowait(b"two\n")
            assert await client.chunk() == b"two\n"
            lines.put_nowait(b"")  # the container ends
            assert await client.chunk() == b""
        assert (await client.ask("GET", "/healthz")).body == b"ok"


async def test_when_the_client_leaves_the_providers_iterator_is_closed(
    start: Start, client_context: ssl.SSLContext
) -> None:
    closed = asyncio.Event()

    async def read(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        try:
            yield LogLine(1, b"one\n")
            await forever()
        finally:
            closed.set()

    server, address = await start(LoggingProvider(read))
    async with await RawClient.open(address, client_context) as client:
        client.send(b"GET /containerLogs/ns/web/main?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.head()
        assert await client.chunk() == b"one\n"
        assert server.log_streams == 1
    await asyncio.wait_for(closed.wait(), 5)


async def test_a_client_that_leaves_before_the_first_line_closes_it_too(
    start: Start, client_context: ssl.SSLContext
) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def read(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        begun.set()
        try:
            await forever()
        finally:
            closed.set()
        yield LogLine(1, b"never")

    _, address = await start(LoggingProvider(read), log_limits=replace(QUICK, first_line_wait=60))
    async with await RawClient.open(address, client_context) as client:
        client.send(b"GET /containerLogs/ns/web/main?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(begun.wait(), 5)
    await asyncio.wait_for(closed.wait(), 5)


async def test_a_client_that_never_reads_a_followed_log_fills_no_memory_and_is_cut(
    start: Start, client_context: ssl.SSLContext
) -> None:
    produced, closed = 0, asyncio.Event()

    async def read(key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        nonlocal produced
        try:
            while True:
                produced += 1000
                yield LogLine(1, b"x" * 999 + b"\n")
        finally:
            closed.set()

    _, address = await start(LoggingProvider(read), limits=ServerLimits(write_timeout=0.3, close_timeout=0.3))
    async with await RawClient.open(address, client_context) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(b"GET /containerLogs/ns/web/main?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(closed.wait(), 20)
    assert produced < 50_000_000  # what the kernel's socket buffers took


async def test_a_log_that_breaks_off_is_seen_as_broken(
    start: Start, client_context: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    _, address = await start(LoggingProvider(source(b"one\n", ProviderError("disk is gone"))))
    async with await RawClient.open(address, client_context) as client:
        client.send(b"GET /containerLogs/ns/web/main HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.head()
        received = await client.ended()
    assert b"one\n" in received
    assert b"disk is gone\n" in received
    assert not received.endswith(b"0\r\n\r\n")
    assert caplog.records == []  # the caller has been told


async def test_stopping_cuts_followed_logs_and_closes_their_iterators(
    start: Start, client_context: ssl.SSLContext
) -> None:
    server, address = await start(LoggingProvider(source(b"one\n", then=forever)))
    async with await RawClient.open(address, client_context) as client:
        client.send(b"GET /containerLogs/ns/web/main?follow=true HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.head()
        await client.chunk()
        await server.aclose(grace=0.05)
        assert server.log_streams == 0
        assert await client.ended() == b""
    await server.wait()


async def test_paths_that_could_be_read_in_two_ways_get_nowhere(start: Start, client_context: ssl.SSLContext) -> None:
    _, address = await start(LoggingProvider(source(b"secret log\n")))
    for target in (
        "/healthz/../containerLogs/ns/web/main",
        "/healthz/%2e%2e/containerLogs/ns/web/main",
        "/containerLogs/ns%2fweb/main",
        "/containerLogs/ns/web/main%00",
    ):
        async with await RawClient.open(address, client_context) as client:
            assert (await client.ask("GET", target)).status == 400

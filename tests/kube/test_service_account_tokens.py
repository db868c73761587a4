"""Tokens of pods' service accounts: asked for as a kubelet does, kept, renewed in time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web

from tests.kube.api_stand_in import ApiStandIn, answers, refuses
from virtual_kubelet.errors import ApiConnectionError, ForbiddenError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.service_account_tokens import ServiceAccountTokens
from virtual_kubelet.objects.core_v1 import Pod, PodSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.objects.service_account_token import RENEWAL_JITTER, renewal_time
from virtual_kubelet.objects.times import format_time

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()


class Issuer:
    """The ``token`` subresource of every service account."""

    def __init__(self, server: ApiStandIn, clock: Clock) -> None:
        self.clock = clock
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.refusal: int | None = None
        self.given: dict[str, Any] = {}  # in place of what was asked for
        server.script = [self._answer]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append((f"{request.method} {request.path}", body))
        if self.refusal is not None:
            return await refuses(self.refusal, "Forbidden", "pod not found")(request)
        spec = {**body["spec"], **self.given}
        expires = self.clock.now() + timedelta(seconds=spec["expirationSeconds"])
        status = {"token": f"hush-{len(self.requests)}", "expirationTimestamp": format_time(expires)}
        return await answers(201, {**body, "spec": spec, "status": status})(request)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(server: ApiStandIn, clock: Clock) -> Issuer:
    return Issuer(server, clock)


@pytest.fixture
def tokens(client: ApiClient, clock: Clock) -> ServiceAccountTokens:
    return ServiceAccountTokens(client, clock=clock)


def pod(name: str = "p", account: str | None = "robot") -> Pod:
    spec = PodSpec(service_account_name=account, containers=[])
    return Pod(metadata=ObjectMeta(name=name, namespace="ns", uid=f"uid-{name}"), spec=spec)


@pytest.mark.parametrize(
    ("lifetime", "expected"),
    [(3600, 2880), (3607, 2885.6), (600, 480), (86_400, 69_120), (7 * 86_400, 86_400), (30 * 86_400, 86_400)],
)
def test_a_token_is_renewed_after_80_percent_of_its_life_or_a_day(lifetime: float, expected: float) -> None:
    expires = NOW + timedelta(seconds=lifetime)
    assert renewal_time(expires, lifetime, 0) - NOW == timedelta(seconds=expected)
    assert renewal_time(expires, lifetime, RENEWAL_JITTER) - NOW == timedelta(seconds=expected - RENEWAL_JITTER)


async def test_it_is_asked_for_the_pod_s_account_and_bound_to_the_pod(
    issuer: Issuer, tokens: ServiceAccountTokens
) -> None:
    token = await tokens.get(pod(), "vault", 1000)
    ((where, body),) = issuer.requests
    assert where == "POST /api/v1/namespaces/ns/serviceaccounts/robot/token"
    assert body["spec"] == {
        "audiences": ["vault"],
        "expirationSeconds": 1000,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-p"},
    }
    assert (token.token, token.expires - NOW) == ("hush-1", timedelta(seconds=1000))
    assert timedelta(seconds=790) <= token.renew - NOW <= timedelta(seconds=800)
    assert "hush" not in repr(token)


async def test_without_an_account_or_an_audience_those_of_the_server_count(
    issuer: Issuer, tokens: ServiceAccountTokens
) -> None:
    await tokens.get(pod(account=None))
    ((where, body),) = issuer.requests
    assert where.endswith("/serviceaccounts/default/token")
    assert (body["spec"]["audiences"], body["spec"]["expirationSeconds"]) == ([], 3600)


async def test_it_is_kept_until_it_is_to_be_renewed(issuer: Issuer, tokens: ServiceAccountTokens, clock: Clock) -> None:
    first = await tokens.get(pod())
    clock.time = first.renew - timedelta(seconds=1)
    assert await tokens.get(pod()) == first
    clock.time = first.renew
    assert (await tokens.get(pod())).token == "hush-2"


async def test_each_pod_audience_and_life_has_its_own_and_callers_at_once_share_a_request(
    issuer: Issuer, tokens: ServiceAccountTokens
) -> None:
    wanted = [(pod("a"), "", 3600), (pod("b"), "", 3600), (pod("a"), "vault", 3600), (pod("a"), "", 600)]
    found = await asyncio.gather(*(tokens.get(*each) for each in [*wanted, *wanted]))
    assert len(issuer.requests) == 4
    assert found[:4] == found[4:]
    assert len({token.token for token in found}) == 4


async def test_what_cannot_be_renewed_is_used_until_it_expires(
    issuer: Issuer, tokens: ServiceAccountTokens, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    first = await tokens.get(pod())
    issuer.refusal = 403
    clock.time = first.renew
    old = await tokens.get(pod())
    assert (old.token, old.expires) == (first.token, first.expires)
    assert clock.time < old.renew <= clock.time + timedelta(minutes=1)
    assert "service account ns/robot could not be renewed: pod not found" in caplog.text
    assert "hush" not in caplog.text
    asked = len(issuer.requests)
    await tokens.get(pod())
    assert len(issuer.requests) == asked  # not at every call
    clock.time = first.expires
    with pytest.raises(ForbiddenError):
        await tokens.get(pod())
    issuer.refusal = None
    assert (await tokens.get(pod())).token.startswith("hush-")


async def test_the_life_that_the_server_gave_counts(issuer: Issuer, tokens: ServiceAccountTokens) -> None:
    issuer.given = {"expirationSeconds": 600}
    token = await tokens.get(pod(), "", 7200)
    assert timedelta(seconds=470) <= token.renew - NOW <= timedelta(seconds=480)


async def test_of_a_pod_that_is_gone_nothing_is_kept(
    issuer: Issuer, tokens: ServiceAccountTokens, clock: Clock
) -> None:
    first = await tokens.get(pod())
    await tokens.get(pod("other"))
    tokens.forget("uid-p")
    issuer.refusal = 404
    with pytest.raises(Exception, match="pod not found"):
        await tokens.get(pod())
    assert (await tokens.get(pod("other"))).token == "hush-2"
    assert first.token not in repr(vars(tokens))


async def test_an_answer_without_a_token_is_an_error(server: ApiStandIn, tokens: ServiceAccountTokens) -> None:
    server.script = [answers(201, {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "status": {}})]
    with pytest.raises(ApiConnectionError, match="without a token"):
        await tokens.get(pod())

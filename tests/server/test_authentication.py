"""Who is calling."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.server.review_server import ReviewServer
from tests.server.test_reviews import HandClock
from virtual_kubelet.errors import ApiConnectionError, ForbiddenError, InvalidObjectError
from virtual_kubelet.objects.authentication_v1 import UserInfo
from virtual_kubelet.server.authentication import (
    CertificateAuthenticator,
    FirstOf,
    TokenAuthenticator,
    User,
    bearer_token,
)
from virtual_kubelet.server.http_messages import Headers, PeerIdentity, Request, Target

HOUR = 3600.0


def request(authorization: str | None = None, peer: PeerIdentity | None = None) -> Request:
    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    return Request("GET", Target("/pods", "/pods", ""), Headers(headers), peer_certificate=peer)


def peer(name: str, *groups: str, not_after: float = 2_000_000_000.0) -> PeerIdentity:
    return PeerIdentity(name, groups, "01", not_after)


async def test_a_certificate_names_user_and_groups() -> None:
    authenticator = CertificateAuthenticator(clock=HandClock())
    assert await authenticator.authenticate(request(peer=peer("ada", "engineers", "system:masters"))) == User(
        "ada", groups=("engineers", "system:masters", "system:authenticated")
    )


async def test_a_certificate_that_says_authenticated_itself_says_it_once() -> None:
    user = await CertificateAuthenticator(clock=HandClock()).authenticate(
        request(peer=peer("a", "system:authenticated"))
    )
    assert user is not None
    assert user.groups == ("system:authenticated",)


@pytest.mark.parametrize(
    "who",
    [None, peer("", "system:masters"), peer("ada", not_after=1_799_999_999.0)],
    ids=["none", "without a name", "expired since the handshake"],
)
async def test_no_name_or_no_valid_certificate_is_nobody(who: PeerIdentity | None) -> None:
    assert await CertificateAuthenticator(clock=HandClock()).authenticate(request(peer=who)) is None


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer abc", "abc"),
        ("BEARER abc more", "abc"),
        ("  Bearer abc ", "abc"),
        ("Bearer  abc", ""),
        ("Bearer", ""),
        ("Basic abc", ""),
        ("abc", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_bearer_token_is_read_as_client_go_does(header: str | None, token: str) -> None:
    assert bearer_token(request(header)) == token


async def test_a_token_is_asked_about_once_and_kept_two_minutes() -> None:
    server, clock = ReviewServer(), HandClock()
    server.tokens["good"] = UserInfo(
        username="system:serviceaccount:ns:sa", uid="u1", groups=["system:serviceaccounts"], extra={"k": ["v"]}
    )
    authenticator = TokenAuthenticator(server, clock=clock)
    expected = User(
        "system:serviceaccount:ns:sa", "u1", ("system:serviceaccounts", "system:authenticated"), {"k": ["v"]}
    )
    for _ in range(3):
        assert await authenticator.authenticate(request("Bearer good")) == expected
    assert len(server.asked) == 1
    clock.moment = 120.0
    assert await authenticator.authenticate(request("Bearer good")) == expected
    assert len(server.asked) == 2


async def test_a_refused_token_is_kept_too() -> None:
    server = ReviewServer()
    authenticator = TokenAuthenticator(server, clock=HandClock())
    for _ in range(3):
        assert await authenticator.authenticate(request("Bearer bad")) is None
    assert len(server.asked) == 1


async def test_a_token_without_a_user_is_refused() -> None:
    server = ReviewServer()
    server.tokens["odd"] = UserInfo(username="")
    assert await TokenAuthenticator(server, clock=HandClock()).authenticate(request("Bearer odd")) is None


@pytest.mark.parametrize("authorization", [None, "Basic x", "Bearer " + "x" * 11])
async def test_no_token_and_one_that_is_too_long_are_not_asked_about(authorization: str | None) -> None:
    server = ReviewServer()
    authenticator = TokenAuthenticator(server, max_token_bytes=10, clock=HandClock())
    assert await authenticator.authenticate(request(authorization)) is None
    assert server.asked == []


async def test_the_token_cache_is_bounded() -> None:
    server = ReviewServer()
    authenticator = TokenAuthenticator(server, cache_size=2, clock=HandClock())
    for token in ("a", "b", "c", "a"):
        await authenticator.authenticate(request(f"Bearer {token}"))
    assert len(server.asked) == 4


@pytest.mark.parametrize("failure", [ApiConnectionError("refused"), ForbiddenError(403, "Forbidden", "no reviews")])
async def test_a_review_that_fails_is_nobody_and_is_asked_again(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    server = ReviewServer()
    server.tokens["s3cret"] = UserInfo(username="ada")
    server.failures = [failure]
    authenticator = TokenAuthenticator(server, clock=HandClock(), retries=())
    assert await authenticator.authenticate(request("Bearer s3cret")) is None
    assert "token review failed" in caplog.text
    assert "s3cret" not in caplog.text
    assert await authenticator.authenticate(request("Bearer s3cret")) is not None


@pytest.mark.looptime
async def test_a_review_that_hangs_is_nobody() -> None:
    server = ReviewServer()
    server.hold = asyncio.Event()
    assert await TokenAuthenticator(server, timeout=3).authenticate(request("Bearer x")) is None


@pytest.mark.looptime
async def test_callers_with_many_tokens_do_not_pile_up_while_the_api_server_hangs() -> None:
    server = ReviewServer()
    server.hold = asyncio.Event()
    authenticator = TokenAuthenticator(server, timeout=3)
    answers = await asyncio.gather(*(authenticator.authenticate(request(f"Bearer {n}")) for n in range(200)))
    assert answers == [None] * 200
    assert asyncio.get_running_loop().time() < 4
    assert len(server.asked) < 100


async def test_an_api_server_that_repeats_a_token_does_not_bring_it_into_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    server = ReviewServer()
    server.failures = [InvalidObjectError(422, "Invalid", 'spec.token: Invalid value: "s3cret"')]
    server.token_error = "s3cret has expired"
    authenticator = TokenAuthenticator(server, clock=HandClock(), retries=())
    for _ in range(2):
        assert await authenticator.authenticate(request("Bearer s3cret")) is None
    assert 'Invalid value: "[token]"' in caplog.text
    assert "[token] has expired" in caplog.text
    assert "s3cret" not in caplog.text


async def test_no_token_stays_in_memory_in_clear() -> None:
    server = ReviewServer()
    server.tokens["s3cret-t0ken"] = UserInfo(username="ada")
    authenticator = TokenAuthenticator(server, clock=HandClock())
    await authenticator.authenticate(request("Bearer s3cret-t0ken"))
    assert "s3cret-t0ken" not in repr(vars(authenticator)) + repr(vars(authenticator._cache))


async def test_the_first_who_knows_the_caller_counts() -> None:
    server = ReviewServer()
    server.tokens["t"] = UserInfo(username="by-token")
    both = FirstOf(CertificateAuthenticator(clock=HandClock()), TokenAuthenticator(server, clock=HandClock()))
    for asked, name in [
        (request("Bearer t", peer("by-certificate")), "by-certificate"),
        (request("Bearer t"), "by-token"),
    ]:
        user = await both.authenticate(asked)
        assert user is not None
        assert user.name == name
    assert await both.authenticate(request()) is None

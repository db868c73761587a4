"""What a caller may do."""

from __future__ import annotations

import asyncio

import pytest

from tests.server.review_server import ReviewServer
from tests.server.test_reviews import HandClock
from virtual_kubelet.errors import ApiConnectionError, ForbiddenError
from virtual_kubelet.objects.authorization_v1 import SubjectAccessReview, SubjectAccessReviewStatus
from virtual_kubelet.server.authentication import User
from virtual_kubelet.server.authorization import (
    AccessReviewAuthorizer,
    AlwaysAllowAuthorizer,
    Attributes,
    AuthorizationError,
    request_attributes,
)

ADA = User("ada", "u1", ("engineers", "system:authenticated"), {"scope": ["a", "b"]})
PODS = Attributes("get", "pods", "node-1")


@pytest.mark.parametrize(
    ("method", "path", "verb", "subresources"),
    [
        ("GET", "/pods", "get", ["pods", "proxy"]),
        ("GET", "/pods/", "get", ["pods", "proxy"]),
        ("GET", "/runningpods/", "get", ["pods", "proxy"]),
        ("GET", "/healthz", "get", ["healthz", "proxy"]),
        ("GET", "/healthz/ping", "get", ["healthz", "proxy"]),
        ("GET", "/configz", "get", ["configz", "proxy"]),
        ("GET", "/statusz", "get", ["statusz", "proxy"]),
        ("GET", "/stats/summary", "get", ["stats"]),
        ("GET", "/metrics", "get", ["metrics"]),
        ("GET", "/metrics/resource", "get", ["metrics"]),
        ("GET", "/logs/", "get", ["log"]),
        ("POST", "/checkpoint/ns/p/c", "create", ["checkpoint"]),
        ("GET", "/containerLogs/ns/p/c", "get", ["proxy"]),
        ("GET", "/podsy", "get", ["proxy"]),
        ("GET", "/metricsx", "get", ["proxy"]),
        ("GET", "/", "get", ["proxy"]),
        ("GET", "/nope", "get", ["proxy"]),
        ("PUT", "/nope", "update", ["proxy"]),
        ("PATCH", "/nope", "patch", ["proxy"]),
        ("DELETE", "/nope", "delete", ["proxy"]),
        ("HEAD", "/pods", "", ["pods", "proxy"]),
        ("BREW", "/pods", "", ["pods", "proxy"]),
        ("POST", "/pods", "create", ["pods", "proxy"]),
        # Ours, not the kubelet's: a WebSocket's GET runs a command just as well.
        ("GET", "/exec/ns/p/c", "create", ["proxy"]),
        ("POST", "/exec/ns/p/c", "create", ["proxy"]),
        ("GET", "/attach/ns/p/c", "create", ["proxy"]),
        ("GET", "/portForward/ns/p", "create", ["proxy"]),
        ("GET", "/run/ns/p/c", "create", ["proxy"]),
        ("GET", "/executor", "get", ["proxy"]),
    ],
)
def test_a_request_is_access_to_the_nodes_subresources(
    method: str, path: str, verb: str, subresources: list[str]
) -> None:
    assert request_attributes(method, path, "node-1") == tuple(
        Attributes(verb, subresource, "node-1") for subresource in subresources
    )


async def test_the_review_says_who_and_what() -> None:
    server = ReviewServer()
    assert await AccessReviewAuthorizer(server, clock=HandClock()).allowed(ADA, PODS)
    (review,) = server.asked
    assert isinstance(review, SubjectAccessReview)
    spec = review.spec
    assert (spec.user, spec.uid, spec.groups) == ("ada", "u1", ["engineers", "system:authenticated"])
    assert spec.extra == {"scope": ["a", "b"]}
    access = spec.resource_attributes
    assert access is not None
    assert (access.verb, access.group, access.version) == ("get", None, "v1")
    assert (access.resource, access.subresource, access.name, access.namespace) == ("nodes", "pods", "node-1", None)


@pytest.mark.parametrize(("allowed", "seconds"), [(True, 300.0), (False, 30.0)])
async def test_a_yes_is_kept_five_minutes_and_a_no_half_a_minute(allowed: bool, seconds: float) -> None:
    server, clock = ReviewServer(), HandClock()
    server.rule = lambda spec: allowed
    authorizer = AccessReviewAuthorizer(server, clock=clock)
    assert await authorizer.allowed(ADA, PODS) is allowed
    clock.moment = seconds - 0.1
    assert await authorizer.allowed(ADA, PODS) is allowed
    assert len(server.asked) == 1
    clock.moment = seconds
    assert await authorizer.allowed(ADA, PODS) is allowed
    assert len(server.asked) == 2


async def test_another_user_group_verb_or_subresource_is_another_question() -> None:
    server = ReviewServer()
    authorizer = AccessReviewAuthorizer(server, clock=HandClock())
    for user, attributes in [
        (ADA, PODS),
        (User("eve", ADA.uid, ADA.groups, ADA.extra), PODS),
        (User("ada", ADA.uid, ("engineers",), ADA.extra), PODS),
        (User("ada", ADA.uid, ADA.groups), PODS),
        (ADA, Attributes("create", "pods", "node-1")),
        (ADA, Attributes("get", "proxy", "node-1")),
    ]:
        await authorizer.allowed(user, attributes)
    assert len(server.asked) == 6


async def test_masters_are_asked_about_like_anybody() -> None:
    server = ReviewServer()
    server.rule = lambda spec: False
    user = User("root", groups=("system:masters",))
    assert not await AccessReviewAuthorizer(server, clock=HandClock()).allowed(user, PODS)


async def test_the_cache_is_bounded() -> None:
    server = ReviewServer()
    authorizer = AccessReviewAuthorizer(server, cache_size=2, clock=HandClock())
    for name in ("a", "b", "c", "a"):
        await authorizer.allowed(User(name), PODS)
    assert len(server.asked) == 4


@pytest.mark.parametrize("failure", [ApiConnectionError("refused"), ForbiddenError(403, "Forbidden", "no")])
async def test_a_review_that_fails_is_an_error_not_a_yes_and_is_asked_again(failure: Exception) -> None:
    server = ReviewServer()
    server.failures = [failure]
    authorizer = AccessReviewAuthorizer(server, clock=HandClock(), retries=())
    with pytest.raises(AuthorizationError, match="access review failed"):
        await authorizer.allowed(ADA, PODS)
    assert await authorizer.allowed(ADA, PODS)


@pytest.mark.looptime
async def test_a_review_that_hangs_is_an_error() -> None:
    server = ReviewServer()
    server.hold = asyncio.Event()
    with pytest.raises(AuthorizationError, match="TimeoutError"):
        await AccessReviewAuthorizer(server, timeout=3).allowed(ADA, PODS)


@pytest.mark.looptime
async def test_callers_do_not_pile_up_while_the_api_server_hangs() -> None:
    server = ReviewServer()
    server.hold = asyncio.Event()
    authorizer = AccessReviewAuthorizer(server, timeout=3)
    answers = await asyncio.gather(
        *(authorizer.allowed(User(f"u{n}"), PODS) for n in range(200)), return_exceptions=True
    )
    assert all(isinstance(answer, AuthorizationError) for answer in answers)
    assert asyncio.get_running_loop().time() < 4


async def test_a_denial_wins_over_a_permission() -> None:
    server = ReviewServer()
    server.access_status = SubjectAccessReviewStatus(allowed=True, denied=True)
    assert not await AccessReviewAuthorizer(server, clock=HandClock()).allowed(ADA, PODS)


async def test_no_opinion_for_an_error_is_a_no_that_is_not_kept() -> None:
    server = ReviewServer()
    server.access_status = SubjectAccessReviewStatus(allowed=False, evaluation_error="webhook down")
    authorizer = AccessReviewAuthorizer(server, clock=HandClock())
    assert not await authorizer.allowed(ADA, PODS)
    server.access_status = None
    assert await authorizer.allowed(ADA, PODS)


async def test_always_allow_allows() -> None:
    assert await AlwaysAllowAuthorizer().allowed(User("anybody"), Attributes("create", "proxy", "node-1"))

"""What a caller may do: each request is access to a subresource of this node, asked by SubjectAccessReview.

The mapping is the kubelet's (pkg/kubelet/server/auth.go, with its fine-grained subresources), but for one thing: what
runs commands in containers or reaches into their network is always ``create``. There, a WebSocket's GET makes it a mere
``get nodes/proxy``, which many monitoring agents hold.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.errors import ApiConnectionError, ApiError, text_of
from virtual_kubelet.kube.resources import SUBJECT_ACCESS_REVIEWS
from virtual_kubelet.objects.authorization_v1 import ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec
from virtual_kubelet.server.authentication import User
from virtual_kubelet.server.reviews import DEFAULT_RETRIES, ReviewCache, ReviewClient, submit

__all__ = [
    "AccessReviewAuthorizer",
    "AlwaysAllowAuthorizer",
    "Attributes",
    "AuthorizationError",
    "Authorizer",
    "request_attributes",
]

_VERBS: Final = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_ALWAYS_CREATE: Final = ("/exec", "/attach", "/portForward", "/run")
#: Path -> subresource that is enough; ``proxy`` (which is enough for everything) is asked for after it.
_FINE_GRAINED: Final = (
    ("/pods", "pods"),
    ("/runningpods", "pods"),
    ("/healthz", "healthz"),
    ("/configz", "configz"),
    ("/statusz", "statusz"),
)
#: Path -> the one subresource that is asked for.
_SEPARATE: Final = (("/stats", "stats"), ("/metrics", "metrics"), ("/logs", "log"), ("/checkpoint", "checkpoint"))


@dataclass(frozen=True, slots=True)
class Attributes:
    """One question: may the user do ``verb`` on ``nodes/SUBRESOURCE`` of the node ``name``?"""

    verb: str
    subresource: str
    name: str


def request_attributes(method: str, path: str, node_name: str) -> tuple[Attributes, ...]:
    """The questions for a request, in order; one yes is enough. They differ in their subresource only.

    A method that Kubernetes has no verb for gives an empty verb, which nobody but an administrator is allowed.
    """
    verb = "create" if any(_is_below(path, prefix) for prefix in _ALWAYS_CREATE) else _VERBS.get(method, "")
    subresources = [name for prefix, name in _FINE_GRAINED if _is_below(path, prefix)]
    separate = [name for prefix, name in _SEPARATE if _is_below(path, prefix)]
    return tuple(Attributes(verb, name, node_name) for name in subresources + (separate or ["proxy"]))


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(prefix + "/")


class AuthorizationError(Exception):
    """Nobody could say whether the caller may: the request is refused with 500, as the kubelet does."""


class Authorizer(Protocol):
    """Decides whether a caller may do something."""

    async def allowed(self, user: User, attributes: Attributes) -> bool:
        """Raises ``AuthorizationError`` when it cannot tell."""
        ...


class AlwaysAllowAuthorizer:
    """Everything to everybody who is authenticated. Never a default: whoever wants this has to name it."""

    async def allowed(self, user: User, attributes: Attributes) -> bool:
        return True


class AccessReviewAuthorizer:
    """SubjectAccessReviews at the API server, for every user alike, members of ``system:masters`` too."""

    def __init__(
        self,
        client: ReviewClient,
        *,
        allow_seconds: float = 300.0,
        deny_seconds: float = 30.0,
        cache_size: int = 8192,
        timeout: float = 10.0,
        retries: Sequence[float] = DEFAULT_RETRIES,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            client: asks the API server; needs the right to create SubjectAccessReviews, which nodes have.
            allow_seconds, deny_seconds: how long a yes and a no are good (the kubelet's ``webhook.cacheAuthorizedTTL``
                and ``cacheUnauthorizedTTL``); 0: not.
            cache_size: number of answers kept.
            timeout: for one question with all its attempts, and for its turn; seconds.
            retries: waits between attempts, see ``submit``.
            clock: ages the answers.
        """
        self._client = client
        self._allow_seconds = allow_seconds
        self._deny_seconds = deny_seconds
        self._timeout = timeout
        self._retries = tuple(retries)
        self._cache: ReviewCache[bool] = ReviewCache(cache_size, clock or SystemClock())

    async def allowed(self, user: User, attributes: Attributes) -> bool:
        spec = SubjectAccessReviewSpec(
            user=user.name,
            uid=user.uid or None,
            groups=list(user.groups),
            extra={key: list(values) for key, values in user.extra.items()} or None,
            resource_attributes=ResourceAttributes(
                verb=attributes.verb,
                version="v1",
                resource="nodes",
                subresource=attributes.subresource,
                name=attributes.name,
            ),
        )
        # Users' names and groups may be long, and many: only a hash of the question is kept.
        key = hashlib.sha256(msgspec.json.encode(spec)).digest()
        try:
            async with asyncio.timeout(self._timeout):
                return await self._cache.get(key, lambda: self._review(spec))
        except (ApiError, ApiConnectionError, TimeoutError) as error:
            raise AuthorizationError(f"the access review failed: {text_of(error)}") from error

    async def _review(self, spec: SubjectAccessReviewSpec) -> tuple[bool, float]:
        answer = await submit(
            self._client,
            SUBJECT_ACCESS_REVIEWS,
            SubjectAccessReview(spec=spec),
            timeout=self._timeout,
            retries=self._retries,
        )
        status = answer.status
        if status is None:
            raise AuthorizationError("the API server answered an access review without a status")
        allowed = status.allowed and not status.denied
        if not allowed and not status.denied and status.evaluation_error:
            # No opinion because something failed: asked again next time.
            return False, 0.0
        return allowed, self._allow_seconds if allowed else self._deny_seconds

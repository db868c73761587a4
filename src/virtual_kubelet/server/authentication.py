"""Who is calling: client certificates that TLS has verified, and bearer tokens by TokenReview.

As the kubelet's: a certificate names its user by CN and groups by O; a token is asked about at the API server and the
answer kept for two minutes. There is no anonymous user.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Protocol

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.errors import ApiConnectionError, ApiError, text_of
from virtual_kubelet.kube.resources import TOKEN_REVIEWS
from virtual_kubelet.objects.authentication_v1 import TokenReview, TokenReviewSpec
from virtual_kubelet.server.http_messages import Request
from virtual_kubelet.server.reviews import DEFAULT_RETRIES, ReviewCache, ReviewClient, submit
from virtual_kubelet.telemetry.logs import get_logger

__all__ = [
    "AUTHENTICATED_GROUP",
    "Authenticator",
    "CertificateAuthenticator",
    "FirstOf",
    "TokenAuthenticator",
    "User",
    "bearer_token",
]

log = get_logger(__name__)

AUTHENTICATED_GROUP: Final = "system:authenticated"


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated caller, as an access review describes one."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))


class Authenticator(Protocol):
    """Tells who sent a request."""

    async def authenticate(self, request: Request) -> User | None:
        """The caller, or None if this cannot tell. Never raises for what a client or the API server did."""
        ...


class CertificateAuthenticator:
    """The verified client certificate: CN is the user, O the groups.

    TLS has checked the chain at the handshake; the end of validity is checked again, since connections live long.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()

    async def authenticate(self, request: Request) -> User | None:
        peer = request.peer_certificate
        if peer is None or not peer.common_name or self._clock.now().timestamp() > peer.not_after:
            return None
        return User(peer.common_name, groups=_with_authenticated(peer.organizations))


class TokenAuthenticator:
    """Bearer tokens, by TokenReview at the API server. Tokens are neither kept in clear nor logged."""

    def __init__(
        self,
        client: ReviewClient,
        *,
        cache_seconds: float = 120.0,
        cache_size: int = 4096,
        timeout: float = 10.0,
        max_token_bytes: int = 16 * 1024,
        retries: Sequence[float] = DEFAULT_RETRIES,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            client: asks the API server; needs the right to create TokenReviews, which nodes have.
            cache_seconds: how long an answer is good, yes and no alike (the kubelet's ``webhook.cacheTTL``); 0: not.
            cache_size: number of answers kept.
            timeout: for one question with all its attempts, and for its turn; seconds.
            max_token_bytes: a longer token is refused unasked.
            retries: waits between attempts, see ``submit``.
            clock: ages the answers.
        """
        self._client = client
        self._cache_seconds = cache_seconds
        self._timeout = timeout
        self._max_token_bytes = max_token_bytes
        self._retries = tuple(retries)
        self._cache: ReviewCache[User | None] = ReviewCache(cache_size, clock or SystemClock())
        self._key = secrets.token_bytes(32)

    async def authenticate(self, request: Request) -> User | None:
        token = bearer_token(request)
        if not token or len(token) > self._max_token_bytes:
            return None
        key = hashlib.blake2b(token.encode(), key=self._key, digest_size=32).digest()
        try:
            # Also for those who wait for their turn: while the API server hangs, callers must not pile up.
            async with asyncio.timeout(self._timeout):
                return await self._cache.get(key, lambda: self._review(token))
        except (ApiError, ApiConnectionError, TimeoutError) as error:
            why = text_of(error).replace(token, "[token]")
            log.warning("cannot authenticate a caller: the token review failed: %s", why)
            return None

    async def _review(self, token: str) -> tuple[User | None, float]:
        review = TokenReview(spec=TokenReviewSpec(token=token))
        answer = await submit(self._client, TOKEN_REVIEWS, review, timeout=self._timeout, retries=self._retries)
        status, user = answer.status, answer.status.user
        if not status.authenticated or user is None or not user.username:
            if status.error:
                log.debug("a token was refused: %s", status.error.replace(token, "[token]"))
            return None, self._cache_seconds
        groups = _with_authenticated(user.groups or ())
        return User(user.username, user.uid or "", groups, user.extra or {}), self._cache_seconds


class FirstOf:
    """Asks one authenticator after the other; the first that knows the caller counts."""

    def __init__(self, *authenticators: Authenticator) -> None:
        self._authenticators = authenticators

    async def authenticate(self, request: Request) -> User | None:
        for authenticator in self._authenticators:
            user = await authenticator.authenticate(request)
            if user is not None:
                return user
        return None


def bearer_token(request: Request) -> str:
    """The token of the ``Authorization`` header, or empty: the second word, if the first is ``bearer`` in any case."""
    words = request.headers.get("authorization").strip().split(" ")
    return words[1] if len(words) > 1 and words[0].lower() == "bearer" else ""


def _with_authenticated(groups: Sequence[str]) -> tuple[str, ...]:
    return tuple(groups) if AUTHENTICATED_GROUP in groups else (*groups, AUTHENTICATED_GROUP)

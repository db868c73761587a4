"""Tokens of the service accounts of a node's pods: TokenRequest, kept and renewed as by a kubelet
(pkg/kubelet/token/token_manager.go).

A token is bound to its pod: it dies with it, and the API server gives a node tokens only for pods that run there (the
NodeRestriction plugin).
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from typing import Final, NamedTuple

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.errors import ApiConnectionError, ApiError
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import TOKEN_REQUESTS
from virtual_kubelet.objects.authentication_v1 import BoundObjectReference, TokenRequest, TokenRequestSpec
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.objects.service_account_token import RENEWAL_JITTER, ServiceAccountToken, renewal_time
from virtual_kubelet.objects.times import parse_time
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["ServiceAccountTokens"]

log = get_logger(__name__)

#: Seconds after which a token that could not be renewed is asked for again, while the old one is still good.
_RETRY: Final = 30.0


class _Key(NamedTuple):
    uid: str
    namespace: str
    account: str
    audience: str
    seconds: int


class ServiceAccountTokens:
    """A ``contracts.context.TokenReader``; what the methods mean stands there."""

    def __init__(self, client: ApiClient, *, clock: Clock | None = None) -> None:
        self._client = client
        self._clock = clock or SystemClock()
        self._known: dict[_Key, ServiceAccountToken] = {}
        self._locks: dict[_Key, asyncio.Lock] = {}

    async def get(self, pod: Pod, audience: str = "", expiration_seconds: int = 3600) -> ServiceAccountToken:
        """Raises ``ApiError``, ``ApiConnectionError``."""
        meta = pod.metadata
        account = pod.spec.service_account_name or pod.spec.service_account or "default"
        key = _Key(meta.uid or "", meta.namespace or "", account, audience, expiration_seconds)
        async with self._locks.setdefault(key, asyncio.Lock()):
            known = self._known.get(key)
            if known is not None and self._clock.now() < known.renew:
                return known
            try:
                token = await self._request(pod, key)
            except (ApiError, ApiConnectionError) as error:
                now = self._clock.now()
                if known is None or now >= known.expires:
                    raise
                log.warning("the token of service account %s/%s could not be renewed: %s", *key[1:3], error)
                token = replace(known, renew=now + timedelta(seconds=_RETRY))
            if key in self._locks:  # not forgotten meanwhile
                self._known[key] = token
            return token

    def forget(self, uid: str) -> None:
        """A pod is gone."""
        for key in [key for key in self._locks if key.uid == uid]:
            del self._locks[key]
            self._known.pop(key, None)

    async def _request(self, pod: Pod, key: _Key) -> ServiceAccountToken:
        bound = BoundObjectReference(api_version="v1", kind="Pod", name=pod.metadata.name, uid=key.uid)
        spec = TokenRequestSpec(
            audiences=[key.audience] if key.audience else [], expiration_seconds=key.seconds, bound_object_ref=bound
        )
        answer = await self._client.create(
            TOKEN_REQUESTS, TokenRequest(spec=spec), key.namespace, name=key.account, subresource="token"
        )
        if not answer.status.token or not answer.status.expiration_timestamp:
            raise ApiConnectionError("the API server answered a TokenRequest without a token")
        expires = parse_time(answer.status.expiration_timestamp)
        lifetime = answer.spec.expiration_seconds or key.seconds  # the server may give another time than was asked for
        renew = renewal_time(expires, lifetime, random.uniform(0, RENEWAL_JITTER))
        return ServiceAccountToken(answer.status.token, expires, renew)

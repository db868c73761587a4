"""Who a request comes from: the owner of the client certificate, else of the token, else nobody."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from virtual_kubelet.devcluster.bootstrap_tokens import BootstrapTokens
from virtual_kubelet.devcluster.statuses import StatusError, bad_request, forbidden, unauthorized
from virtual_kubelet.devcluster.tokens import ServiceAccountTokens
from virtual_kubelet.devcluster.users import AUTHENTICATED, CREDENTIAL_ID, MASTERS, SERVICE_ACCOUNT_PREFIX, User
from virtual_kubelet.server.connection import PeerIdentity, Request

__all__ = ["Authenticator"]

_BEARER: Final = "bearer "
_IMPERSONATE: Final = ("impersonate-user", "impersonate-group", "impersonate-uid")
_EXTRA: Final = "impersonate-extra-"


@lru_cache(maxsize=4096)
def _certificate_user(common_name: str, organizations: tuple[str, ...], sha256: str) -> User:
    extra = {CREDENTIAL_ID: [f"X509SHA256={sha256}"]}
    return User(common_name, (*organizations, AUTHENTICATED), extra=extra)


class Authenticator:
    """Names the caller of each request."""

    def __init__(self, tokens: ServiceAccountTokens, bootstrap_tokens: BootstrapTokens) -> None:
        self._tokens = tokens
        self._bootstrap_tokens = bootstrap_tokens

    def authenticate(self, request: Request) -> User | None:
        """The caller, None if there are no credentials. Raises 401 if they are no good, 400 and 403 for impersonation."""
        user = self._caller(request)
        if user is not None and any(name in request.headers for name in _IMPERSONATE):
            return self._impersonated(user, request)
        return user

    def _caller(self, request: Request) -> User | None:
        peer = request.peer_certificate
        if peer is not None and (user := self._from_certificate(peer)) is not None:
            return user
        header = request.headers.get("authorization")
        if header[:7].lower() == _BEARER and (user := self._from_token(header[7:].strip())) is not None:
            return user
        if peer is not None or header:
            raise unauthorized()
        return None

    def _from_token(self, token: str) -> User | None:
        found = self._tokens.authenticate(token)
        return found[0] if found is not None else self._bootstrap_tokens.authenticate(token)

    @staticmethod
    def _from_certificate(peer: PeerIdentity) -> User | None:
        # Expired certificates pass the handshake, so that they are answered 401, not a broken connection.
        if not peer.common_name or time.time() >= peer.not_after:
            return None
        return _certificate_user(peer.common_name, peer.organizations, peer.sha256)

    @staticmethod
    def _impersonated(user: User, request: Request) -> User:
        """As ``WithImpersonation`` of apiserver's filters."""
        headers = request.headers
        name, uid = headers.get("impersonate-user"), headers.get("impersonate-uid")
        groups = tuple(headers.get_all("impersonate-group"))
        if not name:
            asked = [f"{{Group  {group}    }}" for group in groups]
            asked += [f"{{UID  {uid}  authentication.k8s.io/v1  }}"] if uid else []
            raise bad_request(f"requested [{' '.join(asked)}] without impersonating a user")
        if MASTERS not in user.groups:
            raise _no_impersonation(user, name)
        if not groups and name.startswith(SERVICE_ACCOUNT_PREFIX):
            namespace = name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")[0]
            groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
        extra: dict[str, list[str]] = {}
        for header, value in headers.items():
            if header.startswith(_EXTRA):
                extra.setdefault(unquote(header.removeprefix(_EXTRA)), []).append(value)
        if AUTHENTICATED not in groups:
            groups = (*groups, AUTHENTICATED)
        return User(name, groups, uid, extra)


def _no_impersonation(user: User, name: str) -> StatusError:
    return forbidden(
        "users", name, f'User "{user.name}" cannot impersonate resource "users" in API group "" at the cluster scope'
    )

"""Bootstrap tokens: Secrets of ``kube-system`` with which a new node may ask for its certificate.

Kubernetes source: ``plugin/pkg/auth/authenticator/token/bootstrap`` of 1.36.
"""

from __future__ import annotations

import base64
import hmac
import re
from typing import Final

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.users import AUTHENTICATED, BOOTSTRAPPERS, User
from virtual_kubelet.objects.times import parse_time

__all__ = ["BootstrapTokens"]

_TOKEN: Final = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
_TYPE: Final = "bootstrap.kubernetes.io/token"
_EXTRA_GROUP: Final = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


class BootstrapTokens:
    """Looks tokens up in the Secrets as they are just now."""

    def __init__(self, state: ClusterState) -> None:
        self._state = state

    def authenticate(self, token: str) -> User | None:
        """Whose token it is; None if it is no bootstrap token, or not good (any more)."""
        found = _TOKEN.fullmatch(token)
        if found is None:
            return None
        stored = self._state.secrets.objects.get("kube-system", f"bootstrap-token-{found[1]}")
        if stored is None:
            return None
        secret = stored.decode()
        if secret.get("type") != _TYPE or "deletionTimestamp" in secret["metadata"]:
            return None
        data = {
            key: base64.b64decode(value).decode(errors="replace") for key, value in (secret.get("data") or {}).items()
        }
        if data.get("token-id") != found[1] or not hmac.compare_digest(data.get("token-secret", ""), found[2]):
            return None
        if data.get("usage-bootstrap-authentication") != "true" or self._expired(data.get("expiration", "")):
            return None
        extra = [group for group in data.get("auth-extra-groups", "").split(",") if group]
        if not all(_EXTRA_GROUP.fullmatch(group) for group in extra):
            return None
        return User(f"system:bootstrap:{found[1]}", (*sorted({BOOTSTRAPPERS, *extra}), AUTHENTICATED))

    def _expired(self, moment: str) -> bool:
        if not moment:
            return False
        try:
            return parse_time(moment) <= self._state.clock.now()
        except ValueError:
            return True

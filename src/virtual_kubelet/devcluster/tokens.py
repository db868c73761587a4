"""Service account tokens: JSON web tokens signed with a key of the cluster's own (ES256)."""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.users import AUTHENTICATED, CREDENTIAL_ID, SERVICE_ACCOUNT_PREFIX, User

__all__ = ["AUDIENCE", "ServiceAccountTokens"]

#: Whom a token is for unless it says otherwise: the API server. Also who issues it.
AUDIENCE: Final = "https://kubernetes.default.svc"
_KUBERNETES: Final = "kubernetes.io"
_EXTRA: Final = "authentication.kubernetes.io/"
#: Verified signatures that are remembered; checking one costs a tenth of a millisecond.
_REMEMBERED: Final = 1024


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _unb64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


class ServiceAccountTokens:
    """Issues tokens and says whose they are; a token dies with its account and with the object it is bound to."""

    def __init__(self, state: ClusterState, key: ec.EllipticCurvePrivateKey) -> None:
        """``key``: signs; tokens of another one are no good."""
        self._state = state
        self._key = key
        self._public = self._key.public_key()
        self._verified: dict[str, dict[str, Any]] = {}

    def issue(
        self,
        namespace: str,
        name: str,
        uid: str,
        *,
        audiences: Sequence[str],
        seconds: int,
        bound: dict[str, dict[str, str]] | None = None,
    ) -> tuple[str, datetime]:
        """A token and when it expires. ``bound``: ``{"pod": {"name": …, "uid": …}}`` and the like."""
        now = self._state.clock.now()
        expires = now + timedelta(seconds=seconds)
        claims = {
            "aud": list(audiences),
            "exp": int(expires.timestamp()),
            "iat": int(now.timestamp()),
            "iss": AUDIENCE,
            "jti": str(uuid.uuid4()),
            _KUBERNETES: {"namespace": namespace, "serviceaccount": {"name": name, "uid": uid}, **(bound or {})},
            "nbf": int(now.timestamp()),
            "sub": f"{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}",
        }
        signed = _b64(b'{"alg":"ES256","typ":"JWT"}') + b"." + _b64(msgspec.json.encode(claims))
        r, s = decode_dss_signature(self._key.sign(signed, ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return (signed + b"." + _b64(signature)).decode(), expires

    def authenticate(self, token: str, audiences: Sequence[str] = (AUDIENCE,)) -> tuple[User, list[str]] | None:
        """Whose token it is, and for which of ``audiences`` it is good; None if it is no good."""
        claims = self._claims(token)
        if claims is None or not claims["nbf"] <= self._state.clock.now().timestamp() < claims["exp"]:
            return None
        good = [audience for audience in audiences if audience in claims["aud"]]
        if not good:
            return None
        about = claims[_KUBERNETES]
        namespace, account = about["namespace"], about["serviceaccount"]
        stored = self._state.service_accounts.objects.get(namespace, account["name"])
        if stored is None or stored.uid != account["uid"]:
            return None
        extra = {CREDENTIAL_ID: [f"JTI={claims['jti']}"]}
        for kind, registry in (("pod", self._state.pods), ("secret", self._state.secrets), ("node", self._state.nodes)):
            if kind in about:
                where = "" if kind == "node" else namespace
                target = registry.objects.get(where, about[kind]["name"])
                if kind != "node" and (target is None or target.uid != about[kind]["uid"]):
                    return None
                if kind != "secret":
                    extra[f"{_EXTRA}{kind}-name"] = [about[kind]["name"]]
                    extra[f"{_EXTRA}{kind}-uid"] = [about[kind]["uid"]]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
        return User(claims["sub"], groups, stored.uid, extra), good

    def _claims(self, token: str) -> dict[str, Any] | None:
        """What a token that we signed says."""
        known = self._verified.get(token)
        if known is not None:
            return known
        parts = token.split(".")
        if len(parts) != 3 or len(token) > 16_384 or not token.isascii():
            return None
        try:
            signature = _unb64(parts[2])
            if len(signature) != 64:
                return None
            encoded = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
            self._public.verify(encoded, f"{parts[0]}.{parts[1]}".encode(), ec.ECDSA(hashes.SHA256()))
            claims: dict[str, Any] = msgspec.json.decode(_unb64(parts[1]))
        except (binascii.Error, ValueError, InvalidSignature, msgspec.DecodeError):
            return None
        if len(self._verified) >= _REMEMBERED:
            self._verified.clear()
        self._verified[token] = claims
        return claims

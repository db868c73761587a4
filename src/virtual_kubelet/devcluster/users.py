"""Who asks, and what is asked for: the values that authentication makes and authorization reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

__all__ = [
    "AUTHENTICATED",
    "BOOTSTRAPPERS",
    "CREDENTIAL_ID",
    "MASTERS",
    "NODES",
    "NODE_PREFIX",
    "SERVICE_ACCOUNT_PREFIX",
    "Attributes",
    "Decision",
    "User",
]

MASTERS: Final = "system:masters"
NODES: Final = "system:nodes"
BOOTSTRAPPERS: Final = "system:bootstrappers"
AUTHENTICATED: Final = "system:authenticated"
SERVICE_ACCOUNT_PREFIX: Final = "system:serviceaccount:"
#: Key in a user's ``extra``: which token or certificate it was.
CREDENTIAL_ID: Final = "authentication.kubernetes.io/credential-id"
NODE_PREFIX: Final = "system:node:"


@dataclass(frozen=True, slots=True)
class User:
    """An authenticated caller."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, list[str]] = field(default_factory=dict, hash=False)

    @property
    def node(self) -> str:
        """The node this is the identity of; empty if it is none."""
        if NODES in self.groups and self.name.startswith(NODE_PREFIX):
            return self.name.removeprefix(NODE_PREFIX)
        return ""

    @property
    def service_account(self) -> tuple[str, str]:
        """Namespace and name, or two empty strings."""
        if not self.name.startswith(SERVICE_ACCOUNT_PREFIX):
            return ("", "")
        namespace, _, name = self.name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
        return (namespace, name)

    def to_object(self) -> dict[str, Any]:
        """``authentication.k8s.io/v1`` UserInfo."""
        info: dict[str, Any] = {"username": self.name}
        if self.uid:
            info["uid"] = self.uid
        if self.groups:
            info["groups"] = list(self.groups)
        if self.extra:
            info["extra"] = dict(self.extra)
        return info


class Attributes(NamedTuple):
    """What is to be allowed or not.

    ``path`` is set for what is no resource, and then nothing else but the verb; ``node_selector`` is the value that a
    list or watch of pods demands of ``spec.nodeName``.
    """

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    node_selector: str = ""


class Decision(NamedTuple):
    """``reason`` says why not; it may be empty."""

    allowed: bool
    reason: str = ""

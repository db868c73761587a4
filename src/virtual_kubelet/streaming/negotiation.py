"""Which version of a streaming protocol is spoken: ``X-Stream-Protocol-Version``, in the kubelet's words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

__all__ = [
    "ACCEPTED_HEADER",
    "PORT_FORWARD_PROTOCOL",
    "REMOTE_COMMAND_PROTOCOLS",
    "TUNNEL_PREFIX",
    "VERSION_HEADER",
    "choose_version",
    "is_spdy_request",
    "refused_version",
]

VERSION_HEADER: Final = "X-Stream-Protocol-Version"
ACCEPTED_HEADER: Final = "X-Accepted-Stream-Protocol-Versions"
_SPDY: Final = "spdy/3.1"

#: What the kubelet serves over SPDY, best first. Version 5 differs from 4 only in WebSockets, which half-close by it.
REMOTE_COMMAND_PROTOCOLS: Final = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
PORT_FORWARD_PROTOCOL: Final = "portforward.k8s.io"
#: Before the name of the protocol that is spoken over SPDY in a WebSocket.
TUNNEL_PREFIX: Final = "SPDY/3.1+"


def is_spdy_request(connection: Iterable[str], upgrade: Iterable[str]) -> bool:
    """Whether ``Connection`` and ``Upgrade`` ask for SPDY/3.1, read as Go's httpstream does: anywhere, in any case."""
    return any("upgrade" in value.lower() for value in connection) and any(_SPDY in value.lower() for value in upgrade)


def choose_version(offered: Sequence[str], served: Sequence[str]) -> str | None:
    """The first of the client's versions that is served; None if there is none.

    Each header may hold several, separated by commas.
    """
    for value in offered:
        for version in value.split(","):
            if version.strip() in served:
                return version.strip()
    return None


def refused_version(offered: Sequence[str], served: Sequence[str]) -> str:
    """Why no version could be chosen (403)."""
    return (
        f"unable to upgrade: unable to negotiate protocol: client supports [{' '.join(offered)}], "
        f"server accepts [{' '.join(served)}]\n"
    )

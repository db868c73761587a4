"""Before a node starts: is the API server there, does it know us, may we do what a node must, and how does it reach us?"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from virtual_kubelet.errors import (
    ApiConnectionError,
    ApiError,
    ForbiddenError,
    ServerError,
    TooManyRequestsError,
    UnauthorizedError,
)
from virtual_kubelet.kube.backoff import Backoff
from virtual_kubelet.kube.client import ApiClient, ServerVersion
from virtual_kubelet.kube.resources import PODS
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["OLDEST", "address_towards", "explain_refusal", "kubelet_version", "meet_api_server"]

log = get_logger(__name__)

#: Minor versions of Kubernetes 1 that this package is tested with.
OLDEST: Final = 20
#: A node says it is of this version unless the API server is older: a kubelet must not be newer than its server.
_NEWEST: Final = 36
#: Seconds for one try to reach the server.
_TIMEOUT: Final = 10.0


async def meet_api_server(client: ApiClient, node_name: str, *, deadline: float | None) -> ServerVersion:
    """The server's version, once it has been reached and allows what every node must do.

    Args:
        deadline: try again until then (loop time) while the server cannot be reached or is overloaded; None: do not.

    Raises:
        ApiConnectionError: it cannot be reached.
        UnauthorizedError, ForbiddenError: who we are is not enough; a note says what is missing.
    """
    loop = asyncio.get_running_loop()
    backoff = Backoff(initial=0.5, cap=10.0)
    while True:
        try:
            limit = _TIMEOUT if deadline is None else min(_TIMEOUT, max(0.1, deadline - loop.time() - 0.1))
            version = await _version(client, limit)
            await _check_rights(client, node_name)
        except (ApiConnectionError, ServerError, TooManyRequestsError) as error:
            delay = backoff.next()
            if deadline is None or loop.time() + delay > deadline:
                raise
            log.warning("%s; trying again in %.1f s", error, delay)
            await asyncio.sleep(delay)
            continue
        if version.major == 1 and version.minor < OLDEST:
            log.warning("Kubernetes %s is older than 1.%d, the oldest that is tested", version.git_version, OLDEST)
        return version


async def _version(client: ApiClient, limit: float) -> ServerVersion:
    try:
        async with asyncio.timeout(limit):
            return await client.server_version()
    except ForbiddenError:  # some servers tell it to nobody
        return ServerVersion(0, 0, "unknown")
    except TimeoutError:
        raise ApiConnectionError(f"the API server at {client.config.server} did not answer in {limit:.3g} s") from None


async def _check_rights(client: ApiClient, node_name: str) -> None:
    try:
        await client.list(PODS, field_selector=f"spec.nodeName={node_name}", limit=1, timeout=_TIMEOUT)
    except ForbiddenError as error:
        error.add_note(rights_hint(node_name))
        raise
    except UnauthorizedError as error:
        error.add_note(
            f"the credentials come from {client.config.source or 'the program'}: have they expired, "
            "and are they of this cluster?"
        )
        raise


def rights_hint(node_name: str) -> str:
    """What to do when the API server forbids what a node must do."""
    return (
        f"node {node_name!r} needs a kubelet's rights: use the credentials of system:node:{node_name} "
        "in the group system:nodes, or of a user who may do all that (see SECURITY.md)"
    )


def kubelet_version(server: ServerVersion, own_version: str) -> str:
    """The version the Node shows, in upstream's form ``v1.36.0-vk-0.1.0``."""
    minor = min(server.minor, _NEWEST) if server.major == 1 and server.minor else _NEWEST
    return f"v1.{minor}.0-vk-{own_version}"


async def address_towards(server: str) -> Sequence[str]:
    """This machine's address on the way to the API server (no packet is sent); empty if there is no way."""
    parts = urlsplit(server)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_DGRAM)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setblocking(False)
                probe.connect(address)  # a datagram socket: nothing is sent, and nothing is waited for
                return [probe.getsockname()[0]]
    except OSError as error:
        log.warning("cannot tell this machine's address towards %s: %s", server, error.strerror or error)
    return []


def explain_refusal(error: ApiError, node_name: str) -> None:
    """Put what to do on an error that ended a node at its registration, once."""
    if isinstance(error, ForbiddenError) and not getattr(error, "__notes__", None):
        error.add_note(rights_hint(node_name))

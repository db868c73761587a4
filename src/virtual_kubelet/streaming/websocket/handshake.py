"""The WebSocket handshake (RFC 6455, section 4): what is asked, and what is answered. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from virtual_kubelet.errors import ProtocolError

__all__ = [
    "accept_key",
    "choose_protocol",
    "header_tokens",
    "is_websocket_request",
    "request_headers",
    "server_headers",
]

_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION: Final = "13"


def header_tokens(values: Iterable[str]) -> list[str]:
    """The comma-separated tokens of a header that may come several times."""
    return [token for value in values for part in value.split(",") if (token := part.strip())]


def is_websocket_request(connection: Iterable[str], upgrade: Iterable[str]) -> bool:
    """Whether a request with these ``Connection`` and ``Upgrade`` headers asks for a WebSocket."""
    return any(token.lower() == "upgrade" for token in header_tokens(connection)) and any(
        token.lower() == "websocket" for token in header_tokens(upgrade)
    )


def accept_key(key: str) -> str:
    """``Sec-WebSocket-Accept`` for a ``Sec-WebSocket-Key``."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode("latin-1"), usedforsecurity=False).digest()).decode()


def choose_protocol(offered: Sequence[str], served: Iterable[str]) -> str:
    """The first sub-protocol of the client that is served, as Kubernetes chooses; empty if it offered none.

    Raises ``ProtocolError`` (403, as golang.org/x/net/websocket answers a failed handshake).
    """
    served = list(served)
    for protocol in offered:
        if protocol in served:
            return protocol
    if offered:
        raise ProtocolError(f"none of the sub-protocols {list(offered)} is served", status=403)
    return ""


def server_headers(method: str, key: str, version: str, protocol: str) -> list[tuple[str, str]]:
    """The headers of the 101 that accepts a request; ``protocol`` is the chosen one, or empty.

    Raises ``ProtocolError``: 405 for another method than GET, 400 for a bad key or another version.
    """
    if method != "GET":
        raise ProtocolError("a WebSocket begins with GET", status=405)
    if version != _VERSION:
        raise ProtocolError(f"only WebSocket version {_VERSION} is spoken here")
    try:
        nonce = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        nonce = b""
    if len(nonce) != 16:
        raise ProtocolError("Sec-WebSocket-Key is not 16 bytes in base64")
    headers = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept_key(key))]
    return [*headers, ("Sec-WebSocket-Protocol", protocol)] if protocol else headers


def request_headers(key: str, protocols: Sequence[str]) -> list[tuple[str, str]]:
    """What a client asks with; ``key`` is 16 random bytes in base64."""
    headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", key),
        ("Sec-WebSocket-Version", _VERSION),
    ]
    return [*headers, ("Sec-WebSocket-Protocol", ", ".join(protocols))] if protocols else headers

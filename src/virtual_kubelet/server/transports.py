"""Cuts connections, whatever state their transport is in."""

from __future__ import annotations

import asyncio

__all__ = ["abort"]


def abort(transport: asyncio.WriteTransport) -> None:
    """Close it at once, without what is still to be sent; nothing if it is closed already.

    In CPython 3.11.2, which Debian 12 has, a TLS transport that was closed twice has no protocol any more, and its own
    ``abort`` raises ``AttributeError``.
    """
    if getattr(transport, "_ssl_protocol", transport) is not None:
        transport.abort()

"""What proves who we are: nothing, a token, a token file that rotates, a password, an exec plugin.

A credential gives the ``Authorization`` header for the next request; client certificates are in the TLS context.
"""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Protocol

from virtual_kubelet.errors import KubeconfigError

__all__ = ["Anonymous", "BasicAuth", "Credentials", "StaticToken", "TokenFile"]


class Credentials(Protocol):
    """Gives the header for a request."""

    async def authorization(self) -> str | None:
        """The ``Authorization`` header, or None for none. Raises ``KubeconfigError`` if it cannot be had."""
        ...

    def reject(self) -> None:
        """The server answered 401 to the last one: get a new one next time."""
        ...


class Anonymous:
    """Nothing but, perhaps, a client certificate."""

    async def authorization(self) -> str | None:
        return None

    def reject(self) -> None:
        """There is nothing to renew."""


class StaticToken:
    """A bearer token that never changes."""

    def __init__(self, token: str) -> None:
        self._header = f"Bearer {token}"

    async def authorization(self) -> str | None:
        return self._header

    def reject(self) -> None:
        """There is nothing to renew."""


class BasicAuth:
    """User name and password."""

    def __init__(self, username: str, password: str) -> None:
        self._header = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    async def authorization(self) -> str | None:
        return self._header

    def reject(self) -> None:
        """There is nothing to renew."""


class TokenFile:
    """A bearer token in a file that somebody rotates: read again each minute, as client-go does, and after a 401."""

    def __init__(self, path: Path, *, period: float = 60.0) -> None:
        self.path = path
        self._period = period
        self._header: str | None = None
        self._read_at = 0.0

    async def authorization(self) -> str | None:
        now = time.monotonic()
        if self._header is None or now - self._read_at >= self._period:
            try:
                text = (await asyncio.to_thread(self.path.read_text)).strip()
            except OSError as error:
                if self._header is None:
                    raise KubeconfigError(f"cannot read the token file {self.path}: {error.strerror}") from error
                text = ""  # between removal and replacement of a rotating file: the last token may still be good
            if text:
                self._header = f"Bearer {text}"
            elif self._header is None:
                raise KubeconfigError(f"the token file {self.path} is empty")
            self._read_at = now
        return self._header

    def reject(self) -> None:
        self._read_at = float("-inf")

"""What proves who we are: nothing, a token, a token file that rotates, a password, an exec plugin.

A credential gives the ``Authorization`` header for the next request; ``client_certificate`` is what TLS shows.
"""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Protocol

from virtual_kubelet.errors import CredentialsError, KubeconfigError

__all__ = ["Anonymous", "BasicAuth", "Credentials", "StaticToken", "TokenFile", "bearer"]


class Credentials(Protocol):
    """Gives the header for a request."""

    async def authorization(self) -> str | None:
        """The ``Authorization`` header, or None for none. Raises ``CredentialsError`` if it cannot be had."""
        ...

    def reject(self, used: str | None) -> None:
        """The server answered 401 to this header: get a new one next time, unless there is one already."""
        ...


def bearer(token: str) -> str | None:
    """The header for this token, or None if it could not be sent as one."""
    return f"Bearer {token}" if token and token.isascii() and token.isprintable() and " " not in token else None


class Anonymous:
    """Nothing but, perhaps, a client certificate."""

    async def authorization(self) -> str | None:
        return None

    def reject(self, used: str | None) -> None:
        """There is nothing to renew."""


class StaticToken:
    """A bearer token that never changes. Raises ``KubeconfigError`` if it cannot be one."""

    def __init__(self, token: str) -> None:
        header = bearer(token)
        if header is None:
            raise KubeconfigError("the token holds characters that no token has, such as a line break")
        self._header = header

    async def authorization(self) -> str | None:
        return self._header

    def reject(self, used: str | None) -> None:
        """There is nothing to renew."""


class BasicAuth:
    """User name and password."""

    def __init__(self, username: str, password: str) -> None:
        self._header = "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()

    async def authorization(self) -> str | None:
        return self._header

    def reject(self, used: str | None) -> None:
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
            problem = ""
            try:
                header = bearer((await asyncio.to_thread(self.path.read_text, "ascii")).strip())
            except OSError as error:
                header, problem = None, f"cannot read the token file {self.path}: {error.strerror}"
            except UnicodeDecodeError:  # whose text quotes the file
                header = None
            if header is not None:
                self._header = header
            elif self._header is None:
                raise CredentialsError(problem or f"the token file {self.path} holds no token")
            # else: between removal and replacement of a rotating file the last token may still be good
            self._read_at = now
        return self._header

    def reject(self, used: str | None) -> None:
        if used == self._header:
            self._read_at = float("-inf")

"""Whom to trust as the API server: the cluster's certificate authority, in a file that is read again as it is replaced."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import NamedTuple

from virtual_kubelet.errors import KubeconfigError
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["Authority", "AuthorityFile", "trusting"]

log = get_logger(__name__)


def trusting(ca: bytes | None, *, insecure: bool = False, source: str) -> ssl.SSLContext:
    """A context for connections to a server of this CA (PEM; None: of the system's). Raises ``KubeconfigError``."""
    if ca is not None and not ca.strip():  # nothing would be taken for "the system's authorities"
        raise KubeconfigError(f"the certificate-authority of {source} is empty")
    try:
        context = ssl.create_default_context(cadata=None if ca is None else ca.decode())
    except (ssl.SSLError, UnicodeDecodeError, ValueError):
        raise KubeconfigError(f"the certificate-authority of {source} is not a PEM certificate") from None
    # Python 3.13 refuses CAs that Go accepts, such as those without keyUsage.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Authority(NamedTuple):
    pem: bytes
    context: ssl.SSLContext


class AuthorityFile:
    """A CA's file: a rotated CA is trusted without a restart, and the one it replaced no longer.

    Args:
        pem: what was in it at first.
        source: for error messages.
        period: seconds after which it is read again; after ``reject`` at once.
    """

    def __init__(self, path: Path, pem: bytes, *, source: str, period: float = 60.0) -> None:
        self._path = path
        self._pem = pem
        self._source = source
        self._period = period
        self._read_at = time.monotonic()
        self._trouble_said = False

    @property
    def due(self) -> bool:
        """Whether it is time for ``refresh``."""
        return time.monotonic() - self._read_at >= self._period

    def reject(self) -> None:
        """A server's certificate was not of this CA: it may be another one by now."""
        self._read_at = float("-inf")

    async def refresh(self) -> Authority | None:
        """What is in the file, if that has changed. While it cannot be read, what was in it counts."""
        self._read_at = time.monotonic()
        try:
            found = await asyncio.to_thread(self._read)
        except (OSError, KubeconfigError) as error:
            if not self._trouble_said:
                self._trouble_said = True
                said = error.strerror if isinstance(error, OSError) else error
                log.warning("cannot renew the cluster's CA from %s: %s", self._path, said)
            return None
        self._trouble_said = False
        if found is not None:
            self._pem = found.pem
        return found

    def _read(self) -> Authority | None:
        pem = self._path.read_bytes()
        return None if pem == self._pem else Authority(pem, trusting(pem, source=self._source))

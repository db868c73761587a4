"""The client certificate that connections show: held in the TLS context, read again from its files, known to expire."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

from virtual_kubelet.errors import KubeconfigError
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["RENEWAL_HINT", "CertificateFiles", "ClientCertificate", "split_pem"]

log = get_logger(__name__)

_CERTIFICATES: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEYS: Final = re.compile(
    rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----.*?-----END (?:[A-Z]+ )*PRIVATE KEY-----", re.DOTALL
)

#: What to do about a client certificate that has expired.
RENEWAL_HINT: Final = "get a new kubeconfig, or renew the certificate it names"


def split_pem(pem: bytes) -> tuple[bytes, bytes]:
    """The certificates and the private keys in it; empty where there are none."""
    return b"\n".join(_CERTIFICATES.findall(pem)), b"\n".join(_KEYS.findall(pem))


class CertificateFiles(NamedTuple):
    """Where a certificate and its key are read from, again and again: somebody renews them."""

    certificate: Path
    key: Path


class ClientCertificate:
    """Puts a certificate into a TLS context. Connections show it when they begin: a new one takes new connections.

    Args:
        context: of the connections.
        whose: for error messages, such as ``user 'u' of FILE``.
        files: read again each ``period`` seconds, and after ``reject``.
        period: seconds (client-go: 300; a token file is read each minute, and so is this).

    Attributes:
        changes: goes up whenever another certificate is shown.
        expires: when the one that is shown ends; None if there is none.
    """

    def __init__(
        self, context: ssl.SSLContext, whose: str, *, files: CertificateFiles | None = None, period: float = 60.0
    ) -> None:
        self._context = context
        self.whose = whose
        self._files = files
        self._period = period
        self._read_at = time.monotonic()
        self._trouble_said = False
        self._pair: tuple[bytes, bytes] | None = None
        self.changes = 0
        self.expires: datetime | None = None

    def show(self, certificate: bytes, key: bytes) -> None:
        """Show this one (both PEM) from now on; does nothing if it is the same. Raises ``KubeconfigError``."""
        certificate, key = _parts_of(certificate, key)
        if (certificate, key) != self._pair:
            self._take(certificate, key, _end_of(certificate, self.whose))

    async def renew(self, certificate: bytes, key: bytes) -> None:
        """``show``, while connections may be made: what takes long is done in a thread, what changes the context is not.

        OpenSSL does not guard a context that connections are made of against a change from another thread.
        """
        certificate, key = _parts_of(certificate, key)
        if (certificate, key) != self._pair:
            self._take(certificate, key, await asyncio.to_thread(_end_of, certificate, self.whose))

    def _take(self, certificate: bytes, key: bytes, expires: datetime) -> None:
        self._load(self._context, certificate, key)
        self._pair = (certificate, key)
        self.expires = expires
        self.changes += 1

    def move_to(self, context: ssl.SSLContext) -> None:
        """Show it in the connections of ``context``, which has none yet, from now on. Blocks."""
        if self._pair is not None:
            self._load(context, *self._pair)
        self._context = context

    def _load(self, context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
        try:
            with _file_of(certificate.rstrip() + b"\n" + key) as path:
                context.load_cert_chain(path, password=lambda: b"")
        except (ssl.SSLError, ValueError):
            raise KubeconfigError(
                f"the client certificate and key of {self.whose} do not work: are both PEM, and of one pair?"
            ) from None

    @property
    def problem(self) -> str:
        """A sentence if it has expired, else nothing."""
        if self.expires is None or datetime.now(UTC) < self.expires:
            return ""
        return f"the client certificate of {self.whose} expired on {self.expires:%Y-%m-%d %H:%M} UTC"

    @property
    def due(self) -> bool:
        """Whether it is time for ``refresh``."""
        return self._files is not None and time.monotonic() - self._read_at >= self._period

    def reject(self) -> None:
        """The server did not accept it: read the files again before the next request."""
        self.reread()

    def reread(self) -> None:
        """The files have changed: read them before the next request."""
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Read the files again. While they are being replaced, what was in them may still be good."""
        if self._files is None:
            return
        self._read_at = time.monotonic()
        try:
            await self.renew(*await asyncio.to_thread(_read, self._files))
            self._trouble_said = False
        except (OSError, KubeconfigError) as error:
            if not self._trouble_said:
                self._trouble_said = True
                said = error.strerror if isinstance(error, OSError) else error
                log.warning("cannot renew the client certificate from %s: %s", self._files.certificate, said)


def _parts_of(certificate: bytes, key: bytes) -> tuple[bytes, bytes]:
    """A file may hold both and be named twice, as a kubelet's kubeconfig does."""
    return split_pem(certificate)[0] or certificate, split_pem(key)[1] or key


def _read(files: CertificateFiles) -> tuple[bytes, bytes]:
    return files.certificate.read_bytes(), files.key.read_bytes()


@contextmanager
def _file_of(content: bytes) -> Iterator[str]:
    """``ssl`` takes files only: one in memory, so that no key is on a disk, and nothing waits for one."""
    if sys.platform == "linux":
        file = os.memfd_create("client certificate")
        try:
            os.set_blocking(file, False)
            os.write(file, content)
            yield f"/proc/self/fd/{file}"
        finally:
            os.close(file)
    else:
        with tempfile.NamedTemporaryFile(prefix="virtual-kubelet-") as named:
            named.write(content)
            named.flush()
            yield named.name


def _end_of(certificate: bytes, whose: str) -> datetime:
    from cryptography import x509  # 100 ms to import: only where there is a certificate

    try:
        return x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        raise KubeconfigError(f"the client certificate of {whose} is not a PEM certificate") from None

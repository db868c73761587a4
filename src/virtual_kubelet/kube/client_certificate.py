"""Client certificates, as PEM bytes: shown to a server, and looked at before that."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime

from virtual_kubelet.errors import KubeconfigError

__all__ = ["check_not_expired", "load_client_certificate"]


def load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes, source: str) -> None:
    """Show this certificate. Raises ``KubeconfigError``."""
    # ssl takes files only; the file is private and gone at once.
    with tempfile.NamedTemporaryFile(prefix="virtual-kubelet-") as file:
        file.write(certificate.rstrip() + b"\n" + key)
        file.flush()
        try:
            context.load_cert_chain(file.name, password=lambda: b"")
        except (ssl.SSLError, ValueError):
            raise KubeconfigError(
                f"the client certificate and key of {source} do not work: are both PEM, and of one pair?"
            ) from None


def check_not_expired(certificate: bytes, whose: str) -> None:
    """Raises ``KubeconfigError`` if it has expired, or is no certificate."""
    from cryptography import x509  # 100 ms to import: only where there is a certificate

    try:
        end = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
    except ValueError:
        raise KubeconfigError(f"the client certificate of {whose} is not a PEM certificate") from None
    if end < datetime.now(UTC):
        raise KubeconfigError(
            f"the client certificate of {whose} expired on {end:%Y-%m-%d %H:%M} UTC", hint="get a new kubeconfig"
        )

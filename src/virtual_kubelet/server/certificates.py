"""The serving certificate and the TLS set-up of the node's HTTPS API.

PEM is given as bytes or as the path of a file. Nothing here touches the event loop: call it before the loop runs, or in
a thread.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

from virtual_kubelet.errors import ConfigurationError

__all__ = ["Pem", "load_certificate", "read_pem", "self_signed", "server_context"]

#: PEM text, or the path of a file that holds it.
Pem: TypeAlias = bytes | str | os.PathLike[str]

_ONE_YEAR = timedelta(days=365)


def self_signed(
    names: Iterable[str],
    ips: Iterable[str] = (),
    *,
    common_name: str = "virtual-kubelet",
    lifetime: timedelta = _ONE_YEAR,
    now: datetime | None = None,
) -> tuple[bytes, bytes]:
    """A new EC P-256 serving certificate that signs itself, as ``(certificate, key)`` in PEM.

    It is no CA, carries all that strict verification (Python 3.13, ``VERIFY_X509_STRICT``) asks for, and is valid from
    an hour ago, so that clocks may differ. A client trusts it by taking it as its CA. Raises ``ConfigurationError``
    when an address is none, or there is neither name nor address.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in dict.fromkeys(names)]
    try:
        alternatives += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in dict.fromkeys(ips)]
    except ValueError as error:
        raise ConfigurationError(f"cannot make a serving certificate: {error}") from None
    if not alternatives:
        raise ConfigurationError("a serving certificate needs a name or an address")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])
    moment = now or datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - timedelta(hours=1))
        .not_valid_after(moment + lifetime)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=False,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def server_context(certificate: Pem, key: Pem, *, client_ca: Pem | None = None) -> ssl.SSLContext:
    """TLS 1.2 or newer, HTTP/1.1.

    Args:
        certificate: the serving certificate and its chain.
        key: its private key, not encrypted.
        client_ca: certificates that client certificates must lead to. A client may do without one (a token is as good),
            but one that is not trusted ends the handshake. None: clients are not asked for certificates.

    Raises ``ConfigurationError``, saying which of them is wrong.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # A resumed session would carry an old verification of the client along.
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    load_certificate(context, certificate, key)
    if client_ca is not None:
        try:
            context.load_verify_locations(cadata=read_pem(client_ca).decode("ascii"))
        except (ValueError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"{_named(client_ca, 'the client CA')} holds no usable certificate: {error}",
                hint="it must be one or more CA certificates in PEM",
            ) from None
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def load_certificate(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    """Give ``context`` a (new) serving certificate: handshakes from now on show it, open connections go on.

    Raises ``ConfigurationError``; the context then keeps what it had.
    """
    chain, private = read_pem(certificate), read_pem(key)
    trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for target in (trial, context):
        try:
            with _as_file(chain + b"\n" + private) as path:
                # Without a callback OpenSSL would ask for a pass phrase on the terminal.
                target.load_cert_chain(path, password=lambda: "")
        except ssl.SSLError as error:
            what = "does not belong to" if error.reason == "KEY_VALUES_MISMATCH" else "cannot be used with"
            raise ConfigurationError(
                f"{_named(certificate, 'the serving certificate')} {what} {_named(key, 'its key')}: "
                f"{error.reason or 'no PEM'}",
                hint="both must be PEM, the key unencrypted, and the certificate made for this key",
            ) from None


def read_pem(pem: Pem) -> bytes:
    """The text itself. Raises ``ConfigurationError`` if it is a file that cannot be read."""
    if isinstance(pem, bytes):
        return pem
    try:
        return Path(pem).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {os.fspath(pem)}: {error.strerror}") from error


def _named(pem: Pem, otherwise: str) -> str:
    return otherwise if isinstance(pem, bytes) else os.fspath(pem)


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """A path that OpenSSL can read ``data`` from: in memory where possible, so that no key meets a disk."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("pem")
        try:
            os.set_blocking(descriptor, False)
            os.write(descriptor, data)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name

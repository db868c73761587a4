"""The cluster's own certificate authority: EC keys, all certificates of one cluster. CPU only, no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["CertificateAuthority", "key_to_pem", "load_key", "new_key"]

_LIFETIME: Final = timedelta(days=365)
#: Of the authority's own certificate: a cluster may be kept.
_OWN_LIFETIME: Final = timedelta(days=3650)
_PURPOSES: Final = {"server auth": ExtendedKeyUsageOID.SERVER_AUTH, "client auth": ExtendedKeyUsageOID.CLIENT_AUTH}
#: Clocks may differ.
_SKEW: Final = timedelta(hours=1)


class CertificateAuthority:
    """Signs with a key of its own that never leaves the process, unless ``key_pem`` is asked for."""

    def __init__(
        self, common_name: str = "virtual-kubelet dev cluster", key: ec.EllipticCurvePrivateKey | None = None
    ) -> None:
        self._key = key or new_key()
        self._identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        certificate = (
            self._builder(self._name, self._key.public_key(), _OWN_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .add_extension(self._identifier, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate_pem = certificate.public_bytes(serialization.Encoding.PEM)

    @classmethod
    def load(cls, certificate_pem: bytes, key_pem: bytes) -> CertificateAuthority:
        """One that was made before. Raises ``ValueError``."""
        authority = cls(key=load_key(key_pem))
        authority.certificate_pem = certificate_pem
        authority._name = x509.load_pem_x509_certificate(certificate_pem).subject
        return authority

    @property
    def key_pem(self) -> bytes:
        """The CA's private key, for tests that sign what the cluster itself would not."""
        return key_to_pem(self._key)

    def serving(self, names: Iterable[str], ips: Iterable[str], common_name: str = "") -> tuple[bytes, bytes]:
        """A server's certificate and key, in PEM. Raises ``ValueError`` if an address is none."""
        alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in dict.fromkeys(names)]
        alternatives += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in dict.fromkeys(ips)]
        return self._sign(common_name or "server", (), ExtendedKeyUsageOID.SERVER_AUTH, alternatives, _LIFETIME)

    def client(self, user: str, groups: Sequence[str], lifetime: timedelta = _LIFETIME) -> tuple[bytes, bytes]:
        """A client's certificate and key, in PEM: the user is its CN, the groups its Os."""
        return self._sign(user, groups, ExtendedKeyUsageOID.CLIENT_AUTH, (), lifetime)

    def sign_request(
        self, request: x509.CertificateSigningRequest, usages: Iterable[str], lifetime: timedelta = _LIFETIME
    ) -> bytes:
        """A certificate (PEM) for the subject, the names and the key of a request that has been checked."""
        wanted = set(usages)
        purposes = [purpose for name, purpose in _PURPOSES.items() if name in wanted]
        builder = (
            self._builder(request.subject, request.public_key(), lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False, key_encipherment="key encipherment" in wanted), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier), critical=False
            )
        )
        for extension in request.extensions:
            if isinstance(extension.value, x509.SubjectAlternativeName):
                builder = builder.add_extension(extension.value, critical=extension.critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _sign(
        self,
        common_name: str,
        organizations: Sequence[str],
        purpose: x509.ObjectIdentifier,
        alternatives: Sequence[x509.GeneralName],
        lifetime: timedelta,
    ) -> tuple[bytes, bytes]:
        key = new_key()
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in organizations]
        # A CN holds 64 characters at most; Kubernetes' user names may be longer, so the check is left out.
        attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name, _validate=False))
        builder = (
            self._builder(x509.Name(attributes), key.public_key(), lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._identifier), critical=False
            )
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), key_to_pem(key)

    def _builder(
        self, subject: x509.Name, key: CertificatePublicKeyTypes, lifetime: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, now + lifetime) - _SKEW)
            .not_valid_after(now + lifetime)
        )


def _usage(*, ca: bool, key_encipherment: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Raises ``ValueError``."""
    key = serialization.load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is not of an elliptic curve")
    return key


def key_to_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

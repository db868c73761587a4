"""The certificates a node asks a cluster's signers for: what is asked, what came of it, when to ask again.

As pkg/kubelet/certificate and client-go's util/certificate have it. Nothing here does I/O; keys take a millisecond.
"""

from __future__ import annotations

import base64
import ipaddress
import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from virtual_kubelet.errors import CertificateRefusedError
from virtual_kubelet.kube.client_certificate import split_pem
from virtual_kubelet.objects.certificates_v1 import CertificateSigningRequest, CertificateSigningRequestSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta

if TYPE_CHECKING:
    from cryptography import x509

__all__ = [
    "CertificateKeyPair",
    "CertificateTemplate",
    "client_template",
    "fits",
    "new_request",
    "outcome_of",
    "renewal_time",
    "serving_template",
]

#: Of all nodes' subjects; the signers want it (pkg/apis/certificates: ValidateKubeletServingCSR, …ClientCSR).
_ORGANIZATION: Final = "system:nodes"
#: A certificate is renewed after between 70 and 90 % of its life, as the kubelet's are, so that nodes made together
#: do not ask together.
_EARLIEST, _LATEST = 0.7, 0.9


@dataclass(frozen=True, slots=True)
class CertificateKeyPair:
    """A certificate with its chain, and its private key: PEM."""

    certificate: bytes
    key: bytes = field(repr=False)

    @classmethod
    def of(cls, pem: bytes) -> CertificateKeyPair | None:
        """From a file that holds both, as the kubelet's ``…-current.pem``; None if it does not."""
        certificate, key = split_pem(pem)
        return cls(certificate, key) if certificate and key else None

    @property
    def pem(self) -> bytes:
        return self.certificate + b"\n" + self.key + b"\n"


@dataclass(frozen=True, slots=True)
class CertificateTemplate:
    """What a certificate is to be for."""

    signer: str
    common_name: str
    usages: tuple[str, ...]
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()


def serving_template(node_name: str, dns_names: tuple[str, ...], ip_addresses: tuple[str, ...]) -> CertificateTemplate:
    """Of the node's HTTPS API. The signer wants a name or an address, and nothing that the Node does not have."""
    return CertificateTemplate(
        "kubernetes.io/kubelet-serving",
        f"system:node:{node_name}",
        # Servers before 1.27 insist on key encipherment, whatever the key.
        ("digital signature", "key encipherment", "server auth"),
        dns_names,
        ip_addresses,
    )


def client_template(node_name: str) -> CertificateTemplate:
    """With which the node is itself to the API server."""
    return CertificateTemplate(
        "kubernetes.io/kube-apiserver-client-kubelet",
        f"system:node:{node_name}",
        ("digital signature", "key encipherment", "client auth"),
    )


def new_request(template: CertificateTemplate) -> tuple[CertificateSigningRequest, bytes]:
    """The object to create, and the private key it is for (EC P-256, PEM)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, template.common_name, _validate=False),  # may be over 64 characters
        ]
    )
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in template.dns_names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in template.ip_addresses]
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    return (
        CertificateSigningRequest(
            metadata=ObjectMeta(generate_name="csr-"),
            spec=CertificateSigningRequestSpec(
                request=base64.b64encode(request).decode(), signer_name=template.signer, usages=list(template.usages)
            ),
        ),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def outcome_of(request: CertificateSigningRequest) -> bytes | None:
    """The certificate (PEM), or None while there is none. Raises ``CertificateRefusedError``."""
    for condition in request.status.conditions or ():
        if condition.type in ("Denied", "Failed"):
            why = ": ".join(part for part in (condition.reason, condition.message) if part)
            raise CertificateRefusedError(
                f"certificate signing request {request.metadata.name} was "
                f"{'denied' if condition.type == 'Denied' else 'approved, but not signed'}{f' ({why})' if why else ''}"
            )
    return base64.b64decode(request.status.certificate) if request.status.certificate else None


def fits(template: CertificateTemplate, pair: CertificateKeyPair, now: datetime) -> bool:
    """Whether this certificate is good for what the template asks, and its key is its own."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.x509.oid import NameOID

    try:
        certificate = _leaf(pair.certificate)
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError):
        return False
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    names = [str(a.value) for a in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    known = _alternatives(certificate)
    return (
        certificate.public_key().public_bytes(*spki) == key.public_key().public_bytes(*spki)
        and certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc
        and names == [template.common_name]
        and known >= {*template.dns_names, *(str(ipaddress.ip_address(ip)) for ip in template.ip_addresses)}
    )


def renewal_time(pair: CertificateKeyPair, chance: float | None = None) -> datetime:
    """When to ask for its successor. ``chance`` (0 to 1; random by default) says where between the earliest and latest."""
    certificate = _leaf(pair.certificate)
    life: timedelta = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    share = _EARLIEST + (_LATEST - _EARLIEST) * (random.random() if chance is None else chance)
    return certificate.not_valid_before_utc + life * share


def _leaf(pem: bytes) -> x509.Certificate:
    from cryptography import x509

    return x509.load_pem_x509_certificate(pem)


def _alternatives(certificate: x509.Certificate) -> set[str]:
    from cryptography import x509

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}

"""Client certificates signed by a cluster's CA: tests act as the node itself, not as an administrator."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def sign(
    ca_certificate: bytes,
    ca_key: bytes,
    common_name: str,
    *,
    organizations: Sequence[str] = (),
    ips: Sequence[str] = (),
    days: float = 1,
) -> tuple[bytes, bytes]:
    """A certificate for clients, and for servers if it has addresses, and its key: both PEM."""
    issuer = x509.load_pem_x509_certificate(ca_certificate)
    issuer_key = serialization.load_pem_private_key(ca_key, None)
    assert isinstance(issuer_key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey))
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, o) for o in organizations]
    names.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(names))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=abs(days), minutes=5))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
    )
    if ips:
        addresses = [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
        builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
    certificate = builder.sign(issuer_key, hashes.SHA256())
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )


def kubeconfig(server: str, ca_certificate: bytes, certificate: bytes, key: bytes) -> str:
    """A kubeconfig with all of it inline."""

    def b64(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [
                {"name": "c", "cluster": {"server": server, "certificate-authority-data": b64(ca_certificate)}}
            ],
            "users": [
                {"name": "u", "user": {"client-certificate-data": b64(certificate), "client-key-data": b64(key)}}
            ],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
    )

"""What a node's certificate request may ask for (``pkg/apis/certificates`` of 1.36). Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import NameOID

from virtual_kubelet.devcluster.users import NODE_PREFIX, NODES

__all__ = [
    "CLIENT_SIGNER",
    "KUBELET_CLIENT_SIGNER",
    "KUBELET_SERVING_SIGNER",
    "SIGNERS",
    "CertificateRequest",
    "parse_request",
    "problem",
]

KUBELET_SERVING_SIGNER: Final = "kubernetes.io/kubelet-serving"
KUBELET_CLIENT_SIGNER: Final = "kubernetes.io/kube-apiserver-client-kubelet"
CLIENT_SIGNER: Final = "kubernetes.io/kube-apiserver-client"
SIGNERS: Final = frozenset({KUBELET_SERVING_SIGNER, KUBELET_CLIENT_SIGNER, CLIENT_SIGNER})
_PEM_HEAD: Final = b"-----BEGIN CERTIFICATE REQUEST-----"
_OPTIONAL_USAGE: Final = "key encipherment"
_SERVING_USAGES: Final = frozenset({"digital signature", "server auth"})
_CLIENT_USAGES: Final = frozenset({"digital signature", "client auth"})
#: Of any client but a kubelet (``validAPIServerClientUsages``): the last one it must have.
_ANY_CLIENT_USAGES: Final = frozenset({"digital signature", "key encipherment", "client auth"})


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A PKCS#10 request whose signature holds."""

    request: x509.CertificateSigningRequest
    common_name: str
    organizations: tuple[str, ...]
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    emails: tuple[str, ...]
    uris: tuple[str, ...]


def parse_request(encoded: str) -> CertificateRequest:
    """``spec.request``: base64 of PEM. Raises ``ValueError`` with the API server's words."""
    try:
        pem = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("PEM block type must be CERTIFICATE REQUEST") from None
    if _PEM_HEAD not in pem:
        raise ValueError("PEM block type must be CERTIFICATE REQUEST")
    try:
        request = x509.load_pem_x509_csr(pem)
        if not request.is_signature_valid:
            raise ValueError("the signature of the request is not that of its key")
        names = [(str(a.oid.dotted_string), str(a.value)) for a in request.subject]
        alternatives = _alternatives(request)
    except (InvalidSignature, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(f"the request cannot be read: {error}") from None
    common_names = [value for oid, value in names if oid == NameOID.COMMON_NAME.dotted_string]
    return CertificateRequest(
        request,
        common_names[-1] if common_names else "",
        tuple(value for oid, value in names if oid == NameOID.ORGANIZATION_NAME.dotted_string),
        tuple(a.value for a in alternatives if isinstance(a, x509.DNSName)),
        tuple(str(a.value) for a in alternatives if isinstance(a, x509.IPAddress)),
        tuple(a.value for a in alternatives if isinstance(a, x509.RFC822Name)),
        tuple(a.value for a in alternatives if isinstance(a, x509.UniformResourceIdentifier)),
    )


def _alternatives(request: x509.CertificateSigningRequest) -> Sequence[x509.GeneralName]:
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()


def problem(signer: str, request: CertificateRequest, usages: Collection[str]) -> str:
    """Why ``signer`` cannot sign this; empty: it can."""
    if signer == CLIENT_SIGNER:
        unfit = next((usage for usage in usages if usage not in _ANY_CLIENT_USAGES), None)
        if unfit is not None:
            return f"invalid usage for client certificate: {unfit}"
        return "" if "client auth" in usages else "missing required usage for client certificate: client auth"
    if request.organizations != (NODES,):
        return "subject organization is not system:nodes"
    if signer == KUBELET_SERVING_SIGNER:
        if not request.dns_names and not request.ip_addresses:
            return "DNS or IP subjectAltName is required"
        found = _unwanted(("Email", request.emails), ("URI", request.uris))
        found = found or _usage_problem(usages, _SERVING_USAGES)
    else:
        found = _unwanted(
            ("DNS", request.dns_names), ("IP", request.ip_addresses), ("Email", request.emails), ("URI", request.uris)
        )
        found = found or _usage_problem(usages, _CLIENT_USAGES)
    if not found and not request.common_name.startswith(NODE_PREFIX):
        return f"subject common name does not begin with {NODE_PREFIX}"
    return found


def _unwanted(*alternatives: tuple[str, Sequence[str]]) -> str:
    return next((f"{kind} subjectAltNames are not allowed" for kind, names in alternatives if names), "")


def _usage_problem(usages: Collection[str], wanted: frozenset[str]) -> str:
    if set(usages) - {_OPTIONAL_USAGE} == wanted:
        return ""
    last = "server auth" if "server auth" in wanted else "client auth"
    return f"usages did not match [{_OPTIONAL_USAGE} digital signature {last}]"

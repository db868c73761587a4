"""The API's resources: where each lives, and the type its objects decode to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar, cast
from urllib.parse import quote

import msgspec

from virtual_kubelet.objects.authentication_v1 import TokenRequest, TokenReview
from virtual_kubelet.objects.authorization_v1 import SelfSubjectAccessReview, SubjectAccessReview
from virtual_kubelet.objects.certificates_v1 import CertificateSigningRequest
from virtual_kubelet.objects.coordination_v1 import Lease
from virtual_kubelet.objects.core_v1 import (
    ConfigMap,
    Event,
    Namespace,
    Node,
    Pod,
    Secret,
    Service,
    ServiceAccount,
)

T = TypeVar("T", bound=msgspec.Struct)
U = TypeVar("U", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True)
class Resource(Generic[T]):
    """One resource of the API.

    ``object_type`` is what its objects decode to; ``decoding`` swaps it for a smaller one (only its fields are parsed).
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    object_type: type[T]

    def path(self, name: str | None = None, namespace: str | None = None, subresource: str | None = None) -> str:
        """The URL path; without a namespace, of all namespaces."""
        parts = ["/api" if not self.group else f"/apis/{self.group}", self.version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            parts.append(quote(name, safe=""))
        if subresource is not None:
            parts.append(subresource)
        return "/".join(parts)

    def decoding(self, kind: type[U]) -> Resource[U]:
        """The same resource whose objects decode to ``kind``."""
        changed: Any = replace(self, object_type=kind)  # type: ignore[arg-type]
        return cast("Resource[U]", changed)

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version


PODS: Final = Resource("", "v1", "pods", "Pod", True, Pod)
NODES: Final = Resource("", "v1", "nodes", "Node", False, Node)
CONFIG_MAPS: Final = Resource("", "v1", "configmaps", "ConfigMap", True, ConfigMap)
SECRETS: Final = Resource("", "v1", "secrets", "Secret", True, Secret)
SERVICES: Final = Resource("", "v1", "services", "Service", True, Service)
NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", False, Namespace)
EVENTS: Final = Resource("", "v1", "events", "Event", True, Event)
SERVICE_ACCOUNTS: Final = Resource("", "v1", "serviceaccounts", "ServiceAccount", True, ServiceAccount)
TOKEN_REQUESTS: Final = Resource("", "v1", "serviceaccounts", "TokenRequest", True, TokenRequest)
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases", "Lease", True, Lease)
TOKEN_REVIEWS: Final = Resource("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", False, TokenReview)
SUBJECT_ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False, SubjectAccessReview
)
SELF_SUBJECT_ACCESS_REVIEWS: Final = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False, SelfSubjectAccessReview
)
CERTIFICATE_SIGNING_REQUESTS: Final = Resource(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    False,
    CertificateSigningRequest,
)

"""Which labels a node's own identity may put on its Node: the rule of the NodeRestriction admission plugin. Pure.

Kubernetes: plugin/pkg/admission/noderestriction and staging/src/k8s.io/kubelet/pkg/apis/well_known_labels.go. The API
server is the judge; this only says what to leave out when it has refused.
"""

from __future__ import annotations

from typing import Final

__all__ = ["node_may_set_label"]

_ALLOWED: Final = frozenset(
    {
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
    }
)
_ALLOWED_DOMAINS: Final = ("kubelet.kubernetes.io", "node.kubernetes.io")
_KUBERNETES_DOMAINS: Final = ("kubernetes.io", "k8s.io")


def node_may_set_label(key: str) -> bool:
    """False for a label in Kubernetes' own domains that is not on the list for kubelets."""
    domain, slash, _ = key.rpartition("/")
    if not slash or key in _ALLOWED or _within(domain, _ALLOWED_DOMAINS):
        return True
    return not _within(domain, _KUBERNETES_DOMAINS)


def _within(domain: str, parents: tuple[str, ...]) -> bool:
    return any(domain == parent or domain.endswith(f".{parent}") for parent in parents)

"""What is there before the first client: namespaces."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.generic_registry import GenericRegistry

__all__ = ["bootstrap", "create"]

_NAMESPACES: Final = ("default", "kube-node-lease", "kube-public", "kube-system")


def create(state: ClusterState, registry: GenericRegistry, obj: dict[str, Any]) -> None:
    """Store an object of the cluster's own, with all defaults. Raises ``StatusError``."""
    regular = state.schemas.regular(obj, registry.resource.kind, [])
    registry.resource.default(regular)
    registry.create(regular)


def bootstrap(state: ClusterState) -> None:
    """What is not there yet."""
    for name in _NAMESPACES:
        if state.namespaces.objects.get("", name) is None:
            create(state, state.namespaces, {"metadata": {"name": name}})

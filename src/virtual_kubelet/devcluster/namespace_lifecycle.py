"""No creation in a namespace that is not there, or is on its way out (the admission plugin NamespaceLifecycle). Pure."""

from __future__ import annotations

from typing import Any

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.object_meta import name_for_admission
from virtual_kubelet.devcluster.request_info import RequestInfo
from virtual_kubelet.devcluster.statuses import forbidden, not_found

__all__ = ["check_namespace"]


def check_namespace(state: ClusterState, info: RequestInfo, metadata: dict[str, Any]) -> None:
    """Of a new object, or of what is created below one (a binding, an eviction). Raises ``StatusError`` 403, 404."""
    if not info.resource.namespaced:
        return
    namespace = info.namespace
    stored = state.namespaces.objects.get("", namespace)
    if stored is None:
        raise not_found("namespaces", namespace)
    if stored.fields["status.phase"] != "Terminating":
        return
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    error = forbidden(info.resource.plural, info.name or name_for_admission(metadata), why, info.resource.group)
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {namespace} is being terminated",
        "field": "metadata.namespace",
    }
    assert error.details is not None
    error.details["causes"] = [cause]
    raise error

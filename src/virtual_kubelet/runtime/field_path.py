"""Which part of a pod an event is about, as a kubelet says it (pkg/kubelet/container/ref.go). Pure."""

from __future__ import annotations

from virtual_kubelet.contracts.runtime import ContainerKind
from virtual_kubelet.runtime.pod_state import PodState

__all__ = ["field_path"]

_LISTS = {
    ContainerKind.INIT: "initContainers",
    ContainerKind.MAIN: "containers",
    ContainerKind.EPHEMERAL: "ephemeralContainers",
}


def field_path(state: PodState, container: str | None) -> str | None:
    """As ``spec.containers{main}``; None for the pod itself."""
    record = None if container is None else state.find(container)
    return None if record is None else f"spec.{_LISTS[record.kind]}{{{container}}}"

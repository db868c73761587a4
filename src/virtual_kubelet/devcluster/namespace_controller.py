"""Deletes what is in a namespace that is being deleted, and then the namespace."""

from __future__ import annotations

from typing import Any

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.generic_registry import GenericRegistry
from virtual_kubelet.devcluster.request_options import DeleteOptions
from virtual_kubelet.devcluster.storage import Change

__all__ = ["NamespaceController"]


class NamespaceController(Controller[str]):
    """Keys are namespaces. Pods go gracefully: the namespace waits for their nodes."""

    def __init__(self, state: ClusterState) -> None:
        super().__init__()
        self._state = state
        self._contents: list[GenericRegistry] = [r for r in state.registries if r.resource.namespaced]
        state.namespaces.objects.listen(lambda change: self._look(change.last.key[1]))
        for registry in self._contents:
            registry.objects.listen(self._on_object)

    def _on_object(self, change: Change) -> None:
        if change.after is None:
            self._look(change.last.key[0])

    def _look(self, name: str) -> None:
        namespace = self._state.namespaces.objects.get("", name)
        if namespace is not None and namespace.fields["status.phase"] == "Terminating":
            self.enqueue(name)

    def reconcile(self, key: str) -> None:
        namespace = self._state.namespaces.objects.get("", key)
        if namespace is None or namespace.fields["status.phase"] != "Terminating":
            return
        for registry in self._contents:
            for stored in list(registry.objects.values(key)):
                registry.delete(stored, DeleteOptions())
        if any(True for registry in self._contents for _ in registry.objects.values(key)):
            return

        def finalize(new: dict[str, Any], old: dict[str, Any]) -> None:
            new["spec"] = {"finalizers": [name for name in old["spec"].get("finalizers") or [] if name != "kubernetes"]}

        old, new = namespace.decode(), namespace.decode()
        self._state.namespaces.update(namespace, new, old, finalize)

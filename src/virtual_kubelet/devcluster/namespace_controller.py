"""Deletes what is in a namespace that is being deleted, and then the namespace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.generic_registry import GenericRegistry
from virtual_kubelet.devcluster.request_options import DeleteOptions
from virtual_kubelet.devcluster.storage import Change, StoredObject
from virtual_kubelet.devcluster.subresources import set_condition
from virtual_kubelet.objects.times import format_time

__all__ = ["NamespaceController"]

_GOOD: Final = (
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
)


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
        # Pods first: what they use stays until they are gone (OrderedNamespaceDeletion).
        left = self._delete_all([self._state.pods], key) or self._delete_all(self._contents, key)
        namespace = self._tell(namespace, left)
        if left:
            return

        def finalize(new: dict[str, Any], old: dict[str, Any]) -> None:
            new["spec"] = {"finalizers": [name for name in old["spec"].get("finalizers") or [] if name != "kubernetes"]}

        old, new = namespace.decode(), namespace.decode()
        self._state.namespaces.update(namespace, new, old, finalize)

    @staticmethod
    def _delete_all(registries: Sequence[GenericRegistry], namespace: str) -> dict[str, list[StoredObject]]:
        """What is left, by resource."""
        left: dict[str, list[StoredObject]] = {}
        for registry in registries:
            for stored in list(registry.objects.values(namespace)):
                registry.delete(stored, DeleteOptions())
        for registry in registries:
            objects = list(registry.objects.values(namespace))
            if objects:
                left[f"{registry.resource.plural}.{registry.resource.group}"] = objects
        return left

    def _tell(self, namespace: StoredObject, left: Mapping[str, Sequence[StoredObject]]) -> StoredObject:
        """Say in its conditions what it waits for."""
        finalizers = Counter(
            name
            for objects in left.values()
            for stored in objects
            for name in stored.decode()["metadata"].get("finalizers") or ()
        )
        now = format_time(self._state.clock.now())

        def mutate(obj: dict[str, Any]) -> None:
            for condition in _conditions({name: len(objects) for name, objects in left.items()}, finalizers):
                set_condition(obj, {**condition, "lastTransitionTime": now})

        return self._state.namespaces.change(namespace, mutate)


def _conditions(left: Mapping[str, int], finalizers: Mapping[str, int]) -> list[dict[str, Any]]:
    """As ``NamespaceConditionUpdater``: how many objects are left of each kind, and how many have which finalizer."""
    conditions = [
        {"type": kind, "status": "False", "reason": reason, "message": message} for kind, reason, message in _GOOD
    ]
    content, held = conditions[-2:]
    if left:
        counts = ", ".join(sorted(f"{name} has {count} resource instances" for name, count in left.items()))
        message = f"Some resources are remaining: {counts}"
        content.update(status="True", reason="SomeResourcesRemain", message=message)
    if finalizers:
        counts = ", ".join(sorted(f"{name} in {count} resource instances" for name, count in finalizers.items()))
        message = f"Some content in the namespace has finalizers remaining: {counts}"
        held.update(status="True", reason="SomeFinalizersRemain", message=message)
    return conditions

"""Pods by node, kept up with every write: for authorization, and for the scheduler's sums."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from virtual_kubelet.devcluster.registry.pod_defaults import all_containers
from virtual_kubelet.devcluster.storage import Change, Collection, Key, StoredObject

__all__ = ["PodIndex"]


class PodIndex:
    """Which pods are bound to which node, and what these refer to."""

    def __init__(self, pods: Collection) -> None:
        self._pods = pods
        self._by_node: dict[str, dict[Key, StoredObject]] = {}
        pods.listen(self._on_change)

    def pods_of(self, node: str) -> Iterable[StoredObject]:
        return self._by_node.get(node, {}).values()

    def find(self, namespace: str, name: str) -> StoredObject | None:
        return self._pods.get(namespace, name)

    def is_bound(self, node: str, key: Key) -> bool:
        return key in self._by_node.get(node, {})

    def refers(self, node: str, kind: str, namespace: str, name: str) -> bool:
        """Whether a pod of ``node`` refers to this ConfigMap, Secret or ServiceAccount."""
        quoted = f'"{name}"'.encode()
        return any(
            stored.key[0] == namespace
            # Names need no escapes in JSON: what does not occur is not referred to, and need not be decoded.
            and quoted in stored.raw
            and name in references(stored.decode()["spec"], kind)
            for stored in self.pods_of(node)
        )

    def _on_change(self, change: Change) -> None:
        before = change.before.fields["spec.nodeName"] if change.before is not None else ""
        after = change.after.fields["spec.nodeName"] if change.after is not None else ""
        key = change.last.key
        if before and before != after:
            pods = self._by_node[before]
            pods.pop(key, None)
            if not pods:
                del self._by_node[before]
        if after and change.after is not None:
            self._by_node.setdefault(after, {})[key] = change.after


def references(spec: dict[str, Any], kind: str) -> set[str]:
    """Names of objects of ``kind`` that a pod's spec needs, in its own namespace."""
    if kind == "ServiceAccount":
        return {spec.get("serviceAccountName", "")} - {""}
    found: set[str] = set()
    env_from, env, volume, field = {
        "ConfigMap": ("configMapRef", "configMapKeyRef", "configMap", "name"),
        "Secret": ("secretRef", "secretKeyRef", "secret", "secretName"),
    }[kind]
    for container in all_containers(spec):
        for source in container.get("envFrom") or ():
            found.add((source.get(env_from) or {}).get("name", ""))
        for entry in container.get("env") or ():
            found.add(((entry.get("valueFrom") or {}).get(env) or {}).get("name", ""))
    for entry in spec.get("volumes") or ():
        found.add((entry.get(volume) or {}).get(field, ""))
        for part in (entry.get("projected") or {}).get("sources") or ():
            found.add((part.get(volume) or {}).get("name", ""))
    if kind == "Secret":
        found.update(entry.get("name", "") for entry in spec.get("imagePullSecrets") or ())
    return found - {""}

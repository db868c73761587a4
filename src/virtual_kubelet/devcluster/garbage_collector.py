"""Deletes what has lost its owners, as the garbage collector of the controller manager does.

Three ways of deleting an owner: in the background its dependents go after it, in the foreground before it (the finalizer
``foregroundDeletion`` keeps it until those that block it are gone), orphaning leaves them without a reference to it (the
finalizer ``orphan``). Owners of kinds that the cluster does not serve are taken to be there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.generic_registry import GenericRegistry
from virtual_kubelet.devcluster.request_options import DeleteOptions
from virtual_kubelet.devcluster.storage import Change, Key, StoredObject

__all__ = ["GarbageCollector"]

_FOREGROUND: Final = "foregroundDeletion"
_ORPHAN: Final = "orphan"
#: What must occur in an object's JSON for it to be of interest; to look is cheaper than to decode.
_OWNED: Final = b'"ownerReferences"'
_DELETING: Final = b'"deletionTimestamp"'


class Item(NamedTuple):
    """An object: its resource (group and plural) and its key."""

    resource: tuple[str, str]
    key: Key


class GarbageCollector(Controller[Item]):
    """Keys are objects that have owners, or are being deleted with a finalizer of ours."""

    def __init__(self, state: ClusterState) -> None:
        super().__init__()
        self._registries: dict[tuple[str, str], GenericRegistry] = {r.resource.key: r for r in state.registries}
        self._by_kind = {(r.resource.group, r.resource.kind): r for r in state.registries}
        #: By the owner's UID.
        self._dependents: dict[str, set[Item]] = {}
        #: Of each object that has owners: their UIDs.
        self._owners: dict[Item, frozenset[str]] = {}
        #: Owners that wait for their dependents, by UID.
        self._waiting: dict[str, Item] = {}
        for registry in state.registries:
            registry.objects.listen(partial(self._on_change, registry.resource.key))

    def _on_change(self, resource: tuple[str, str], change: Change) -> None:
        after, raw = change.after, change.last.raw
        if after is not None and _OWNED not in raw and _DELETING not in raw and not self._owners:
            return  # what nearly all changes are
        item = Item(resource, change.last.key)
        if after is None or _OWNED not in after.raw:
            before = self._owners.pop(item, frozenset())
            for uid in before:
                self._forget(uid, item)
                if uid in self._waiting:
                    self.enqueue(self._waiting[uid])
        else:
            self._index(item, after)
            self.enqueue(item)
        if after is None:
            self._waiting.pop(change.last.uid, None)
            for dependent in self._dependents.get(change.last.uid, ()):
                self.enqueue(dependent)
        elif _DELETING in after.raw and (b'"foregroundDeletion"' in after.raw or b'"orphan"' in after.raw):
            self.enqueue(item)

    def _index(self, item: Item, stored: StoredObject) -> None:
        owners = frozenset(reference["uid"] for reference in _references(stored.decode()))
        before = self._owners.get(item, frozenset())
        for uid in before - owners:
            self._forget(uid, item)
        for uid in owners - before:
            self._dependents.setdefault(uid, set()).add(item)
        for uid in (owners | before) & self._waiting.keys():
            self.enqueue(self._waiting[uid])
        self._owners[item] = owners

    def _forget(self, uid: str, item: Item) -> None:
        dependents = self._dependents[uid]
        dependents.discard(item)
        if not dependents:
            del self._dependents[uid]

    def reconcile(self, key: Item) -> None:
        registry = self._registries[key.resource]
        stored = registry.objects.get(*key.key)
        if stored is None:
            return
        obj = stored.decode()
        finalizers = obj["metadata"].get("finalizers") or []
        if "deletionTimestamp" in obj["metadata"]:
            if _ORPHAN in finalizers:
                self._orphan(registry, stored)
            elif _FOREGROUND in finalizers:
                self._foreground(registry, key, stored)
            # What is being deleted otherwise goes its way.
            return
        if _references(obj):
            self._collect(registry, key, stored, obj)

    # Owners

    def _orphan(self, registry: GenericRegistry, stored: StoredObject) -> None:
        for _, other, dependent in self._dependents_of(stored.uid):
            other.change(dependent, partial(_drop_references, uids={stored.uid}))
        _remove_finalizer(registry, stored, _ORPHAN)

    def _foreground(self, registry: GenericRegistry, item: Item, stored: StoredObject) -> None:
        self._waiting[stored.uid] = item
        blocked = False
        for key, _, dependent in self._dependents_of(stored.uid):
            blocked = blocked or any(
                r["uid"] == stored.uid and r.get("blockOwnerDeletion") for r in _references(dependent.decode())
            )
            self.enqueue(key)
        if not blocked:
            del self._waiting[stored.uid]
            _remove_finalizer(registry, stored, _FOREGROUND)

    def _dependents_of(self, uid: str) -> Iterator[tuple[Item, GenericRegistry, StoredObject]]:
        for item in sorted(self._dependents.get(uid, ())):
            registry = self._registries[item.resource]
            stored = registry.objects.get(*item.key)
            if stored is not None:
                yield item, registry, stored

    # Dependents

    def _collect(self, registry: GenericRegistry, item: Item, stored: StoredObject, obj: dict[str, Any]) -> None:
        gone: set[str] = set()
        waiting: set[str] = set()
        solid = False
        for reference in _references(obj):
            owner = self._owner(registry, item, reference)
            if owner == "gone":
                gone.add(reference["uid"])
            elif owner == "waiting":
                waiting.add(reference["uid"])
            else:
                solid = True
        if solid:
            if gone or waiting:
                registry.change(stored, partial(_drop_references, uids=gone | waiting))
            return
        in_foreground = bool(waiting) and bool(self._dependents.get(stored.uid))
        policy = "Foreground" if in_foreground else None
        registry.delete(stored, DeleteOptions(uid=stored.uid, propagation=policy))

    def _owner(self, registry: GenericRegistry, item: Item, reference: dict[str, Any]) -> str:
        """``solid``, ``gone`` or ``waiting`` (for its dependents)."""
        group = reference["apiVersion"].rpartition("/")[0]
        owners = self._by_kind.get((group, reference["kind"]))
        if owners is None or (owners.resource.namespaced and not registry.resource.namespaced):
            return "solid"
        namespace = item.key[0] if owners.resource.namespaced else ""
        owner = owners.objects.get(namespace, reference["name"])
        if owner is None or owner.uid != reference["uid"]:
            return "gone"
        if _DELETING in owner.raw and b'"foregroundDeletion"' in owner.raw:
            metadata = owner.decode()["metadata"]
            if "deletionTimestamp" in metadata and _FOREGROUND in (metadata.get("finalizers") or ()):
                return "waiting"
        return "solid"


def _references(obj: dict[str, Any]) -> list[dict[str, Any]]:
    return obj["metadata"].get("ownerReferences") or []


def _drop_references(obj: dict[str, Any], uids: set[str]) -> None:
    kept = [reference for reference in _references(obj) if reference["uid"] not in uids]
    if kept:
        obj["metadata"]["ownerReferences"] = kept
    else:
        obj["metadata"].pop("ownerReferences", None)


def _remove_finalizer(registry: GenericRegistry, stored: StoredObject, finalizer: str) -> None:
    old, new = stored.decode(), stored.decode()
    kept = [name for name in old["metadata"].get("finalizers") or [] if name != finalizer]
    if kept:
        new["metadata"]["finalizers"] = kept
    else:
        new["metadata"].pop("finalizers", None)
    registry.update(stored, new, old, lambda new, old: None)

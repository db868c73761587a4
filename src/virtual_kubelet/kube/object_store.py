"""What an informer knows: one copy of each object, and handlers that hear of changes. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Generic, Protocol, TypeVar

from virtual_kubelet.objects.meta_v1 import ObjectMeta

__all__ = ["InformerHandler", "ObjectStore", "StoreKey", "key_of"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

#: Namespace (or "") and name.
StoreKey = tuple[str, str]


class InformerHandler(Protocol[T_contra]):
    """Hears of changes, in the loop's thread, in order; must not block. An exception ends ``Informer.run`` with it."""

    def on_add(self, obj: T_contra, /) -> None: ...

    def on_update(self, old: T_contra, new: T_contra, /) -> None: ...

    def on_delete(self, last_known: T_contra, /) -> None: ...


class ObjectStore(Generic[T]):
    """Objects by namespace and name. One that is replaced under its name was deleted and another one added."""

    def __init__(self) -> None:
        self._handlers: list[InformerHandler[T]] = []
        self._objects: dict[StoreKey, T] = {}

    def add_handler(self, handler: InformerHandler[T]) -> None:
        """Tell ``handler`` of every change from now on; of what is there already, as additions, at once."""
        self._handlers.append(handler)
        for obj in list(self._objects.values()):
            handler.on_add(obj)

    def get(self, key: StoreKey) -> T | None:
        return self._objects.get(key)

    def values(self) -> Collection[T]:
        return self._objects.values()

    def __len__(self) -> int:
        return len(self._objects)

    def put(self, obj: T) -> None:
        """It was added, or has changed."""
        key = key_of(obj)
        known = self._objects.get(key)
        self._objects[key] = obj
        self._tell(known, obj)

    def remove(self, key: StoreKey, last: T | None) -> None:
        """It is gone; ``last``: as it was at the end, if that is known."""
        known = self._objects.pop(key, None)
        if known is not None:
            self._tell_gone(last if last is not None else known)

    def replace(self, objects: Mapping[StoreKey, T], unread: Collection[StoreKey] | None) -> None:
        """These are all there are: what is not among them is gone, but for ``unread``, which stay (None: any may).

        Told are deletions first, and only what has changed.
        """
        old, self._objects = self._objects, dict(objects)
        for key, obj in old.items():
            if key not in objects and (unread is None or key in unread):
                self._objects[key] = obj
        for key, obj in old.items():
            new = self._objects.get(key)
            if new is None or _meta(new).uid != _meta(obj).uid:
                self._tell_gone(obj)
        for key, obj in list(self._objects.items()):
            known = old.get(key)
            if known is None or _meta(known).uid != _meta(obj).uid:
                self._tell(None, obj)
            elif _meta(known).resource_version != _meta(obj).resource_version:
                self._tell(known, obj)

    def _tell(self, known: T | None, obj: T) -> None:
        if known is None:
            for handler in self._handlers:
                handler.on_add(obj)
        elif _meta(known).uid != _meta(obj).uid:
            for handler in self._handlers:
                handler.on_delete(known)
                handler.on_add(obj)
        else:
            for handler in self._handlers:
                handler.on_update(known, obj)

    def _tell_gone(self, last_known: T) -> None:
        for handler in self._handlers:
            handler.on_delete(last_known)


def key_of(obj: Any) -> StoreKey:
    return obj.metadata.namespace or "", obj.metadata.name or ""


def _meta(obj: Any) -> ObjectMeta:
    meta: ObjectMeta = obj.metadata
    return meta

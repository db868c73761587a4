"""Everything the cluster knows, in memory: objects as JSON, one counter of revisions, and what changed lately.

All methods are synchronous and run in one event loop, so each is a transaction. Objects are kept encoded and without
``kind`` and ``apiVersion`` (decoding costs microseconds, decoded objects five times the memory); what selectors look at
is kept beside them. Each collection remembers its last changes: from them watches resume, and lists are given as they
were at an earlier revision.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeAlias

import msgspec

__all__ = ["Change", "Collection", "Expired", "Key", "Store", "StoredObject", "TooLarge"]

#: Namespace (empty for what has none) and name.
Key: TypeAlias = tuple[str, str]

#: Revisions below this never were: as in a cluster that has been compacted, "1" is too old to watch from.
FIRST_REVISION: Final = 100
#: etcd's own limit for a request.
_MOST_BYTES: Final = 1_572_864

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()


class Expired(Exception):
    """The changes since that revision are no longer known; ``oldest`` is the first revision that is."""

    def __init__(self, oldest: int) -> None:
        super().__init__(oldest)
        self.oldest = oldest


class TooLarge(Exception):
    """An object is larger than a real server's etcd would take."""


class StoredObject:
    """One version of one object; never changes.

    Attributes:
        key: namespace and name.
        uid: ``metadata.uid``.
        generation: ``metadata.generation``; 0 where there is none.
        revision: ``metadata.resourceVersion`` as a number.
        raw: its JSON, without ``kind`` and ``apiVersion``.
        labels: ``metadata.labels``.
        fields: what field selectors may ask for, beyond name and namespace.
    """

    __slots__ = ("fields", "generation", "key", "labels", "raw", "revision", "uid")

    def __init__(self, obj: dict[str, Any], revision: int, fields: Mapping[str, str]) -> None:
        metadata = obj["metadata"]
        metadata["resourceVersion"] = str(revision)
        self.key: Key = (metadata.get("namespace", ""), metadata["name"])
        self.uid: str = metadata.get("uid", "")
        self.generation: int = metadata.get("generation", 0)
        self.revision = revision
        self.labels: Mapping[str, str] = metadata.get("labels") or _NOTHING
        self.fields = fields
        self.raw = _encoder.encode(obj)

    def decode(self) -> dict[str, Any]:
        """A private copy of the object."""
        decoded: dict[str, Any] = _decoder.decode(self.raw)
        return decoded


_NOTHING: Final[Mapping[str, str]] = {}


class Change:
    """One write: ``before`` is None for a create, ``after`` for a delete; ``last`` is what watchers get to see."""

    __slots__ = ("after", "before", "last", "revision")

    def __init__(self, revision: int, before: StoredObject | None, after: StoredObject | None, last: StoredObject):
        self.revision = revision
        self.before = before
        self.after = after
        self.last = last


class Collection:
    """All objects of one resource.

    Args:
        store: whose revisions count.
        fields: what field selectors may ask of an object.
        history: changes remembered.
    """

    def __init__(self, store: Store, fields: Callable[[dict[str, Any]], Mapping[str, str]], history: int) -> None:
        self._store = store
        self._fields = fields
        self._history = history
        self._objects: dict[Key, StoredObject] = {}
        self._keys: list[Key] = []
        self._changes: deque[Change] = deque()
        self._oldest = store.revision + 1
        self._listeners: list[Callable[[Change], None]] = []
        self._followers: list[Callable[[Change], None]] = []

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, namespace: str, name: str) -> StoredObject | None:
        return self._objects.get((namespace, name))

    def values(self, namespace: str = "") -> Iterator[StoredObject]:
        """In order of namespace and name, as etcd lists them; empty: all namespaces. Do not write meanwhile."""
        objects = self._objects
        return (objects[key] for key in islice(self._keys, *self._range(self._keys, namespace)))

    def insert(self, obj: dict[str, Any]) -> StoredObject:
        """Store a new object, whose name is free. ``obj`` gets its resourceVersion. Raises ``TooLarge``."""
        stored = self._version(obj)
        self._objects[stored.key] = stored
        insort(self._keys, stored.key)
        self._record(Change(stored.revision, None, stored, stored))
        return stored

    def replace(self, before: StoredObject, obj: dict[str, Any]) -> StoredObject:
        """Store a new version of ``before``. Raises ``TooLarge``."""
        stored = self._version(obj)
        self._objects[stored.key] = stored
        self._record(Change(stored.revision, before, stored, stored))
        return stored

    def _version(self, obj: dict[str, Any]) -> StoredObject:
        stored = StoredObject(obj, self._store.next_revision(), self._fields(obj))
        if len(stored.raw) > _MOST_BYTES:
            raise TooLarge
        return stored

    def remove(self, before: StoredObject, obj: dict[str, Any] | None = None) -> StoredObject:
        """Delete ``before``. Returns its last version: ``obj`` if given, with the revision of the deletion."""
        last = obj or before.decode()
        gone = StoredObject(last, self._store.next_revision(), before.fields)
        del self._objects[before.key]
        del self._keys[bisect_left(self._keys, before.key)]
        self._record(Change(gone.revision, before, None, gone))
        return gone

    def listen(self, listener: Callable[[Change], None]) -> None:
        """Call ``listener`` with every change, at once: it must neither block nor write."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[Change], None]) -> None:
        self._listeners.remove(listener)

    def follow(self, follower: Callable[[Change], None]) -> None:
        """Call ``follower`` with every change once it is durable; without a disk that is at once."""
        self._followers.append(follower)

    def publish(self, change: Change) -> None:
        """``change`` is durable now."""
        for follower in self._followers:
            follower(change)

    def load(self, raw: bytes) -> StoredObject:
        """Take an object as an earlier run has left it; listeners hear of it."""
        obj = _decoder.decode(raw)
        stored = StoredObject(obj, int(obj["metadata"]["resourceVersion"]), self._fields(obj))
        self._objects[stored.key] = stored
        insort(self._keys, stored.key)
        self._tell(Change(stored.revision, None, stored, stored))
        return stored

    def undo(self, change: Change) -> None:
        """Take back the newest change; listeners hear of the opposite."""
        if self._changes and self._changes[-1] is change:  # unless it has been compacted away
            self._changes.pop()
        key = change.last.key
        if change.before is None:
            del self._objects[key]
            del self._keys[bisect_left(self._keys, key)]
        else:
            self._objects[key] = change.before
            if change.after is None:
                insort(self._keys, key)
        last = change.before or change.last
        self._tell(Change(change.revision, change.after, change.before, last))

    @property
    def oldest(self) -> int:
        """The first revision whose changes are known."""
        return self._oldest

    def since(self, revision: int, until: int | None = None) -> list[Change]:
        """The changes after ``revision`` (up to and with ``until``). Raises ``Expired``."""
        if revision + 1 < self._oldest:
            raise Expired(self._oldest)
        found: list[Change] = []
        for change in reversed(self._changes):
            if change.revision <= revision:
                break
            if until is None or change.revision <= until:
                found.append(change)
        found.reverse()
        return found

    def at(self, revision: int, namespace: str = "") -> list[StoredObject]:
        """The objects as they were at ``revision``, in order. Raises ``Expired``."""
        changes = self.since(revision)
        if not changes:
            return list(self.values(namespace))
        objects = dict(self._objects)
        for change in reversed(changes):
            if change.before is None:
                objects.pop(change.last.key, None)
            else:
                objects[change.before.key] = change.before
        keys = sorted(objects)
        return [objects[key] for key in islice(keys, *self._range(keys, namespace))]

    def compact(self) -> None:
        """Forget all changes so far: watches and lists from before now have expired."""
        self._changes.clear()
        self._oldest = self._store.revision + 1

    @staticmethod
    def _range(keys: list[Key], namespace: str) -> tuple[int, int]:
        if not namespace:
            return 0, len(keys)
        # Names end before U+FFFF.
        return bisect_left(keys, (namespace, "")), bisect_right(keys, (namespace, "\uffff"))

    def _record(self, change: Change) -> None:
        self._changes.append(change)
        if len(self._changes) > self._history:
            self._oldest = self._changes.popleft().revision + 1
        self._tell(change)
        if self._store.publishes:
            self.publish(change)

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            listener(change)


class Store:
    """All collections, and the one counter."""

    def __init__(self, *, history: int = 10_000) -> None:
        """``history``: changes that each collection remembers."""
        self.revision = FIRST_REVISION
        #: Whether a change is durable at once: there is no disk.
        self.publishes = True
        self._durable_revision = FIRST_REVISION
        self._history = history
        self._collections: list[Collection] = []

    @property
    def durable_revision(self) -> int:
        """The newest revision that clients may know of."""
        return self.revision if self.publishes else self._durable_revision

    @durable_revision.setter
    def durable_revision(self, revision: int) -> None:
        self._durable_revision = revision

    def hold_back(self) -> None:
        """From now on ``publish`` and ``durable_revision`` say what is durable."""
        self.publishes = False
        self._durable_revision = self.revision

    def resume(self, revision: int) -> None:
        """Go on after an earlier run's ``revision``, whose changes are not known."""
        self.revision = max(self.revision, revision)
        for collection in self._collections:
            collection.compact()

    def next_revision(self) -> int:
        self.revision += 1
        return self.revision

    def collection(self, fields: Callable[[dict[str, Any]], Mapping[str, str]]) -> Collection:
        made = Collection(self, fields, self._history)
        self._collections.append(made)
        return made

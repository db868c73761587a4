"""Watches: each change is encoded once and handed to those whose selectors it touches; slow readers are let go.

A watcher that asks for one name, or for the pods of one node, is found by an index: a write costs what it concerns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from virtual_kubelet.devcluster.rendering import encode
from virtual_kubelet.devcluster.selectors import FieldSelector, LabelSelector
from virtual_kubelet.devcluster.storage import Change, Collection, StoredObject
from virtual_kubelet.server.connection import ResponseBroken

__all__ = ["WatchHub", "Watcher"]

#: The field whose exact value is indexed.
INDEXED_FIELD: Final = "spec.nodeName"
_BATCH_BYTES: Final = 64 * 1024

#: Encodes one event for watchers that want another form than JSON as it is: (type, object) -> line.
EventEncoder = Callable[[str, StoredObject], bytes]


class Watcher:
    """One watch: an asynchronous iterator over chunks of lines, to be given to a response as its body.

    It begins to collect when it is made. ``aclose`` ends it, whether anybody has read or not.
    """

    def __init__(
        self,
        hub: WatchHub,
        *,
        namespace: str,
        name: str,
        labels: LabelSelector,
        fields: FieldSelector,
        after: int,
        encode_event: EventEncoder | None,
        deadline: float,
        bookmark: Callable[[], bytes] | None,
        bookmark_interval: float,
        buffer_bytes: int,
    ) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self.namespace = namespace
        self.name = name
        self.labels = labels
        self.fields = fields
        self._after = after
        self._encode = encode_event
        self._bookmark = bookmark
        self._buffer_bytes = buffer_bytes
        self._initial: Iterator[bytes] = iter(())
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False
        self._broken = False
        self.stalled = False
        self._timers = [self._loop.call_at(deadline, self.end)]
        if bookmark is not None:
            self._bookmark_every(bookmark_interval)

    def begin_with(self, lines: Iterator[bytes]) -> None:
        """Send these before anything else."""
        self._initial = lines

    def offer(self, change: Change, lines: dict[str, bytes]) -> None:
        """Take ``change`` if the selectors say so. ``lines`` holds what others have encoded of it already."""
        if self._ended or change.revision <= self._after:
            return
        before, after = change.before, change.after
        was = before is not None and self.matches(before)
        if after is not None and self.matches(after):
            self.send(self._line(lines, "MODIFIED" if was else "ADDED", change.last))
        elif was:
            assert before is not None
            if after is None:
                self.send(self._line(lines, "DELETED", change.last))
            else:
                # It left the selection: shown as it was while it was in it, with the revision of leaving.
                self.send(self._line(lines, "LEFT", before, change.revision))

    def matches(self, stored: StoredObject) -> bool:
        namespace, name = stored.key
        if (self.namespace and namespace != self.namespace) or (self.name and name != self.name):
            return False
        if self.fields and not self.fields.matches(stored.key, stored.fields):
            return False
        return not self.labels or self.labels.matches(stored.labels)

    def _line(self, lines: dict[str, bytes], kind: str, stored: StoredObject, revision: int = 0) -> bytes:
        line = lines.get(kind) if self._encode is None else None
        if line is None:
            if revision:
                stored = StoredObject(stored.decode(), revision, stored.fields)
            line = (self._encode or self._hub.line)("DELETED" if kind == "LEFT" else kind, stored)
            if self._encode is None:
                lines[kind] = line
        return line

    def send(self, line: bytes) -> None:
        """Queue a line. A reader that is too far behind loses the watch, and begins again where it was."""
        self._queue.append(line)
        self._queued += len(line)
        if self._queued > self._buffer_bytes:
            self._queue.clear()
            self.end()
        else:
            self._wake()

    def end(self) -> None:
        """No more events: what is queued is still sent, then the response ends."""
        self._ended = True
        self._hub.remove(self)
        for timer in self._timers:
            timer.cancel()
        self._wake()

    def cut(self) -> None:
        """Break the connection, as a network does."""
        self._broken = True
        self.end()

    def stall(self) -> None:
        """Send nothing any more, without closing: a half-open connection."""
        self.stalled = True

    def _bookmark_every(self, interval: float) -> None:
        def fire() -> None:
            if not self._ended and self._bookmark is not None:
                self.send(self._bookmark())
                self._timers[1:] = [self._loop.call_later(interval, fire)]

        self._timers[1:] = [self._loop.call_later(interval, fire)]

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._broken:
                raise ResponseBroken
            if not self.stalled:
                chunk = self._take()
                if chunk:
                    return chunk
                if self._ended:
                    raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _take(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        for line in self._initial:
            parts.append(line)
            size += len(line)
            if size >= _BATCH_BYTES:
                return b"".join(parts)
        if self._queue:
            parts.extend(self._queue)
            self._queue.clear()
            self._queued = 0
        return b"".join(parts)

    async def aclose(self) -> None:
        self.end()


class WatchHub:
    """All watchers of one collection."""

    def __init__(self, collection: Collection, head: bytes, *, namespaced: bool) -> None:
        """``head``: what stands before an object's own fields."""
        self._head = head
        self._namespaced = namespaced
        #: By what is indexed: ("name", key), ("field", value), or None for those that may want anything.
        self._watchers: dict[tuple[str, Any] | None, dict[Watcher, None]] = {}
        collection.follow(self._on_change)

    def watchers(self) -> list[Watcher]:
        """Those that are open."""
        return [watcher for group in self._watchers.values() for watcher in group]

    def line(self, kind: str, stored: StoredObject) -> bytes:
        """An event as it is sent."""
        return b'{"type":"%s","object":' % kind.encode() + self._head + stored.raw[1:] + b"}\n"

    def add(self, watcher: Watcher) -> None:
        self._watchers.setdefault(self._index(watcher), {})[watcher] = None

    def remove(self, watcher: Watcher) -> None:
        index = self._index(watcher)
        group = self._watchers.get(index, {})
        group.pop(watcher, None)
        if not group:
            self._watchers.pop(index, None)

    def _index(self, watcher: Watcher) -> tuple[str, Any] | None:
        name = watcher.name or watcher.fields.exactly("metadata.name")
        namespace = watcher.namespace or watcher.fields.exactly("metadata.namespace") or ""
        if name and bool(namespace) == self._namespaced:
            return ("name", (namespace, name))
        value = watcher.fields.exactly(INDEXED_FIELD)
        return ("field", value) if value else None

    def _on_change(self, change: Change) -> None:
        watchers = self._watchers
        if not watchers:
            return
        found = [*watchers.get(None, ()), *watchers.get(("name", change.last.key), ())]
        values = {s.fields.get(INDEXED_FIELD) for s in (change.before, change.after) if s is not None}
        for value in values:
            if value:
                found += watchers.get(("field", value), ())
        lines: dict[str, bytes] = {}
        for watcher in found:
            watcher.offer(change, lines)


def error_line(status: dict[str, Any]) -> bytes:
    """The ERROR event that ends a watch."""
    return encode({"type": "ERROR", "object": status}) + b"\n"

"""A watch's bytes to events: lines out of chunks, objects out of lines. No I/O of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from virtual_kubelet.errors import ApiConnectionError
from virtual_kubelet.kube.responses import error_from_status
from virtual_kubelet.objects.meta_v1 import ObjectMeta, Status

__all__ = ["UNREADABLE", "Identity", "WatchEvent", "decode_events", "identity_of", "split_lines"]

T = TypeVar("T", bound=msgspec.Struct)


#: What decoding raises: msgspec lets bytes that are no UTF-8 and endless nesting through as Python's own errors.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Identity(NamedTuple):
    """Which object, when the rest of it cannot be read."""

    namespace: str
    name: str
    resource_version: str


class WatchEvent(NamedTuple, Generic[T]):
    """One event.

    ``type`` is ADDED, MODIFIED or DELETED with ``object``; BOOKMARK with ``resource_version`` only (``initial_end`` marks
    the end of a streaming list); MALFORMED if the object could not be decoded, with its ``identity`` if that much could
    be read, and ``deleted`` if it is gone.
    """

    type: str
    object: T | None
    resource_version: str = ""
    initial_end: bool = False
    identity: Identity | None = None
    deleted: bool = False


class _Envelope(msgspec.Struct, gc=False):
    type: str = ""
    object: msgspec.Raw = msgspec.Raw()


class _Bookmark(msgspec.Struct):
    metadata: ObjectMeta


class _Names(msgspec.Struct, rename={"resource_version": "resourceVersion"}):
    name: str
    namespace: str = ""
    resource_version: str = ""


class _Named(msgspec.Struct):
    metadata: _Names


_envelopes = msgspec.json.Decoder(_Envelope)
_bookmarks = msgspec.json.Decoder(_Bookmark)
_statuses = msgspec.json.Decoder(Status)
_named = msgspec.json.Decoder(_Named)


def identity_of(encoded: bytes | msgspec.Raw) -> Identity | None:
    """Which object these bytes are meant to be, or None."""
    try:
        names = _named.decode(encoded).metadata
    except UNREADABLE:
        return None
    return Identity(names.namespace, names.name, names.resource_version)


async def split_lines(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[list[bytes]]:
    """The whole lines in each chunk. A line over ``limit`` bytes raises ``ApiConnectionError``.

    Parts without a newline are kept in a list and joined once: looking through them again would be quadratic.
    """
    parts: list[bytes] = []
    held = 0
    async for chunk in chunks:
        first, *lines = chunk.split(b"\n")
        parts.append(first)
        held += len(first)
        if lines:
            lines.insert(0, b"".join(parts))
            parts = [lines.pop()]
            held = len(parts[0])
        if held > limit or any(len(line) > limit for line in lines):
            raise ApiConnectionError(f"a watch line is longer than {limit} bytes")
        if lines:
            yield [line for line in lines if line]


def decode_events(lines: Iterable[bytes], decoder: msgspec.json.Decoder[T]) -> Iterator[WatchEvent[T]]:
    """An event a line. Raises the ``ApiError`` of an ERROR event."""
    for line in lines:
        try:
            envelope = _envelopes.decode(line)
        except UNREADABLE:
            yield WatchEvent("MALFORMED", None)
            continue
        kind = envelope.type
        try:
            if kind in ("ADDED", "MODIFIED", "DELETED"):
                event: WatchEvent[T] = WatchEvent(kind, decoder.decode(envelope.object))
            elif kind == "BOOKMARK":
                meta: Any = _bookmarks.decode(envelope.object).metadata
                ended = (meta.annotations or {}).get("k8s.io/initial-events-end") == "true"
                event = WatchEvent(kind, None, meta.resource_version or "", ended)
            elif kind == "ERROR":
                raise error_from_status(_status(envelope.object))
            else:
                event = WatchEvent("MALFORMED", None)
        except UNREADABLE:
            identity = identity_of(envelope.object) if kind != "BOOKMARK" else None
            version = identity.resource_version if identity is not None else ""
            event = WatchEvent("MALFORMED", None, version, identity=identity, deleted=kind == "DELETED")
        yield event


def _status(encoded: msgspec.Raw) -> Status:
    """An ERROR ends the watch, whether what is wrong can be read or not."""
    try:
        return _statuses.decode(encoded)
    except UNREADABLE:
        return Status(code=200, message="the watch ended with an error that cannot be read")

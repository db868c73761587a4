"""A watch's bytes to events: lines out of chunks, objects out of lines. No I/O of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from virtual_kubelet.errors import ApiConnectionError
from virtual_kubelet.kube.responses import error_from_status
from virtual_kubelet.objects.meta_v1 import ObjectMeta, Status

__all__ = ["WatchEvent", "decode_events", "split_lines"]

T = TypeVar("T", bound=msgspec.Struct)


class WatchEvent(NamedTuple, Generic[T]):
    """One event.

    ``type`` is ADDED, MODIFIED or DELETED with ``object``; BOOKMARK with ``resource_version`` only (``initial_end`` marks
    the end of a streaming list); MALFORMED if the object could not be decoded.
    """

    type: str
    object: T | None
    resource_version: str = ""
    initial_end: bool = False


class _Envelope(msgspec.Struct, gc=False):
    type: str = ""
    object: msgspec.Raw = msgspec.Raw()


class _Bookmark(msgspec.Struct):
    metadata: ObjectMeta


_envelopes = msgspec.json.Decoder(_Envelope)
_bookmarks = msgspec.json.Decoder(_Bookmark)
_statuses = msgspec.json.Decoder(Status)


async def split_lines(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[list[bytes]]:
    """The whole lines in each chunk. A line over ``limit`` bytes raises ``ApiConnectionError``.

    Parts without a newline are kept in a list and joined once: looking through them again would be quadratic.
    """
    parts: list[bytes] = []
    held = 0
    async for chunk in chunks:
        if b"\n" not in chunk:
            parts.append(chunk)
            held += len(chunk)
            if held > limit:
                raise ApiConnectionError(f"a watch line is longer than {limit} bytes")
            continue
        first, *lines = chunk.split(b"\n")
        parts.append(first)
        lines.insert(0, b"".join(parts))
        parts = [lines.pop()]
        held = len(parts[0])
        yield [line for line in lines if line]


def decode_events(lines: Iterable[bytes], decoder: msgspec.json.Decoder[T]) -> Iterator[WatchEvent[T]]:
    """An event a line. Raises the ``ApiError`` of an ERROR event."""
    for line in lines:
        try:
            envelope = _envelopes.decode(line)
        except msgspec.DecodeError:
            yield WatchEvent("MALFORMED", None)
            continue
        kind = envelope.type
        try:
            if kind in ("ADDED", "MODIFIED", "DELETED"):
                yield WatchEvent(kind, decoder.decode(envelope.object))
            elif kind == "BOOKMARK":
                meta: Any = _bookmarks.decode(envelope.object).metadata
                ended = (meta.annotations or {}).get("k8s.io/initial-events-end") == "true"
                yield WatchEvent(kind, None, meta.resource_version or "", ended)
            elif kind == "ERROR":
                raise error_from_status(_statuses.decode(envelope.object))
            else:
                yield WatchEvent("MALFORMED", None)
        except msgspec.DecodeError:
            yield WatchEvent("MALFORMED", None)

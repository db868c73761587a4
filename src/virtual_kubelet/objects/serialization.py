"""Objects to and from JSON: ``apiVersion`` and ``kind`` are constants of the class, written first."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

__all__ = ["decode", "encode", "to_builtins"]

T = TypeVar("T", bound=msgspec.Struct)

_encoder = msgspec.json.Encoder()
_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def encode(obj: msgspec.Struct) -> bytes:
    """The object as the API server takes it."""
    body = _encoder.encode(obj)
    kind = getattr(type(obj), "KIND", None)
    if kind is None:
        return body
    head = b'{"apiVersion":"%s","kind":"%s"' % (type(obj).API_VERSION.encode(), kind.encode())  # type: ignore[attr-defined]
    return head + (b"," if body != b"{}" else b"") + body[1:]


def decode(data: bytes, kind: type[T]) -> T:
    """An object of a known type; unknown fields are ignored. Raises ``msgspec.DecodeError``."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    result: T = decoder.decode(data)
    return result


def to_builtins(obj: msgspec.Struct) -> dict[str, Any]:
    """The object as plain dicts and lists with JSON names, ``apiVersion`` and ``kind`` first."""
    body: dict[str, Any] = msgspec.to_builtins(obj)
    kind = getattr(type(obj), "KIND", None)
    return body if kind is None else {"apiVersion": type(obj).API_VERSION, "kind": kind, **body}  # type: ignore[attr-defined]

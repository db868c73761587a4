"""Kubernetes' Protobuf encoding, read into plain JSON values: typed Go clients, ``kubectl create`` among them, send it.

Pure. A body is ``k8s\\0`` and a ``runtime.Unknown``, which names kind and version and holds the object
(apimachinery's ``runtime/serializer/protobuf``). Numbers of fields come from ``tools/generate_protobuf.py``, what they
hold from the OpenAPI schemas. Answers are JSON: clients accept both.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any, Final, NoReturn

import msgspec

from virtual_kubelet.objects.times import format_micro_time, format_time

__all__ = ["MEDIA_TYPE", "BadProtobuf", "Envelope", "ProtobufDecoder", "open_envelope"]

MEDIA_TYPE: Final = "application/vnd.kubernetes.protobuf"
_PREFIX: Final = b"k8s\0"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Schema = Mapping[str, Any]


class BadProtobuf(Exception):
    """The bytes are not what they should be; the text is Go's."""


class Envelope(msgspec.Struct, frozen=True):
    """What a body says of itself, and the object's own bytes."""

    api_version: str
    kind: str
    raw: bytes


def open_envelope(data: bytes) -> Envelope:
    """Raises ``BadProtobuf``."""
    if not data:
        raise BadProtobuf("empty data")
    if not data.startswith(_PREFIX):
        prefix = " ".join(str(byte) for byte in _PREFIX)
        raise BadProtobuf(f"provided data does not appear to be a protobuf message, expected prefix [{prefix}]")
    if len(data) == len(_PREFIX):
        raise BadProtobuf("empty body")
    unknown = _last_of(data[len(_PREFIX) :], "Unknown")
    named = _last_of(unknown.get(1, b""), "TypeMeta")
    return Envelope(_text(named.get(1, b"")), _text(named.get(2, b"")), unknown.get(2, b""))


def _last_of(data: bytes, message: str) -> dict[int, bytes]:
    return {number: value for number, value in _fields(data, message) if isinstance(value, bytes)}


def _fields(data: bytes, message: str) -> Iterator[tuple[int, int | bytes]]:
    """Numbers and values; fixed ones, which no served kind has, are skipped."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise BadProtobuf(f"proto: {message}: illegal tag 0 (wire type {wire})")
        if wire == _VARINT:
            value, position = _varint(data, position)
            yield number, value
        elif wire == _BYTES:
            length, position = _varint(data, position)
            if length > end - position:
                raise BadProtobuf("unexpected EOF")
            yield number, data[position : position + length]
            position += length
        elif wire in (_FIXED64, _FIXED32):
            position += 8 if wire == _FIXED64 else 4
            if position > end:
                raise BadProtobuf("unexpected EOF")
        else:
            raise BadProtobuf(f"proto: illegal wireType {wire}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data):
            raise BadProtobuf("unexpected EOF")
        if shift >= 64:
            raise BadProtobuf("proto: integer overflow")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _text(data: bytes) -> str:
    # As Go's encoder does with bytes that are no UTF-8 when it writes them as JSON.
    return data.decode(errors="replace")


def _no(wanted: str) -> NoReturn:
    raise BadProtobuf(f"proto: wrong wireType for field {wanted}")


class ProtobufDecoder:
    """Reads objects of the kinds whose schemas it has."""

    def __init__(self, schemas: Mapping[str, Schema]) -> None:
        """``schemas``: of OpenAPI, by full name. It reads a file."""
        self._schemas = {name.rpartition(".")[2]: schema for name, schema in schemas.items()}
        self._numbers = _load()

    def decode(self, data: bytes, kind: str) -> dict[str, Any]:
        """An envelope's object as its JSON would be. Raises ``BadProtobuf``.

        Its ``kind`` must be known. What is empty may be there: Go writes everything that is no pointer.
        """
        value: dict[str, Any] = {}
        self._struct(data, kind, self._schemas[kind].get("properties", {}), value)
        return value

    def _struct(self, data: bytes, message: str, properties: Mapping[str, Schema], into: dict[str, Any]) -> None:
        known = self._numbers.get(message, {})
        for number, value in _fields(data, message):
            name, inner = known.get(number, ("", ""))
            schema = properties.get(name)
            if schema is not None:
                self._put(into, name, schema, inner, value)
            elif inner:
                # Embedded in Go: a message of its own here, its fields the outer one's there.
                if not isinstance(value, bytes):
                    _no(name)
                self._struct(value, inner, properties, into)

    def _put(self, into: dict[str, Any], name: str, schema: Schema, inner: str, value: int | bytes) -> None:
        kind = schema.get("type")
        if kind == "array":
            items = into.setdefault(name, [])
            if isinstance(value, bytes) and schema["items"].get("type") == "integer":
                position = 0
                while position < len(value):
                    number, position = _varint(value, position)
                    items.append(_signed(number))
            else:
                items.append(self._value(schema["items"], inner, value, name))
        elif kind == "object" and "additionalProperties" in schema:
            self._entry(into.setdefault(name, {}), schema["additionalProperties"], inner, value, name)
        else:
            into[name] = self._value(schema, inner, value, name, into.get(name))

    def _entry(self, into: dict[str, Any], schema: Schema, inner: str, value: int | bytes, name: str) -> None:
        if not isinstance(value, bytes):
            _no(name)
        key, item = "", b""
        for number, part in _fields(value, name):
            if not isinstance(part, bytes):
                _no(name)
            if number == 1:
                key = _text(part)
            elif number == 2:
                item = part
        if schema.get("type") == "array":
            # A map of lists: each is wrapped in a message of its own.
            into[key] = [_text(part) for _, part in _fields(item, inner) if isinstance(part, bytes)]
        else:
            into[key] = self._value(schema, inner, item, name)

    def _value(self, schema: Schema, inner: str, value: int | bytes, name: str, before: Any = None) -> Any:
        kind = schema.get("type")
        if not inner:
            if kind in ("boolean", "integer"):
                if not isinstance(value, int):
                    _no(name)
                return bool(value) if kind == "boolean" else _signed(value)
            if not isinstance(value, bytes):
                _no(name)
            return base64.b64encode(value).decode() if schema.get("format") == "byte" else _text(value)
        if not isinstance(value, bytes):
            _no(name)
        if (special := _SPECIAL.get(inner)) is not None:
            return special(value)
        # A message that comes twice is merged.
        nested: dict[str, Any] = before if isinstance(before, dict) else {}
        # Message and schema are named after the same Go type.
        self._struct(value, inner, self._schemas.get(inner, {}).get("properties", {}), nested)
        return nested


def _load() -> dict[str, dict[int, tuple[str, str]]]:
    data = resources.files("virtual_kubelet.devcluster").joinpath("protobuf.json.gz").read_bytes()
    loaded: dict[str, dict[int, tuple[str, str]]] = msgspec.json.decode(
        gzip.decompress(data), type=dict[str, dict[int, tuple[str, str]]]
    )
    return loaded


def _moment(data: bytes) -> datetime | None:
    """None is Go's zero time, which is written empty."""
    if not data:
        return None
    parts = {number: _signed(value) for number, value in _fields(data, "Time") if isinstance(value, int)}
    try:
        return _EPOCH + timedelta(seconds=parts.get(1, 0), microseconds=parts.get(2, 0) // 1000)
    except OverflowError:
        raise BadProtobuf("Time: seconds out of range") from None


def _time(data: bytes) -> str | None:
    moment = _moment(data)
    return None if moment is None else format_time(moment)


def _micro_time(data: bytes) -> str | None:
    moment = _moment(data)
    return None if moment is None else format_micro_time(moment)


def _quantity(data: bytes) -> str:
    # An unset one is written as an empty message.
    return _text(_last_of(data, "Quantity").get(1, b"")) or "0"


def _int_or_string(data: bytes) -> int | str:
    fields = dict(_fields(data, "IntOrString"))
    if fields.get(1):
        text = fields.get(3, b"")
        return _text(text) if isinstance(text, bytes) else _no("strVal")
    number = fields.get(2, 0)
    return _signed(number) if isinstance(number, int) else _no("intVal")


_SPECIAL: Final[dict[str, Callable[[bytes], Any]]] = {
    "Time": _time,
    "MicroTime": _micro_time,
    "Quantity": _quantity,
    "IntOrString": _int_or_string,
    # Of managed fields, which are not kept.
    "FieldsV1": lambda data: {},
    "RawExtension": lambda data: {},
}

"""OpenAPI v2 out of the v3 schemas, as JSON and in the Protobuf that kubectl wants (gnostic's ``openapi.v2``). Pure.

kubectl asks for it when v3 does not know a kind, and for ``explain --output=plaintext-openapiv2``: definitions are
there, paths are not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["PROTOBUF", "document", "to_protobuf"]

#: What clients may call the Protobuf form; the ``@`` is what kubectl sends.
PROTOBUF: Final = (
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
)
_V3: Final = "#/components/schemas/"
_V2: Final = "#/definitions/"
_KEPT: Final = ("type", "format", "required", "enum")

Schema = Mapping[str, Any]


def document(schemas: Mapping[str, Schema], version: str) -> dict[str, Any]:
    """The whole document; ``version`` is the server's."""
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": {},
        "definitions": {name: _schema(schema) for name, schema in schemas.items()},
    }


def _schema(schema: Schema) -> dict[str, Any]:
    reference = schema.get("$ref") or (schema["allOf"][0].get("$ref") if "allOf" in schema else None)
    found: dict[str, Any] = {k: v for k, v in schema.items() if k in _KEPT or k.startswith("x-kubernetes-")}
    if reference:
        found["$ref"] = _V2 + reference.removeprefix(_V3)
    if "oneOf" in schema:
        # Quantities and numbers or strings: v2 knows no choice.
        found["type"] = "string"
    if "items" in schema:
        found["items"] = _schema(schema["items"])
    if "additionalProperties" in schema:
        found["additionalProperties"] = _schema(schema["additionalProperties"])
    if "properties" in schema:
        found["properties"] = {name: _schema(value) for name, value in schema["properties"].items()}
    return found


# Protobuf. Numbers of fields are those of gnostic's OpenAPIv2.proto.


def to_protobuf(content: Mapping[str, Any]) -> bytes:
    """``document``'s result as message ``openapi.v2.Document``."""
    info = content["info"]
    return b"".join(
        [
            _text(1, content["swagger"]),
            _field(2, _text(1, info["title"]) + _text(2, info["version"])),
            _field(8, b""),
            _field(9, _named_schemas(content["definitions"])),
        ]
    )


def _named_schemas(schemas: Mapping[str, Schema]) -> bytes:
    return b"".join(_field(1, _text(1, name) + _field(2, _schema_message(s))) for name, s in schemas.items())


def _schema_message(schema: Schema) -> bytes:
    parts = [
        _text(1, schema.get("$ref", "")),
        _text(2, schema.get("format", "")),
        *(_text(19, name) for name in schema.get("required", ())),
        *(_field(20, _any(value)) for value in schema.get("enum", ())),
    ]
    if "additionalProperties" in schema:
        parts.append(_field(21, _field(1, _schema_message(schema["additionalProperties"]))))
    if "type" in schema:
        parts.append(_field(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(_field(23, _field(1, _schema_message(schema["items"]))))
    if "properties" in schema:
        parts.append(_field(25, _named_schemas(schema["properties"])))
    parts += _extensions((k, v) for k, v in schema.items() if k.startswith("x-"))
    return b"".join(parts)


def _extensions(values: Iterable[tuple[str, Any]]) -> list[bytes]:
    return [_field(31, _text(1, name) + _field(2, _any(value))) for name, value in values]


def _any(value: Any) -> bytes:
    # As YAML, which JSON is.
    return _text(2, json.dumps(value))


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode()) if value else b""


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)

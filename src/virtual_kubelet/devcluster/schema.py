"""Objects made regular by the published schemas, as Go's decoder and encoder would make them. Pure.

A value is checked against its type, unknown fields are dropped and named, empty optional fields are left out, fields
that Go always writes are filled in (``"resources": {}``, ``"lastProbeTime": null``), quantities and times get their
canonical form. What comes out shares nothing with what went in.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import cache
from importlib import resources
from itertools import chain, repeat
from typing import Any, Final, NamedTuple, Protocol, cast

import msgspec

from virtual_kubelet.devcluster.go_types import (
    KEPT_EMPTY,
    OMITTED,
    OMITTED_ZEROS,
    WRITTEN_EMPTY,
    WRITTEN_NULL,
    WRITTEN_ZERO,
)
from virtual_kubelet.devcluster.protobuf import ProtobufDecoder
from virtual_kubelet.devcluster.schema_values import (
    PLAIN_MICRO_TIME,
    PLAIN_TIME,
    Convert,
    Path,
    any_value,
    base64_value,
    int_or_string,
    integer_value,
    micro_time_value,
    mismatch,
    quantity_value,
    scalar_value,
    show,
    time_value,
)

__all__ = ["Schemas", "load_openapi", "published_schemas"]


class ConvertAgain(Protocol):
    """A ``Convert`` that takes what was there before, too: what is the same object as there is regular already."""

    def __call__(self, value: Any, path: Path, unknown: list[str], known: Any = None, /) -> Any: ...


_NOTHING: Final[dict[str, Any]] = {}
_REFERENCE: Final = "#/components/schemas/"
_SCALARS: Final[dict[str, type]] = {"string": str, "boolean": bool, "integer": int}


class _Field(NamedTuple):
    scalar: type | None  # a value of exactly this type needs no conversion
    convert: Convert
    again: ConvertAgain | None  # of what may hold something that is regular already
    omit_empty: bool


@cache
def load_openapi() -> dict[str, Any]:
    """The published schemas and paths (``tools/generate_openapi.py``). The same for all who ask: not to be changed."""
    data = resources.files("virtual_kubelet.devcluster").joinpath("openapi.json.gz").read_bytes()
    loaded: dict[str, Any] = msgspec.json.decode(gzip.decompress(data))
    return loaded


class Schemas:
    """Turns values into regular ones, by the name of their type (the last part of the schema's name)."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self._by_name = {name.rpartition(".")[2]: schema for name, schema in schemas.items()}
        self._groups = {name.rpartition(".")[2]: _go_package(name) for name in schemas}
        self._compiled: dict[str, Any] = {}
        self.protobuf = ProtobufDecoder(schemas)

    def regular(self, value: Any, type_name: str, unknown: list[str], path: Path = None) -> Any:
        """``value`` as ``type_name``. Names of unknown fields are added to ``unknown``. Raises ``WrongType``."""
        return self._type(type_name)(value, path, unknown)

    def regular_again(
        self, value: dict[str, Any], type_name: str, unknown: list[str], known: dict[str, Any]
    ) -> dict[str, Any]:
        """``value``, made of the regular ``known``: what is the same object in both, at the same place, is shared."""
        made: dict[str, Any] = self._type(type_name)(value, None, unknown, known)
        return made

    def _type(self, name: str) -> Any:
        found = self._compiled.get(name)
        if found is None:
            # Types may contain themselves: what is compiled meanwhile refers to the table.
            self._compiled[name] = lambda *arguments: self._compiled[name](*arguments)
            found = self._compiled[name] = self._compile(name, self._by_name[name])
        return found

    def _compile(self, name: str, schema: dict[str, Any]) -> Convert:
        if name == "Quantity":
            return quantity_value
        if name == "Time":
            return time_value
        if name == "MicroTime":
            return micro_time_value
        if name == "IntOrString":
            return int_or_string
        if "properties" not in schema:
            return any_value
        required = set(schema.get("required", ()))
        fields: dict[str, _Field] = {}
        absent: list[tuple[str, Callable[[], Any]]] = []
        for key, item in schema["properties"].items():
            fields[key] = self._field(name, key, item, key in required)
            if (default := self._default(name, key, item, key in required)) is not None:
                absent.append((key, default))
        return self._struct(f"{self._groups[name]}.{name}", name, fields, absent)

    def _field(self, owner: str, key: str, schema: dict[str, Any], required: bool) -> _Field:
        kind, name = schema.get("type"), f"{owner}.{key}"
        scalar = _SCALARS.get(kind or "") if kind != "integer" and schema.get("format") != "byte" else None
        if kind == "string":
            omit = name not in KEPT_EMPTY and (not required or name in OMITTED)
        elif kind in ("array", "object"):
            omit = not required and name not in WRITTEN_NULL
        else:
            omit = not required and name not in KEPT_EMPTY and (key in OMITTED_ZEROS or name in OMITTED)
        convert = self._value(owner, schema)
        return _Field(scalar, convert, cast("ConvertAgain", convert) if self._is_nested(schema) else None, omit)

    def _is_nested(self, schema: dict[str, Any]) -> bool:
        """Whether it is a struct, or a list of them."""
        target = _target(schema)
        if target is not None:
            return "properties" in self._by_name[target]
        return schema.get("type") == "array" and self._is_nested(schema["items"])

    def _default(self, owner: str, key: str, schema: dict[str, Any], required: bool) -> Callable[[], Any] | None:
        """What makes the value of an absent field; None: it stays absent."""
        name = f"{owner}.{key}"
        if name in WRITTEN_NULL:
            return lambda: None
        if name in WRITTEN_ZERO:
            return lambda: "0"
        if name in OMITTED:
            return None
        default = schema.get("default")
        if default == {}:
            target = _target(schema)
            if target is None:
                return dict
            return lambda: self._type(target)({}, None, [])
        if default is None:
            return (lambda: None) if required else None
        if required or default or name in WRITTEN_EMPTY:
            return lambda: default
        return None

    def _value(self, owner: str, schema: dict[str, Any]) -> Convert:
        target = _target(schema)
        if target is not None:
            return self._reference(owner, target)
        kind = schema.get("type")
        if kind == "array":
            return self._array(owner, schema["items"])
        if kind == "object":
            items = schema.get("additionalProperties")
            return self._map(owner, items) if items is not None else any_value
        if kind == "integer":
            return integer_value(owner, schema.get("format", "int64"))
        if kind == "string" and schema.get("format") == "byte":
            return base64_value(owner)
        if kind in _SCALARS:
            return scalar_value(owner, _SCALARS[kind], "bool" if kind == "boolean" else kind)
        return any_value

    def _reference(self, owner: str, target: str) -> Convert:
        if target == "Quantity":
            return quantity_value
        compiled = self._compiled
        go_name = f"{self._groups[target]}.{target}"
        nested = "properties" in self._by_name[target]
        regular = {"Time": PLAIN_TIME, "MicroTime": PLAIN_MICRO_TIME}.get(target)

        def convert(value: Any, path: Path, unknown: list[str], known: Any = None) -> Any:
            if regular is not None and type(value) is str and regular.fullmatch(value):
                return value
            if type(value) not in (dict, str, int, float):
                raise mismatch(value, owner, path, go_name)
            found = compiled.get(target) or self._type(target)
            return found(value, path, unknown, known) if nested else found(value, path, unknown)

        return convert

    def _array(self, owner: str, items: dict[str, Any]) -> Convert:
        element = self._value(owner, items)
        again = cast("ConvertAgain", element) if self._is_nested(items) else None
        go_name = "[]" + self._go_name(items)

        def convert(value: Any, path: Path, unknown: list[str], known: Any = None) -> Any:
            if type(value) is not list:
                raise mismatch(value, owner, path, go_name)
            # A null element is Go's zero value; only those of structs occur, and validation refuses them.
            if again is None or type(known) is not list:
                return [element({} if v is None else v, (path, i), unknown) for i, v in enumerate(value)]
            before = chain(known, repeat(None))
            return [
                v if v is b and v is not None else again({} if v is None else v, (path, i), unknown, b)
                for i, (v, b) in enumerate(zip(value, before, strict=False))
            ]

        return convert

    def _map(self, owner: str, items: dict[str, Any]) -> Convert:
        element = self._value(owner, items)
        plain = str if items.get("type") == "string" and "format" not in items else None
        go_name = "map[string]" + self._go_name(items)

        def convert(value: Any, path: Path, unknown: list[str]) -> Any:
            if type(value) is not dict:
                raise mismatch(value, owner, path, go_name)
            if plain is not None and all(type(v) is str for v in value.values()):
                return dict(value)
            return {k: "" if v is None else element(v, (path, k), unknown) for k, v in value.items()}

        return convert

    def _go_name(self, schema: dict[str, Any]) -> str:
        target = _target(schema)
        if target is not None:
            return f"{self._groups[target]}.{target}"
        kind = schema.get("type", "")
        return str(schema.get("format", kind)) if kind == "integer" else "bool" if kind == "boolean" else str(kind)

    def _struct(
        self, go_name: str, name: str, fields: dict[str, _Field], absent: list[tuple[str, Callable[[], Any]]]
    ) -> ConvertAgain:
        def convert(value: Any, path: Path, unknown: list[str], known: Any = None) -> dict[str, Any]:
            if type(value) is not dict:
                raise mismatch(value, name, path, go_name)
            before = known if type(known) is dict else _NOTHING
            result: dict[str, Any] = {}
            for key, item in value.items():
                field = fields.get(key)
                if field is None:
                    unknown.append(f'unknown field "{show((path, key))}"')
                    continue
                if item is None:
                    continue
                scalar, convert_item, again, omit_empty = field
                if type(item) is not scalar and (was := before.get(key)) is not item:
                    if again is None:
                        item = convert_item(item, (path, key), unknown)
                    else:
                        item = again(item, (path, key), unknown, was)
                if item or not omit_empty:
                    result[key] = item
            for key, make in absent:
                if key not in result:
                    result[key] = make()
            return result

        return convert


@cache
def published_schemas() -> Schemas:
    """Of ``load_openapi``: all clusters of a process share what has been compiled."""
    return Schemas(load_openapi()["schemas"])


def _target(schema: dict[str, Any]) -> str | None:
    reference = schema.get("$ref") or (schema["allOf"][0].get("$ref") if "allOf" in schema else None)
    return reference.removeprefix(_REFERENCE).rpartition(".")[2] if reference else None


def _go_package(schema_name: str) -> str:
    return schema_name.split(".")[-2]

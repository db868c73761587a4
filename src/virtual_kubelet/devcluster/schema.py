"""Objects made regular by the published schemas, as Go's decoder and encoder would make them. Pure.

A value is checked against its type, unknown fields are dropped and named, empty optional fields are left out, fields
that Go always writes are filled in (``"resources": {}``, ``"lastProbeTime": null``), quantities and times get their
canonical form. What comes out shares nothing with what went in.
"""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable
from functools import lru_cache
from importlib import resources
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from virtual_kubelet.devcluster.protobuf import ProtobufDecoder
from virtual_kubelet.objects.quantity import Quantity
from virtual_kubelet.objects.times import format_micro_time, format_time, parse_time

__all__ = ["Schemas", "WrongType", "json_type", "load_openapi"]

_ABSENT: Final = object()
#: Where in an object: (where the parent is, key or index); None is the object itself.
Path: TypeAlias = "tuple[Path, str | int] | None"
Convert: TypeAlias = Callable[[Any, Path, list[str]], Any]

_REFERENCE: Final = "#/components/schemas/"
_SCALARS: Final[dict[str, type]] = {"string": str, "boolean": bool, "integer": int}
#: Times that are no pointers in Go: always written, null when unset.
_NULL_TIMES: Final = frozenset(
    {
        ("ContainerStateRunning", "startedAt"),
        ("ContainerStateTerminated", "finishedAt"),
        ("ContainerStateTerminated", "startedAt"),
        ("Event", "eventTime"),
        ("Event", "firstTimestamp"),
        ("Event", "lastTimestamp"),
        ("EventSeries", "lastObservedTime"),
        ("NamespaceCondition", "lastTransitionTime"),
        ("NodeCondition", "lastHeartbeatTime"),
        ("NodeCondition", "lastTransitionTime"),
        ("PodCondition", "lastProbeTime"),
        ("PodCondition", "lastTransitionTime"),
        ("TokenRequestSpec", "boundObjectRef"),
        ("TokenRequestStatus", "expirationTimestamp"),
    }
)
#: Optional in the schema, but written by Go even when empty.
_ALWAYS: Final = frozenset({("Event", "reportingComponent"), ("Event", "reportingInstance")})
#: Plain values (not pointers) in Go whose zero is left out.
_OMIT_ZERO: Final = frozenset(
    [
        "chapAuthDiscovery",
        "chapAuthSession",
        "hostIPC",
        "hostNetwork",
        "hostPID",
        "publishNotReadyAddresses",
        "readOnly",
        "sslEnabled",
        "stdin",
        "stdinOnce",
        "tty",
        "unschedulable",
        "count",
        "failureThreshold",
        "generation",
        "healthCheckNodePort",
        "hostPort",
        "initialDelaySeconds",
        "nodePort",
        "observedGeneration",
        "periodSeconds",
        "signal",
        "sizeBytes",
        "successThreshold",
        "denied",
        "authenticated",
        "incomplete",
    ]
)
#: … by type, where the same name is a pointer elsewhere.
_OMIT_ZERO_OF: Final = frozenset({("Probe", "timeoutSeconds"), ("AWSElasticBlockStoreVolumeSource", "partition")})
#: Strings that are pointers: an empty one says something.
_KEEP_EMPTY: Final = frozenset({"storageClassName", "ingressClassName", "containerName"})
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")
_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/=\r\n]")
_MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\Z")


class WrongType(Exception):
    """A value cannot be read as its field's type; the text is Go's.

    Attributes:
        converter: what Go says where the value comes from a strategic merge, not from JSON; empty: the same.
    """

    def __init__(self, text: str, converter: str = "") -> None:
        super().__init__(text)
        self.converter = converter or text


class _Field(NamedTuple):
    scalar: type | None  # a value of exactly this type needs no conversion
    convert: Convert
    omit_empty: bool


def load_openapi() -> dict[str, Any]:
    """The published schemas and paths (``tools/generate_openapi.py``)."""
    data = resources.files("virtual_kubelet.devcluster").joinpath("openapi.json.gz").read_bytes()
    loaded: dict[str, Any] = msgspec.json.decode(gzip.decompress(data))
    return loaded


def show(path: Path) -> str:
    """``spec.containers[0].name``."""
    parts: list[str] = []
    while path is not None:
        path, key = path
        parts.append(f"[{key}]" if isinstance(key, int) else f".{key}")
    return "".join(reversed(parts)).removeprefix(".")


def _go_path(owner: str, path: Path) -> str:
    """As Go's decoder names a field: the struct it belongs to, then all keys without indexes."""
    keys: list[str] = []
    while path is not None:
        path, key = path
        if isinstance(key, str):
            keys.append(key)
    return ".".join([owner, *reversed(keys)])


class Schemas:
    """Turns values into regular ones, by the name of their type (the last part of the schema's name)."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self._by_name = {name.rpartition(".")[2]: schema for name, schema in schemas.items()}
        self._groups = {name.rpartition(".")[2]: _go_package(name) for name in schemas}
        self._compiled: dict[str, Convert] = {}
        self.protobuf = ProtobufDecoder(schemas)

    def regular(self, value: Any, type_name: str, unknown: list[str], path: Path = None) -> Any:
        """``value`` as ``type_name``. Names of unknown fields are added to ``unknown``. Raises ``WrongType``."""
        return self._type(type_name)(value, path, unknown)

    def regular_again(
        self, value: dict[str, Any], type_name: str, unknown: list[str], known: dict[str, Any]
    ) -> dict[str, Any]:
        """``value``, whose members that are those of ``known`` (the same objects) are regular already."""
        changed = {key: item for key, item in value.items() if known.get(key, _ABSENT) is not item}
        made = self.regular(changed, type_name, unknown)
        result = {key: item for key, item in value.items() if key not in changed}
        result.update((key, item) for key, item in made.items() if key not in result)
        return result

    def _type(self, name: str) -> Convert:
        found = self._compiled.get(name)
        if found is None:
            # Types may contain themselves: what is compiled meanwhile refers to the table.
            self._compiled[name] = lambda value, path, unknown: self._compiled[name](value, path, unknown)
            found = self._compiled[name] = self._compile(name, self._by_name[name])
        return found

    def _compile(self, name: str, schema: dict[str, Any]) -> Convert:
        if name == "Quantity":
            return _quantity
        if name == "Time":
            return _time
        if name == "MicroTime":
            return _micro_time
        if name == "IntOrString":
            return _int_or_string
        if "properties" not in schema:
            return _anything
        required = set(schema.get("required", ()))
        fields: dict[str, _Field] = {}
        absent: list[tuple[str, Callable[[], Any]]] = []
        for key, item in schema["properties"].items():
            fields[key] = self._field(name, key, item, key in required)
            if (default := self._default(name, key, item, key in required)) is not None:
                absent.append((key, default))
        return self._struct(f"{self._groups[name]}.{name}", name, fields, absent)

    def _field(self, owner: str, key: str, schema: dict[str, Any], required: bool) -> _Field:
        kind = schema.get("type")
        scalar = _SCALARS.get(kind or "") if kind != "integer" and schema.get("format") != "byte" else None
        if kind == "string":
            omit = not required and key not in _KEEP_EMPTY and (owner, key) not in _ALWAYS
        elif kind in ("array", "object"):
            omit = not required
        else:
            omit = not required and (key in _OMIT_ZERO or (owner, key) in _OMIT_ZERO_OF)
        return _Field(scalar, self._value(owner, schema), omit)

    def _default(self, owner: str, key: str, schema: dict[str, Any], required: bool) -> Callable[[], Any] | None:
        """What makes the value of an absent field; None: it stays absent."""
        if (owner, key) in _NULL_TIMES:
            return lambda: None
        default = schema.get("default")
        if default == {}:
            target = _target(schema)
            if target is None:
                return dict
            return lambda: self._type(target)({}, None, [])
        if default is None:
            return (lambda: None) if required else None
        if required or default or (owner, key) in _ALWAYS:
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
            return self._map(owner, items) if items is not None else _anything
        if kind == "integer":
            return _integer(owner, schema.get("format", "int64"))
        if kind == "string" and schema.get("format") == "byte":
            return _base64(owner)
        if kind in _SCALARS:
            return _scalar(owner, _SCALARS[kind], "bool" if kind == "boolean" else kind)
        return _anything

    def _reference(self, owner: str, target: str) -> Convert:
        if target == "Quantity":
            return _quantity
        compiled = self._compiled
        go_name = f"{self._groups[target]}.{target}"

        def convert(value: Any, path: Path, unknown: list[str]) -> Any:
            if type(value) not in (dict, str, int, float):
                raise _mismatch(value, owner, path, go_name)
            found = compiled.get(target) or self._type(target)
            return found(value, path, unknown)

        return convert

    def _array(self, owner: str, items: dict[str, Any]) -> Convert:
        element = self._value(owner, items)
        go_name = "[]" + self._go_name(items)

        def convert(value: Any, path: Path, unknown: list[str]) -> Any:
            if type(value) is not list:
                raise _mismatch(value, owner, path, go_name)
            # A null element is Go's zero value; only those of structs occur, and validation refuses them.
            return [element({} if v is None else v, (path, i), unknown) for i, v in enumerate(value)]

        return convert

    def _map(self, owner: str, items: dict[str, Any]) -> Convert:
        element = self._value(owner, items)
        plain = str if items.get("type") == "string" and "format" not in items else None
        go_name = "map[string]" + self._go_name(items)

        def convert(value: Any, path: Path, unknown: list[str]) -> Any:
            if type(value) is not dict:
                raise _mismatch(value, owner, path, go_name)
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
    ) -> Convert:
        def convert(value: Any, path: Path, unknown: list[str]) -> dict[str, Any]:
            if type(value) is not dict:
                raise _mismatch(value, name, path, go_name)
            result: dict[str, Any] = {}
            for key, item in value.items():
                field = fields.get(key)
                if field is None:
                    unknown.append(f'unknown field "{show((path, key))}"')
                    continue
                if item is None:
                    continue
                scalar, convert_item, omit_empty = field
                if type(item) is not scalar:
                    item = convert_item(item, (path, key), unknown)
                if item or not omit_empty:
                    result[key] = item
            for key, make in absent:
                if key not in result:
                    result[key] = make()
            return result

        return convert


def _target(schema: dict[str, Any]) -> str | None:
    reference = schema.get("$ref") or (schema["allOf"][0].get("$ref") if "allOf" in schema else None)
    return reference.removeprefix(_REFERENCE).rpartition(".")[2] if reference else None


def _go_package(schema_name: str) -> str:
    return schema_name.split(".")[-2]


_GO_KINDS: Final = {
    str: "string",
    bool: "bool",
    int: "int64",
    float: "float64",
    list: "slice",
    dict: "map",
    type(None): "nil",
}


def json_type(value: Any) -> str:
    """As Go's errors call a value's type."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "null"


def _mismatch(value: Any, owner: str, path: Path, go_type: str) -> WrongType:
    return WrongType(
        f"json: cannot unmarshal {json_type(value)} into Go struct field {_go_path(owner, path)} of type {go_type}",
        _converter_problem(value, go_type),
    )


def _converter_problem(value: Any, go_type: str) -> str:
    """As apimachinery's DefaultUnstructuredConverter says it."""
    kind = _GO_KINDS[type(value)]
    if go_type.startswith("[]"):
        return f"cannot restore slice from {kind}"
    if go_type.startswith("map["):
        return f"cannot restore map from {kind}"
    if go_type in ("string", "bool", "int32", "int64"):
        convertible = (kind, go_type) in (("int64", "string"), ("float64", "int32"), ("float64", "int64"))
        return f"cannot convert {kind} to {go_type}" if convertible else f"unrecognized type: {go_type}"
    if go_type in ("v1.Time", "v1.MicroTime", "resource.Quantity", "intstr.IntOrString"):
        return f"json: cannot unmarshal {json_type(value)} into Go value of type string"
    return f"cannot restore struct from: {kind}"


def _scalar(owner: str, kind: type, go_type: str) -> Convert:
    def convert(value: Any, path: Path, unknown: list[str]) -> Any:
        if type(value) is not kind:
            raise _mismatch(value, owner, path, go_type)
        return value

    return convert


def _base64(owner: str) -> Convert:
    """Bytes: read as Go reads them (line breaks do not count) and written in the one canonical way."""

    def convert(value: Any, path: Path, unknown: list[str]) -> Any:
        if type(value) is not str:
            raise _mismatch(value, owner, path, "[]uint8")
        if not value:
            return value
        text = value.replace("\n", "").replace("\r", "")
        try:
            return base64.b64encode(base64.b64decode(text, validate=True)).decode()
        except ValueError:
            wrong = _NO_BASE64.search(value)
            at = wrong.start() if wrong is not None else len(value) - len(value) % 4
            raise WrongType(f"illegal base64 data at input byte {at}") from None

    return convert


def _integer(owner: str, form: str) -> Convert:
    bound = 1 << (31 if form == "int32" else 63)

    def convert(value: Any, path: Path, unknown: list[str]) -> Any:
        if type(value) is not int:
            raise _mismatch(value, owner, path, form)
        if not -bound <= value < bound:
            where = _go_path(owner, path)
            raise WrongType(f"json: cannot unmarshal number {value} into Go struct field {where} of type {form}")
        return value

    return convert


def _anything(value: Any, path: Path, unknown: list[str]) -> Any:
    return value


def _int_or_string(value: Any, path: Path, unknown: list[str]) -> Any:
    if type(value) not in (int, str):
        raise _mismatch(value, "IntOrString", path, "intstr.IntOrString")
    return value


def _quantity(value: Any, path: Path, unknown: list[str]) -> Any:
    if type(value) not in (str, int, float):
        raise _mismatch(value, "Quantity", path, "resource.Quantity")
    return canonical_quantity(str(value))


@lru_cache(maxsize=4096)
def canonical_quantity(text: str) -> str:
    """The one way to write this quantity. Raises ``WrongType``."""
    try:
        return str(Quantity(text.strip()))
    except ValueError:
        raise WrongType(
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
        ) from None


def _time(value: Any, path: Path, unknown: list[str]) -> Any:
    if type(value) is str and _TIME.match(value):
        return value
    return format_time(_moment(value, path))


def _micro_time(value: Any, path: Path, unknown: list[str]) -> Any:
    if type(value) is str and _MICRO_TIME.match(value):
        return value
    return format_micro_time(_moment(value, path))


def _moment(value: Any, path: Path) -> Any:
    if type(value) is not str:
        raise _mismatch(value, "Time", path, "v1.Time")
    try:
        return parse_time(value)
    except ValueError:
        raise WrongType(
            f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00": cannot parse "{value}" as "2006"'
        ) from None

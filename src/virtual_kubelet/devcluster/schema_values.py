"""Single values made regular, with the words of Go for those of the wrong type. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeAlias

from virtual_kubelet.devcluster.go_time import time_problem
from virtual_kubelet.devcluster.statuses import quoted
from virtual_kubelet.objects.quantity import Quantity
from virtual_kubelet.objects.times import format_micro_time, format_time, parse_time

__all__ = [
    "PLAIN_MICRO_TIME",
    "PLAIN_TIME",
    "Convert",
    "Path",
    "WrongType",
    "any_value",
    "base64_value",
    "canonical_quantity",
    "int_or_string",
    "integer_value",
    "json_type",
    "micro_time_value",
    "mismatch",
    "quantity_value",
    "scalar_value",
    "show",
    "time_value",
]

#: Where in an object: (where the parent is, key or index); None is the object itself.
Path: TypeAlias = "tuple[Path, str | int] | None"
Convert: TypeAlias = Callable[[Any, Path, list[str]], Any]
#: Times as they are written, of days that every month has: the usual case, which needs no ``time_value``.
_MOMENT: Final = r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){2}"
PLAIN_TIME: Final = re.compile(_MOMENT + "Z")
PLAIN_MICRO_TIME: Final = re.compile(_MOMENT + r"\.[0-9]{6}Z")
_NO_BASE64 = re.compile(r"[^A-Za-z0-9+/=\r\n]")


class WrongType(Exception):
    """A value cannot be read as its field's type; the text is Go's.

    Attributes:
        converter: what Go says where the value comes from a strategic merge, not from JSON; empty: the same.
    """

    def __init__(self, text: str, converter: str = "") -> None:
        super().__init__(text)
        self.converter = converter or text


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


def mismatch(value: Any, owner: str, path: Path, go_type: str) -> WrongType:
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


def scalar_value(owner: str, kind: type, go_type: str) -> Convert:
    def convert(value: Any, path: Path, unknown: list[str]) -> Any:
        if type(value) is not kind:
            raise mismatch(value, owner, path, go_type)
        return value

    return convert


def base64_value(owner: str) -> Convert:
    """Bytes: read as Go reads them (line breaks do not count) and written in the one canonical way."""

    def convert(value: Any, path: Path, unknown: list[str]) -> Any:
        if type(value) is not str:
            raise mismatch(value, owner, path, "[]uint8")
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


def integer_value(owner: str, form: str) -> Convert:
    bound = 1 << (31 if form == "int32" else 63)

    def convert(value: Any, path: Path, unknown: list[str]) -> Any:
        if type(value) is not int:
            raise mismatch(value, owner, path, form)
        if not -bound <= value < bound:
            where = _go_path(owner, path)
            raise WrongType(f"json: cannot unmarshal number {value} into Go struct field {where} of type {form}")
        return value

    return convert


def any_value(value: Any, path: Path, unknown: list[str]) -> Any:
    return value


def int_or_string(value: Any, path: Path, unknown: list[str]) -> Any:
    if type(value) not in (int, str):
        raise mismatch(value, "IntOrString", path, "intstr.IntOrString")
    return value


def quantity_value(value: Any, path: Path, unknown: list[str]) -> Any:
    if type(value) not in (str, int, float):
        raise mismatch(value, "Quantity", path, "resource.Quantity")
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


def time_value(value: Any, path: Path, unknown: list[str]) -> Any:
    return format_time(_moment(value, path))


def micro_time_value(value: Any, path: Path, unknown: list[str]) -> Any:
    return format_micro_time(_moment(value, path, micro=True))


def _moment(value: Any, path: Path, *, micro: bool = False) -> datetime:
    if type(value) is not str:
        raise mismatch(value, "MicroTime" if micro else "Time", path, "v1.MicroTime" if micro else "v1.Time")
    if problem := time_problem(value, micro=micro):
        raise WrongType(problem)
    try:
        return parse_time(value)
    except ValueError:
        # A year that Python cannot count, or a comma before the fraction.
        raise WrongType(f"parsing time {quoted(value)}: out of range") from None

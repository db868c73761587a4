"""YAML bodies as the API server reads them (go-yaml 2 and its way to JSON), one event after the other. Pure.

Not PyYAML's own constructor: its composer recurses, it takes ``1:30`` for a number and expands aliases without end.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from typing import Any, Final

import yaml

from virtual_kubelet.devcluster.go_json import NotJson

__all__ = ["decode_go_yaml"]

_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_MOST_NESTED: Final = 10_000
#: Values that aliases may stand for, all together; a document of a megabyte has no more of its own.
_MOST_ALIASED: Final = 400_000
_TAG: Final = "tag:yaml.org,2002:"
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
}
_SPECIAL: Final = frozenset(
    [*(f"{sign}.{word}" for sign in ("", "+", "-") for word in ("inf", "Inf", "INF")), ".nan", ".NaN", ".NAN"]
)
#: What Python and what libyaml say of bytes that are no UTF-8.
_OCTETS: Final = {
    "invalid start byte": "invalid leading UTF-8 octet",
    "invalid continuation byte": "invalid trailing UTF-8 octet",
    "unexpected end of data": "incomplete UTF-8 octet sequence",
}
_INTEGER: Final = re.compile(r"[-+]?(0[xX][0-9a-fA-F]+|0o?[0-7]*|[1-9][0-9]*|0b[01]+)\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")


def decode_go_yaml(data: bytes, repeated: list[str]) -> Any:
    """The first document of ``data`` as plain values; ``repeated``: what is said of keys that are there twice.

    Raises ``NotJson`` with go-yaml's words.
    """
    try:
        return _Builder(repeated).build(yaml.parse(data.decode(), Loader=_Loader))
    except UnicodeDecodeError as error:
        raise NotJson(f"yaml: {_OCTETS[error.reason]}") from None
    except yaml.MarkedYAMLError as error:
        raise NotJson(_words(error)) from None
    except yaml.YAMLError as error:
        raise NotJson(f"yaml: {getattr(error, 'reason', None) or 'control characters are not allowed'}") from None


def _words(error: yaml.MarkedYAMLError) -> str:
    line = 0
    for mark in (error.context_mark, error.problem_mark):
        if mark is not None and mark.line:
            line = mark.line + isinstance(error, yaml.scanner.ScannerError)
            break
    where = f"line {line}: " if line else ""
    problem = error.problem or "unknown problem parsing YAML content"
    if "maximum nesting" in problem:  # libyaml gives up earlier than go-yaml
        problem = f"exceeded max depth of {_MOST_NESTED}"
    return f"yaml: {where}{problem}"


class _Open:
    """A mapping or a sequence whose end has not come."""

    __slots__ = ("anchor", "key", "merged", "value", "wants_key", "weight")

    def __init__(self, value: dict[str, Any] | list[Any], anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.wants_key = isinstance(value, dict)
        self.key: str | None = ""  # None: what comes is merged (<<)
        self.merged: list[dict[str, Any]] = []
        self.weight = 1


class _Builder:
    def __init__(self, repeated: list[str]) -> None:
        self._repeated = repeated
        self._open: list[_Open] = []
        #: Values by anchor, and how many values they are with all that is in them.
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._aliased = 0
        self._result: Any = None

    def build(self, events: Iterable[yaml.Event]) -> Any:
        for event in events:
            if isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._start(event)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                self._end()
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
            elif isinstance(event, yaml.DocumentEndEvent):
                break
        if self._repeated:
            self._repeated[:] = ["yaml: unmarshal errors:\n" + "\n".join(self._repeated)]
        return self._result

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        around = self._open[-1] if self._open else None
        line = _line(event)
        if around is not None and around.wants_key:
            around.wants_key = False
            if event.value == "<<" and event.implicit[0]:
                around.key = None
                return
            around.key = _key(_value(event))
            if around.key in around.value:
                self._repeated.append(f'  line {line}: key "{around.key}" already set in map')
            return
        value = _value(event)
        if event.anchor:
            self._anchors[event.anchor] = (value, 1)
        self._put(value, 1)

    def _start(self, event: yaml.CollectionStartEvent) -> None:
        if self._open and self._open[-1].wants_key:
            kind = "map" if isinstance(event, yaml.MappingStartEvent) else "slice"
            raise NotJson(f"yaml: invalid map key: a {kind} (line {_line(event)})")
        if len(self._open) >= _MOST_NESTED:
            raise NotJson(f"yaml: exceeded max depth of {_MOST_NESTED}")
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._open.append(_Open(value, event.anchor))

    def _end(self) -> None:
        ended = self._open.pop()
        if isinstance(ended.value, dict):
            for merged in ended.merged:
                for key, item in merged.items():
                    ended.value.setdefault(key, item)
        if ended.anchor:
            self._anchors[ended.anchor] = (ended.value, ended.weight)
        self._put(ended.value, ended.weight)

    def _alias(self, event: yaml.AliasEvent) -> None:
        found = self._anchors.get(event.anchor or "")
        if found is None:
            if any(around.anchor == event.anchor for around in self._open):
                raise NotJson(f"yaml: anchor '{event.anchor}' value contains itself")
            raise NotJson(f"yaml: unknown anchor '{event.anchor}' referenced")
        value, weight = found
        around = self._open[-1]
        if around.wants_key:
            around.key, around.wants_key = _key(value), False
            return
        self._aliased += weight
        if self._aliased > _MOST_ALIASED:
            raise NotJson("yaml: document contains excessive aliasing")
        self._put(value, weight)

    def _put(self, value: Any, weight: int) -> None:
        if not self._open:
            self._result = value
            return
        around = self._open[-1]
        around.weight += weight
        if isinstance(around.value, list):
            around.value.append(value)
            return
        around.wants_key = True
        if around.key is not None:
            around.value[around.key] = value
            return
        sources = value if isinstance(value, list) else [value]
        if not all(isinstance(source, dict) for source in sources):
            raise NotJson("yaml: map merge requires map or sequence of maps as the value")
        around.merged += sources


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0


def _key(value: Any) -> str:
    """Keys of objects are strings; the others become what Go writes for them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if value is None:
        return "null"
    raise NotJson(f"yaml: invalid map key: {value!r}")


def _value(event: yaml.ScalarEvent) -> Any:
    text, tag = event.value, event.tag
    if tag == _TAG + "binary":
        try:
            return base64.b64decode(text, validate=False).decode(errors="replace")
        except ValueError:
            raise NotJson("yaml: !!binary value contains invalid base64 data") from None
    if tag is not None and tag != "!" and tag.startswith(_TAG) and tag != _TAG + "str":
        return _resolved(text)
    return _resolved(text) if tag is None and event.implicit[0] else text


def _resolved(text: str) -> Any:
    """What a scalar without quotes is."""
    if text in _NULL:
        return None
    found = _BOOLEANS.get(text)
    if found is not None:
        return found
    plain = text.replace("_", "")
    if plain and plain[0] in "+-.0123456789":
        if _INTEGER.match(plain):
            return _number(plain)
        if text in _SPECIAL:
            shown = "NaN" if text[-1] in "nN" else "-Inf" if text[0] == "-" else "+Inf"
            raise NotJson(f"json: unsupported value: {shown}")
        if _FLOAT.match(plain):
            value = float(plain)
            return int(value) if value.is_integer() and abs(value) < 1e21 else value
    return text


def _number(text: str) -> int | float:
    sign, digits = (-1 if text[0] == "-" else 1), text.lstrip("+-").lower()
    base = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2])
    if base is not None:
        value = sign * int(digits[2:] or "0", base)
    else:
        value = sign * int(digits, 8 if digits[0] == "0" else 10)
    return value if -(1 << 63) <= value < 1 << 64 else float(value)

"""Label and field selectors, parsed as apimachinery does. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from virtual_kubelet.devcluster.names import label_value_problems, qualified_name_problems
from virtual_kubelet.devcluster.statuses import StatusError, bad_request

__all__ = [
    "FieldSelector",
    "LabelSelector",
    "Requirement",
    "check_fields",
    "parse_field_selector",
    "parse_label_selector",
]

_TOKEN: Final = re.compile(r"\s*(?:(?P<op>==|!=|=|!|\(|\)|,|<|>)|(?P<word>[^\s=!(),<>]+))")
#: Operators between a key and one value, and what they come to.
_BINARY: Final = {"=": "in", "==": "in", "!=": "notin", ">": "gt", "<": "lt"}


class Requirement(NamedTuple):
    """One term: ``operator`` is ``in``, ``notin``, ``exists``, ``!``, ``gt`` or ``lt``."""

    key: str
    operator: str
    values: frozenset[str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator == "in":
            return value is not None and value in self.values
        if self.operator == "notin":
            return value is None or value not in self.values
        if self.operator == "exists":
            return value is not None
        if self.operator == "!":
            return value is None
        try:
            number, bound = int(value or ""), int(next(iter(self.values)))
        except ValueError:
            return False
        return number > bound if self.operator == "gt" else number < bound


class LabelSelector(tuple[Requirement, ...]):
    """All of its requirements must hold; an empty one selects everything."""

    __slots__ = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self)


class FieldTerm(NamedTuple):
    field: str
    value: str
    equal: bool


class FieldSelector(tuple[FieldTerm, ...]):
    """All of its terms must hold; an empty one selects everything."""

    __slots__ = ()

    def matches(self, key: tuple[str, str], fields: Mapping[str, str]) -> bool:
        for field, value, equal in self:
            if field == "metadata.name":
                found = key[1]
            elif field == "metadata.namespace":
                found = key[0]
            else:
                found = fields.get(field, "")
            if (found == value) is not equal:
                return False
        return True

    def exactly(self, field: str) -> str | None:
        """The value that ``field`` must have, if the selector says."""
        for term in self:
            if term.field == field and term.equal:
                return term.value
        return None


def parse_label_selector(text: str) -> LabelSelector:
    """``a=b,c!=d,e in (f,g),!h``. Raises ``StatusError`` 400, with the sentences of apimachinery's parser."""
    if not text.strip():
        return LabelSelector()
    try:
        return LabelSelector(_LabelParser(text).parse())
    except _Malformed as error:
        raise bad_request(str(error)) from None


class _Malformed(Exception):
    """Why a label selector is none."""


class _LabelParser:
    """apimachinery's recursive descent; ``in`` and ``notin`` are words but where an operator is due."""

    def __init__(self, text: str) -> None:
        tokens = _TOKEN.findall(text)
        self._tokens: list[str] = [operator or word for operator, word in tokens]
        self._words = [bool(word) for _, word in tokens]
        self._next = 0

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _is_word(self) -> bool:
        return self._next < len(self._tokens) and self._words[self._next]

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def parse(self) -> list[Requirement]:
        found: list[Requirement] = []
        if not self._is_word() and self._peek() != "!":
            raise _Malformed(f"found '{self._peek()}', expected: !, identifier, or 'end of string'")
        while True:
            try:
                found.append(self._requirement())
            except _Malformed as error:
                raise _Malformed(f"unable to parse requirement: {error}") from None
            token = self._take()
            if not token:
                return found
            if token != ",":
                raise _Malformed(f"found '{token}', expected: ',' or 'end of string'")
            if not self._is_word() and self._peek() != "!":
                raise _Malformed(f"found '{self._peek()}', expected: identifier after ','")

    def _requirement(self) -> Requirement:
        absent = self._peek() == "!"
        if absent:
            self._next += 1
        if not self._is_word():
            raise _Malformed(f"found '{self._peek()}', expected: identifier")
        key = self._take()
        if problems := qualified_name_problems(key):
            raise _Malformed(f'<nil>: Invalid value: "{key}": {"; ".join(problems)}')
        if absent:
            return Requirement(key, "!", frozenset())
        if self._peek() in ("", ","):
            return Requirement(key, "exists", frozenset())
        operator = self._take()
        if operator in ("in", "notin"):
            values = self._values()
        elif operator in _BINARY:
            values = frozenset([self._exact_value()])
        else:
            raise _Malformed(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")
        self._check(key, operator, values)
        return Requirement(key, _BINARY.get(operator, operator), values)

    def _exact_value(self) -> str:
        if self._peek() in ("", ","):
            return ""
        if not self._is_word():
            raise _Malformed(f"found '{self._peek()}', expected: identifier")
        return self._take()

    def _values(self) -> frozenset[str]:
        if (token := self._take()) != "(":
            raise _Malformed(f"found '{token}' expected: '('")
        if self._peek() == ")":
            self._next += 1
            return frozenset([""])
        if not self._is_word() and self._peek() != ",":
            raise _Malformed(f"found '{self._peek()}', expected: ',', ')' or identifier")
        values: set[str] = set()
        while True:
            if self._is_word():
                values.add(self._take())
                if self._peek() not in (",", ")"):
                    raise _Malformed(f"found '{self._peek()}', expected: ',' or ')'")
            elif self._peek() == ",":
                self._next += 1
                if not values or self._peek() in (")", ","):
                    values.add("")
            else:
                raise _Malformed(f"found '{self._peek()}', expected: ',', or identifier")
            if self._peek() == ")":
                self._next += 1
                return frozenset(values)

    @staticmethod
    def _check(key: str, operator: str, values: frozenset[str]) -> None:
        problems: list[str] = []
        for index, value in enumerate(sorted(values)):
            if operator in "<>" and not re.fullmatch(r"[+-]?\d{1,19}", value, re.ASCII):
                detail = "for 'Gt', 'Lt' operators, the value must be an integer"
                problems.append(f'values[{index}]: Invalid value: "{value}": {detail}')
            where = f'values[{index}][{key}]: Invalid value: "{value}"'
            problems += [f"{where}: {problem}" for problem in label_value_problems(value)]
        if problems:
            raise _Malformed(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def parse_field_selector(text: str) -> FieldSelector:
    """``a=b,c!=d``. Raises ``StatusError`` 400."""
    terms: list[FieldTerm] = []
    for part in _split(text):
        if not part:
            continue
        match = re.match(r"([^=!]*)(==|!=|=)(.*)\Z", part, re.DOTALL)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        field, operator, value = match.groups()
        terms.append(FieldTerm(field, _unescape(value), operator != "!="))
    # What says nothing selects everything.
    return FieldSelector(term for term in terms if term.field or term.value)


def check_fields(selector: FieldSelector, supported: Collection[str], *, namespaced: bool) -> None:
    """Whether the kind supports all of its fields (its name always is). Raises ``StatusError`` 400."""
    for field, _, _ in selector:
        if field in supported or field == "metadata.name" or (namespaced and field == "metadata.namespace"):
            continue
        raise _unsupported(field, supported)


def _unsupported(field: str, supported: Collection[str]) -> StatusError:
    if supported:
        return bad_request(f"field label not supported: {field}")
    return bad_request(f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"')


def _split(text: str) -> list[str]:
    parts, part, escaped = [], "", False
    for character in text:
        if escaped:
            part += character
            escaped = False
        elif character == ",":
            parts.append(part)
            part = ""
        else:
            part += character
            escaped = character == "\\"
    return [*parts, part]


def _unescape(value: str) -> str:
    result, escaped = "", False
    for character in value:
        if escaped:
            if character not in "\\,=":
                raise bad_request(f"invalid field selector: invalid escape sequence: \\{character}")
            result += character
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in ",=":
            raise bad_request(f"invalid field selector: unescaped character in value: {ord(character)}")
        else:
            result += character
    if escaped:
        raise bad_request("invalid field selector: value ends with an escape character")
    return result

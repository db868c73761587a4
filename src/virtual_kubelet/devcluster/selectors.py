"""Label and field selectors, parsed as apimachinery does. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from virtual_kubelet.devcluster.statuses import StatusError, bad_request

__all__ = ["FieldSelector", "LabelSelector", "Requirement", "parse_field_selector", "parse_label_selector"]

_TOKEN: Final = re.compile(r"\s*(?:(?P<op>==|!=|=|!|\(|\)|,|<|>)|(?P<word>[^\s=!(),<>]+))")
_LABEL_NAME: Final = re.compile(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?\Z")
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?\Z")


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
    """``a=b,c!=d,e in (f,g),!h``. Raises ``StatusError`` 400."""
    if not text.strip():
        return LabelSelector()
    parser = _LabelParser(text)
    return LabelSelector(parser.parse())


class _LabelParser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position = 0
        text = text.strip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise bad_request(f"unable to parse requirement: found '{text[position]}', expected: identifier")
            self._tokens.append(match.group("op") or match.group("word"))
            position = match.end()
        self._next = 0

    def _peek(self) -> str:
        return self._tokens[self._next] if self._next < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._next += 1
        return token

    def parse(self) -> list[Requirement]:
        found = [self._requirement()]
        while (token := self._take()) == ",":
            found.append(self._requirement())
        if token:
            raise bad_request(f"found '{token}', expected: ',' or 'end of string'")
        return found

    def _requirement(self) -> Requirement:
        token = self._take()
        if token == "!":
            return Requirement(self._key(self._take()), "!", frozenset())
        key = self._key(token)
        operator = self._peek()
        if operator in ("", ","):
            return Requirement(key, "exists", frozenset())
        self._next += 1
        if operator in ("=", "==", "!="):
            value = self._take() if self._peek() not in ("", ",") else ""
            return Requirement(key, "notin" if operator == "!=" else "in", frozenset([self._value(key, value)]))
        if operator in ("in", "notin"):
            return Requirement(key, operator, self._values(key))
        if operator in (">", "<"):
            value = self._take()
            if not re.fullmatch(r"[+-]?\d{1,19}", value):
                raise bad_request(
                    f"values[0][{key}]: Invalid value: \"{value}\": for 'Gt', 'Lt' operators, the value must be an integer"
                )
            return Requirement(key, "gt" if operator == ">" else "lt", frozenset([value]))
        expected = "in, notin, =, ==, !=, gt, lt"
        raise bad_request(f"unable to parse requirement: found '{operator}', expected: {expected}")

    def _values(self, key: str) -> frozenset[str]:
        if (token := self._take()) != "(":
            raise bad_request(f"unable to parse requirement: found '{token}', expected: '('")
        values: list[str] = []
        expect_value = True
        while (token := self._take()) != ")":
            if token == ",":
                if expect_value:
                    values.append("")
                expect_value = True
            elif token and expect_value:
                values.append(self._value(key, token))
                expect_value = False
            else:
                raise bad_request(f"unable to parse requirement: found '{token}', expected: ',', or ')'")
        if expect_value:
            values.append("")
        return frozenset(values)

    @staticmethod
    def _key(token: str) -> str:
        if not _LABEL_NAME.match(token):
            raise bad_request(
                f'unable to parse requirement: <nil>: Invalid value: "{token}": name part must consist of alphanumeric '
                "characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or "
                "'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            )
        return token

    @staticmethod
    def _value(key: str, value: str) -> str:
        if not _LABEL_VALUE.match(value):
            raise bad_request(
                f'unable to parse requirement: values[0][{key}]: Invalid value: "{value}": a valid label must be an empty '
                "string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
                "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            )
        return value


def parse_field_selector(text: str, supported: Collection[str]) -> FieldSelector:
    """``a=b,c!=d``, of fields that the kind supports (name and namespace always are). Raises ``StatusError`` 400."""
    terms: list[FieldTerm] = []
    for part in _split(text):
        if not part:
            continue
        match = re.match(r"([^=!]*)(==|!=|=)(.*)\Z", part, re.DOTALL)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        field, operator, value = match.groups()
        if field not in supported and field not in ("metadata.name", "metadata.namespace"):
            raise _unsupported(field, supported)
        terms.append(FieldTerm(field, _unescape(value), operator != "!="))
    return FieldSelector(terms)


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
            raise bad_request(f"invalid field selector: unescaped character in value: {character}")
        else:
            result += character
    if escaped:
        raise bad_request("invalid field selector: value ends with an escape character")
    return result

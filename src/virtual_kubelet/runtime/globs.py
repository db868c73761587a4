"""Globs, as Go's ``filepath.Match`` knows them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

__all__ = ["matches_glob"]

#: One character of a pattern: the ranges it may be in, and whether that is negated; None: any number of characters.
_Token: TypeAlias = tuple[bool, Sequence[tuple[str, str]]] | None
_ANY: Final[_Token] = (True, ())


def matches_glob(pattern: str, text: str) -> bool:
    """Go's ``filepath.Match`` without path separators: ``*``, ``?``, ``[a-z]``, ``[^a]``, and a backslash before any.

    In time that is pattern times text: a pattern comes from a Secret, and Secrets are written by users.
    """
    tokens = _tokens(pattern)
    if tokens is None:
        return False
    token = position = 0
    star, resume = -1, 0  # the last ``*``, and where in the text what follows it is tried next
    while position < len(text):
        if token < len(tokens) and tokens[token] is None:
            star, resume = token, position
            token += 1
        elif token < len(tokens) and _takes(tokens[token], text[position]):
            token, position = token + 1, position + 1
        elif star >= 0:
            resume += 1
            token, position = star + 1, resume
        else:
            return False
    return all(rest is None for rest in tokens[token:])


def _takes(token: _Token, character: str) -> bool:
    assert token is not None
    negated, ranges = token
    return any(first <= character <= last for first, last in ranges) is not negated


def _tokens(pattern: str) -> list[_Token] | None:
    """None: the pattern is malformed, and fits nothing."""
    tokens: list[_Token] = []
    rest = list(reversed(pattern))

    def take() -> str:
        """One literal character, escaped or not."""
        character = rest.pop()
        return rest.pop() if character == "\\" else character

    try:
        while rest:
            if rest[-1] == "*":
                rest.pop()
                tokens.append(None)
            elif rest[-1] == "?":
                rest.pop()
                tokens.append(_ANY)
            elif rest[-1] == "[":
                rest.pop()
                negated = rest[-1] == "^"
                if negated:
                    rest.pop()
                ranges: list[tuple[str, str]] = []
                while rest[-1] != "]" or not ranges:
                    if rest[-1] in "-]":
                        return None
                    first = last = take()
                    if rest[-1] == "-":
                        rest.pop()
                        if rest[-1] in "-]":
                            return None
                        last = take()
                    ranges.append((first, last))
                rest.pop()
                tokens.append((negated, ranges))
            else:
                character = take()
                tokens.append((False, [(character, character)]))
    except IndexError:
        return None
    return tokens

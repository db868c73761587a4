"""``$(NAME)`` in commands, arguments and variables (third_party/forked/golang/expansion in Kubernetes). Pure."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["expand"]


def expand(text: str, *variables: Mapping[str, str]) -> str:
    """Replace each ``$(NAME)`` by its value in the first mapping that has it.

    An unknown name stays as it is; ``$$`` is a ``$``; an unterminated ``$(`` and a lone ``$`` stay.
    """
    if "$" not in text:
        return text
    parts: list[str] = []
    position = 0
    last_end = text.rfind(")")  # so that many unterminated references do not each look through the rest
    while True:
        start = text.find("$", position)
        if start < 0 or start + 1 >= len(text):
            parts.append(text[position:])
            return "".join(parts)
        parts.append(text[position:start])
        following = text[start + 1]
        if following == "$":
            parts.append("$")
            position = start + 2
        elif following == "(":
            end = text.find(")", start + 2) if start < last_end else -1
            if end < 0:
                parts.append("$(")
                position = start + 2
            else:
                name = text[start + 2 : end]
                parts.append(next((v[name] for v in variables if name in v), text[start : end + 1]))
                position = end + 1
        else:
            parts.append("$" + following)
            position = start + 2

"""Transcripts of a shell session: commands and what they print, with placeholders for what differs in every run. Pure.

A transcript is text:

    # a comment
    $ kubectl get pod nosuch
    ! Error from server (NotFound): pods "nosuch" not found
    [exit 1]

After the command (``> `` continues it) come the lines of stdout, those of stderr with ``! ``, and the exit code unless it
is 0. A line or command that only one kind of server (``dev``, ``debian``) or one version of kubectl (``v136``) gives begins
with ``KIND|`` or ``KIND$``. ``{name}`` stands for what
``PLACEHOLDERS`` says or for a value of the run, a line ``...`` for any number of lines. Columns are as wide as what is in
them, so two spaces match any number of them; so do indentations of eight and more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

PLACEHOLDERS: Final = {
    "age": r"\d+[smhdy](?:\d+[smhdy])?",
    "any": r".+?",
    "ip": r"\d+\.\d+\.\d+\.\d+",
    "number": r"\d+",
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z",
    "date": r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}",
    "uid": r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    "url": r"https://127\.0\.0\.1:\d+",
}
ANY_LINES: Final = "..."
KINDS: Final = frozenset({"dev", "debian", "v136", "v137"})
_COMMAND: Final = re.compile(r"(?:(\w+))?\$ (.*)")
_ONLY: Final = re.compile(r"(\w+)\|(.*)")
_EXIT: Final = re.compile(r"\[exit (\d+)\]")
_NAME: Final = re.compile(r"\{([a-z]+)\}")


@dataclass
class Step:
    """A command and what is expected of it, as it stands in the transcript."""

    line: int
    command: str
    out: list[str] = field(default_factory=list)
    err: list[str] = field(default_factory=list)
    code: int = 0


def parse(text: str, *kinds: str) -> list[Step]:
    """The steps of a transcript for one kind of server and one version of kubectl. Raises ``ValueError``."""
    steps: list[Step] = []
    step: Step | None = None
    skipping = continued = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("# "):
            continue
        if (command := _COMMAND.match(line)) is not None:
            continued, skipping = True, command[1] not in (None, *kinds)
            if not skipping:
                step = Step(number, command[2])
                steps.append(step)
            continue
        if skipping:
            continue
        if step is None:
            if line:
                raise ValueError(f"line {number}: no command yet")
            continue
        if continued and line.startswith("> "):
            step.command += "\n" + line[2:]
            continue
        continued = False
        if (only := _ONLY.match(line)) is not None and only[1] in KINDS:
            if only[1] not in kinds:
                continue
            line = only[2]
        if (code := _EXIT.fullmatch(line)) is not None:
            step.code = int(code[1])
        elif line == "!" or line.startswith("! "):
            step.err.append(line[2:])
        else:
            step.out.append(line)
    return steps


def normal(line: str) -> str:
    """A line without what the width of columns decides."""
    line = line.rstrip()
    body = line.lstrip(" ")
    indentation = min(len(line) - len(body), 8)
    return " " * indentation + re.sub(r" {2,}", "  ", body)


def fill(text: str, values: Mapping[str, str]) -> str:
    """``text`` with the values of this run; other placeholders stay."""
    return _NAME.sub(lambda found: values.get(found[1], found[0]), text)


def mismatch(expected: list[str], actual: str, values: Mapping[str, str]) -> str:
    """What is wrong with ``actual``; empty if it is as expected."""
    lines = [normal(line) for line in actual.rstrip("\n").split("\n")] if actual.strip() else []
    wanted = [normal(fill(line, values)) for line in expected]
    while wanted and not wanted[-1]:
        wanted.pop()
    pattern = "".join(r"(?:.*\n)*?" if line == ANY_LINES else _pattern(line) + "\n" for line in wanted)
    if re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)):
        return ""
    return "\n".join(_difference(wanted, lines))


def _pattern(line: str) -> str:
    parts = _NAME.split(line)
    return "".join(
        re.escape(part) if index % 2 == 0 else PLACEHOLDERS.get(part, re.escape("{" + part + "}"))
        for index, part in enumerate(parts)
    )


def _difference(wanted: list[str], lines: list[str]) -> list[str]:
    shown: list[str] = []
    rest = list(lines)
    for want in wanted:
        if want == ANY_LINES:
            shown.append(f"  {want}")
            continue
        index = next((i for i, line in enumerate(rest) if re.fullmatch(_pattern(want), line)), None)
        if index is None:
            shown.append(f"- {want}")
        else:
            shown += [f"+ {line}" for line in rest[:index]]
            shown.append(f"  {rest[index]}")
            del rest[: index + 1]
    return [*shown, *(f"+ {line}" for line in rest)]

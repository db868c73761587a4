"""What the recorded pods' commands do, in virtual time: as much of a shell as they use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Ended", "Program", "World"]


@dataclass
class World:
    """Files that containers of one pod share, and lines in them (``/s/n``)."""

    lines: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    code: int
    reason: str | None = None


#: A time in seconds since the start, and what happens then.
Step = tuple[float, "Ended | tuple[str, str]"]


class Program:
    """One run of ``sh -c SCRIPT``. ``steps``: what it does by itself; None as its end: it never ends."""

    def __init__(self, command: Sequence[str], world: World) -> None:
        self.missing = command[0] != "sh"
        script = command[-1] if not self.missing else ""
        self.trap: str | None = None
        self.world = world
        self.steps: list[Step] = list(self._run(script))

    def _run(self, script: str) -> Iterator[Step]:
        now, code = 0.0, 0
        for statement in _statements(script):
            words = statement.split()
            if statement.startswith("trap "):
                self.trap = statement.split('"')[1]
            elif words[0] == "sleep":
                now += float(words[1])
            elif words[0] == "exit":
                yield now, Ended(int(words[1]))
                return
            elif words[0] in ("touch", "rm"):
                yield now, (words[0], words[1])
            elif words[0] == "httpd":
                yield now, ("touch", ":8080")
            elif words[0] == "pkill":
                yield now, ("rm", ":8080")
            elif statement.startswith("echo x >>"):
                self.world.lines["n"] = self.world.lines.get("n", 0) + 1
            elif (enough := re.match(r"\[ \$\(wc -l <\$f\) -ge (\d+) \](?: && exit (\d+))?", statement)) is not None:
                there = self.world.lines.get("n", 0) >= int(enough[1])
                if enough[2] is not None and there:
                    yield now, Ended(int(enough[2]))
                    return
                code = 0 if there else 1
            elif words[0] == "echo":
                target = "log" if ">" not in statement else "message"
                yield now, (target, words[1] + "\n")
            elif words[0] == "while":
                if "x=$x$x" in statement:
                    yield now + 1, Ended(137, "OOMKilled")
                return
            elif words[0] == "false":
                code = 1
        yield now, Ended(code)

    def on_term(self) -> tuple[float, int] | None:
        """After how long, and with what, it ends; None: it is process 1 and has no handler, or an empty one."""
        if not self.trap:
            return None
        now = 0.0
        for statement in self.trap.split(";"):
            words = statement.split()
            if words[0] == "sleep":
                now += float(words[1])
            if words[0] == "exit":
                return now, int(words[1])
        return None


def _statements(script: str) -> list[str]:
    """Split at ``;``, loops and quotes as one."""
    found = re.findall(r"\s*while .*?done|\s*trap \"[^\"]*\" TERM|[^;]+", script)
    return [one.strip() for one in found if one.strip()]

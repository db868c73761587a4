"""What a pod asks the mock to do, by annotations ``mock.virtual-kubelet.io/…``. Pure.

========================  =============================================================================================
``start-delay``           seconds until the pod is Running; until then its containers wait (ContainerCreating)
``run-for``               seconds until its containers end; without it they run until they are deleted
``exit-code``             with which they end then (0)
``create-error``          ``transient``, ``invalid`` or ``unknown``: creation fails so …
``create-error-times``    … so many times (1; ``always``)
``delete-delay``          seconds a deletion takes; ``never``: it ignores being deleted
``logs``                  what its containers write, instead of a line about themselves
``exec``                  JSON: a command, its words with blanks between, to ``{"stdout": …, "stderr": …, "exitCode": …}``;
                          with ``"stdin": true`` it writes what it is sent to stdout first. Other commands do not exist
``echo-ports``            numbers with commas between: ports that send back what they are sent; others refuse
========================  =============================================================================================
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from virtual_kubelet import InvalidInputError

__all__ = ["PREFIX", "Command", "Script", "script_of"]

PREFIX: Final = "mock.virtual-kubelet.io/"


@dataclass(frozen=True, slots=True)
class Command:
    """What a command does."""

    stdout: str = ""
    stderr: str = ""
    exit_code: int = 0
    stdin: bool = False


@dataclass(frozen=True, slots=True)
class Script:
    """See the module's docstring; times are seconds."""

    start_delay: float = 0.0
    run_for: float | None = None
    exit_code: int = 0
    create_error: str = ""
    create_error_times: float = 1
    delete_delay: float = 0.0
    logs: str | None = None
    commands: Mapping[str, Command] = field(default_factory=dict)
    echo_ports: frozenset[int] = frozenset()


_NOTHING: Final = Script()


def script_of(annotations: Mapping[str, str] | None) -> Script:
    """Raises ``InvalidInputError`` if one is malformed or unknown."""
    if not annotations:
        return _NOTHING
    told = {key[len(PREFIX) :]: value for key, value in annotations.items() if key.startswith(PREFIX)}
    if not told:
        return _NOTHING
    try:
        script = Script(
            start_delay=_seconds(told.pop("start-delay", "0")),
            run_for=_seconds(told.pop("run-for")) if "run-for" in told else None,
            exit_code=int(told.pop("exit-code", "0")),
            create_error=told.pop("create-error", ""),
            create_error_times=_times(told.pop("create-error-times", "1")),
            delete_delay=_times(told.pop("delete-delay", "0"), "never"),
            logs=told.pop("logs", None),
            commands=_commands(told.pop("exec", "{}")),
            echo_ports=frozenset(int(port) for port in told.pop("echo-ports", "").split(",") if port),
        )
    except ValueError as error:
        raise InvalidInputError(f"an annotation {PREFIX}… is malformed: {error}") from None
    if told or script.create_error not in ("", "transient", "invalid", "unknown"):
        wrong = f"create-error={script.create_error}" if not told else ", ".join(sorted(told))
        raise InvalidInputError(f"the mock provider does not know the annotation {PREFIX}{wrong}")
    return script


def _commands(text: str) -> dict[str, Command]:
    table = json.loads(text)
    if not isinstance(table, dict):
        raise ValueError("exec is no JSON object")
    commands = {}
    for words, does in table.items():
        kinds = {"stdout": str, "stderr": str, "exitCode": int, "stdin": bool}
        if not isinstance(does, dict) or any(type(value) is not kinds.get(key) for key, value in does.items()):
            raise ValueError(f"exec: {words!r} is to have stdout, stderr (texts), exitCode (a number), stdin (true)")
        commands[words] = Command(
            does.get("stdout", ""), does.get("stderr", ""), does.get("exitCode", 0), does.get("stdin", False)
        )
    return commands


def _seconds(text: str) -> float:
    value = float(text.removesuffix("s"))
    if not 0 <= value < math.inf:
        raise ValueError(f"{text!r} is no number of seconds")
    return value


def _times(text: str, without_end: str = "always") -> float:
    return math.inf if text == without_end else _seconds(text)

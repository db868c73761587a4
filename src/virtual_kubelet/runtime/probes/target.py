"""Whom a probe or a hook asks, and what can come of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from virtual_kubelet.contracts.streams import AttachIO
from virtual_kubelet.objects.core_v1 import Container, Pod

__all__ = [
    "OUTPUT_LIMIT",
    "ContainerTarget",
    "ExecCommand",
    "Outcome",
    "ProbeAnswer",
    "ProbeError",
    "go_duration",
    "go_quote",
    "resolve_port",
]

#: Bytes of an answer that are read, and shown (pkg/probe: maxReadLength, maxRespBodyLength).
OUTPUT_LIMIT: Final = 10 * 1024

#: Runs a command in a container (its id as the runtime has it) and gives its exit code; cancelled if that takes too long.
#: Whatever it raises means that the command could not be run.
ExecCommand: TypeAlias = Callable[[str, Sequence[str], AttachIO], Awaitable[int]]


class ProbeError(Exception):
    """A probe or hook could not be made: the pod asks for what there is not. It says nothing of the container."""


class Outcome(StrEnum):
    """What a probe says of a container. A warning is a success that somebody should look at."""

    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


class ProbeAnswer(NamedTuple):
    """How one run of a probe came out; ``message`` as in the kubelet's events."""

    outcome: Outcome
    message: str = ""


@dataclass(frozen=True, slots=True)
class ContainerTarget:
    """One run of a container.

    Attributes:
        container_id: as the runtime has it.
        pod_ip: where its ports are; empty if the pod has no address.
        exec: None if the runtime cannot run commands.
    """

    pod: Pod = field(repr=False)
    container: Container = field(repr=False)
    container_id: str
    pod_ip: str
    exec: ExecCommand | None

    def host(self, named: str | None = None) -> str:
        """Where to connect: what a probe names, else the pod. Raises ``ProbeError`` if that has no address."""
        host = (named or self.pod_ip).removeprefix("[").removesuffix("]")
        if not host:
            raise ProbeError("the pod has no address")
        return host


def resolve_port(port: int | str, container: Container) -> int:
    """The number of a container's port (pkg/probe/util.go). Raises ``ProbeError`` in the kubelet's words."""
    number = port if isinstance(port, int) else _port_named(port, container)
    if not 0 < number < 65536:
        raise ProbeError(f"invalid port number: {number}")
    return number


def _port_named(name: str, container: Container) -> int:
    for declared in container.ports or ():
        if declared.name == name:
            return declared.container_port
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", name):
        raise ProbeError(f"strconv.Atoi: parsing {go_quote(name)}: invalid syntax")
    return int(name)


_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def go_quote(text: str) -> str:
    """As Go's ``%q``, near enough for messages."""
    return '"' + "".join(_ESCAPES.get(c) or (c if c.isprintable() else f"\\u{ord(c):04x}") for c in text) + '"'


def go_duration(seconds: int) -> str:
    """As Go prints whole seconds: ``5s``, ``1m0s``, ``1h0m0s``."""
    hours, minutes, left = seconds // 3600, seconds // 60 % 60, seconds % 60
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"

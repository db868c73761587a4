"""What the engine says of a container, in the words of the runtime contract. Pure."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from virtual_kubelet import ContainerExit, ContainerInstance, ContainerStartError
from virtual_kubelet_docker.labels import identity

__all__ = ["container_exit", "container_instance", "parse_time", "start_error", "was_started"]

_KILLED: Final = 128 + signal.SIGKILL
#: States of a container that was made and has not run; the last two are Podman's.
_NEVER_RAN: Final = frozenset({"created", "configured", "initialized"})
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


def parse_time(text: str | None) -> datetime | None:
    """RFC 3339 with up to nine digits; None for the engine's "never" (the year 1) and for nothing."""
    match = _TIME.fullmatch(text or "")
    if match is None or match[1].startswith("0001-"):
        return None
    micro = int((match[2] or "0").ljust(9, "0")[:6])
    zone = "+00:00" if match[3] == "Z" else match[3]
    return datetime.fromisoformat(match[1] + zone).replace(microsecond=micro).astimezone(UTC)


def was_started(inspected: Mapping[str, Any]) -> bool:
    return inspected["State"].get("Status") not in _NEVER_RAN


def container_instance(inspected: Mapping[str, Any], *, killed: bool = False) -> ContainerInstance:
    """A container that was started.

    Args:
        inspected: the answer of ``/containers/{id}/json``.
        killed: whether somebody asked the engine to kill it.
    """
    config, state = inspected["Config"], inspected["State"]
    started = parse_time(state.get("StartedAt")) or parse_time(inspected.get("Created")) or datetime.now(UTC)
    return ContainerInstance(
        id=inspected["Id"],
        labels=identity(config.get("Labels") or {}),
        started_at=started,
        exit=container_exit(inspected, killed=killed),
        stop_signal=_signal(config.get("StopSignal")),
    )


def container_exit(inspected: Mapping[str, Any], *, killed: bool = False) -> ContainerExit | None:
    """None while it runs.

    Podman 4 does not say that a container was out of memory: one with a limit whose first process was killed by nobody who
    asked the engine counts as such.
    """
    state = inspected["State"]
    if state.get("Running") or state.get("Paused") or state.get("Restarting"):
        return None
    code = int(state.get("ExitCode") or 0)
    limited = bool((inspected.get("HostConfig") or {}).get("Memory"))
    out_of_memory = bool(state.get("OOMKilled")) or (code == _KILLED and limited and not killed)
    return ContainerExit(
        code,
        parse_time(state.get("FinishedAt")) or datetime.now(UTC),
        reason="OOMKilled" if out_of_memory and code else None,
        message=state.get("Error") or None,
    )


def start_error(message: str) -> ContainerStartError:
    """Why a container that was made could not be started, as a kubelet's containerd would say it.

    What the OCI runtime refuses counts as a run that failed with 128; all else is tried again.
    """
    text = message.strip().removesuffix(": unknown")
    match = re.search(r"runc create failed: .*|crun: .*|OCI runtime create failed: .*", text)
    if match is None:
        return ContainerStartError(text, reason="RunContainerError")
    text = re.sub(r": OCI (runtime attempted to invoke a command that was not found|permission denied)$", "", match[0])
    prefix = "failed to create containerd task: failed to create shim task: "
    if not text.startswith("OCI runtime create failed"):
        prefix += "OCI runtime create failed: "
    return ContainerStartError(prefix + text, reason="StartError", exit_code=128)


def _signal(name: str | int | None) -> int:
    """Docker has the name or number of the image; Podman a number."""
    if name is None or name == "":
        return signal.SIGTERM
    text = str(name).upper()
    if text.isdigit():
        return int(text)
    real_time = re.fullmatch(r"(?:SIG)?RT(MIN|MAX)(?:([+-])(\d+))?", text)
    if real_time is not None:
        base = signal.SIGRTMIN if real_time[1] == "MIN" else signal.SIGRTMAX
        offset = int(real_time[3] or 0)
        return int(base) + (-offset if real_time[2] == "-" else offset)
    try:
        return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"]
    except KeyError:
        return signal.SIGTERM

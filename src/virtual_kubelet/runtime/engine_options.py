"""The pod engine's limits and numbers, each with the default of a kubelet where that has one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from virtual_kubelet.runtime.transition_options import TransitionOptions

__all__ = ["CallTimeouts", "EngineOptions"]


@dataclass(frozen=True, slots=True)
class CallTimeouts:
    """Seconds that each call of a ``ContainerRuntime`` may take; one that takes longer has failed, and is made again."""

    start: float = 120.0
    signal: float = 15.0
    remove: float = 60.0
    list: float = 60.0
    sandbox: float = 240.0
    image: float = 60.0
    statistics: float = 10.0
    logs: float = 10.0
    resize: float = 30.0


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Attributes:
    runtime_name: what container ids in statuses begin with, before ``://``.
    directory: where pods are remembered and their files are; None: ``pods`` in the context's state directory.
    transitions: back-off and termination.
    timeouts: of the runtime's calls.
    audit_period: seconds between two looks at what the runtime really has; 0: none but the one at start.
    usage_period: seconds between two looks at how large an ``emptyDir`` with a ``sizeLimit`` is.
    hold_reports: seconds that a status may wait for a start that is under way, so that both are told as one.
    parallel_pulls: images pulled at once.
    pull_stall_timeout: seconds without a word of the runtime after which a pull has failed.
    pull_progress_interval: least seconds between two events about the progress of one pull; 0: none.
    """

    runtime_name: str = ""
    directory: Path | None = None
    transitions: TransitionOptions = field(default_factory=TransitionOptions)
    timeouts: CallTimeouts = field(default_factory=CallTimeouts)
    audit_period: float = 60.0
    usage_period: float = 10.0
    hold_reports: float = 1.0
    parallel_pulls: int = 5
    pull_stall_timeout: float = 900.0
    pull_progress_interval: float = 30.0

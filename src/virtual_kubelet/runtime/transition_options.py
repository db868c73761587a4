"""The numbers in the tables of transitions."""

from __future__ import annotations

from dataclasses import dataclass, field

from virtual_kubelet.runtime.restarts import BackoffOptions
from virtual_kubelet.runtime.termination import TerminationOptions

__all__ = ["TransitionOptions"]


@dataclass(frozen=True, slots=True)
class TransitionOptions:
    """See each."""

    backoff: BackoffOptions = field(default_factory=BackoffOptions)
    termination: TerminationOptions = field(default_factory=TerminationOptions)

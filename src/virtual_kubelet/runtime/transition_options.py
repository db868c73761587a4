"""The numbers in the tables of transitions."""

from __future__ import annotations

from dataclasses import dataclass, field

from virtual_kubelet.runtime.restarts import BackoffOptions
from virtual_kubelet.runtime.termination import TerminationOptions

__all__ = ["TransitionOptions"]


@dataclass(frozen=True, slots=True)
class TransitionOptions:
    """See each.

    ``in_place_resize``: the runtime can change the resources of a running container; the engine says so.
    """

    backoff: BackoffOptions = field(default_factory=BackoffOptions)
    termination: TerminationOptions = field(default_factory=TerminationOptions)
    in_place_resize: bool = True

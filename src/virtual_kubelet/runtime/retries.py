"""How the engine tries again what a runtime or a disk has refused, where no rule of the kubelet says when."""

from __future__ import annotations

import math
from typing import Final

from virtual_kubelet.kube.backoff import Backoff

__all__ = ["LONGEST", "retries"]

#: Seconds between two tries: the first, doubling, to the last.
_FIRST: Final = 0.5
LONGEST: Final = 60.0


def retries() -> Backoff:
    """Of one thing. A call that takes its whole time-out to fail is no healthy time: only ``healthy`` begins anew."""
    return Backoff(initial=_FIRST, cap=LONGEST, jitter=0.2, reset_after=math.inf)

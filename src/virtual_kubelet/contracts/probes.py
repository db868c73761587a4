"""What a provider that probes its containers says of it, for ``/metrics/probes``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from virtual_kubelet.contracts.pods import PodKey

__all__ = ["PROBE_BUCKETS", "ProbeStatistics", "ProbeStatisticsSource"]

#: Upper bounds in seconds of ``ProbeStatistics.buckets``: Prometheus' usual ones.
PROBE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ProbeStatistics(NamedTuple):
    """One probe of one container since its pod is probed.

    Attributes:
        kind: ``Startup``, ``Readiness`` or ``Liveness``.
        results: how often by result: ``successful``, ``failed``, ``unknown``; only those that were.
        buckets: how many successful runs took no longer than each of ``PROBE_BUCKETS`` and more than the one before; the
            last number is of those that took longer than all.
        seconds: what the successful runs took together.
    """

    key: PodKey
    container: str
    kind: str
    results: dict[str, int]
    buckets: Sequence[int]
    seconds: float


@runtime_checkable
class ProbeStatisticsSource(Protocol):
    """A provider whose containers are probed by this node."""

    def probe_statistics(self) -> Sequence[ProbeStatistics]:
        """Of every probe of every pod that is there; asked at each scrape, cheap."""
        ...

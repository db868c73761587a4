"""Counts the runs of one probe for ``/metrics/probes``, as the kubelet does (pkg/kubelet/prober/prober_manager.go)."""

from __future__ import annotations

from bisect import bisect_left

from virtual_kubelet.contracts.probes import PROBE_BUCKETS
from virtual_kubelet.runtime.probe_state import ProbeResult

__all__ = ["ProbeCounter"]


class ProbeCounter:
    """How often with which result, and how long the good ones took."""

    __slots__ = ("_buckets", "_results", "_seconds")

    def __init__(self) -> None:
        self._results: dict[str, int] = {}
        self._buckets = [0] * (len(PROBE_BUCKETS) + 1)
        self._seconds = 0.0

    def count(self, result: ProbeResult, seconds: float) -> None:
        self._results[result.value] = self._results.get(result.value, 0) + 1
        if result is not ProbeResult.FAILURE:
            self._buckets[bisect_left(PROBE_BUCKETS, seconds)] += 1
            self._seconds += seconds

    def read(self) -> tuple[dict[str, int], list[int], float]:
        """Results, buckets and seconds, as ``ProbeStatistics`` has them."""
        return dict(self._results), list(self._buckets), self._seconds

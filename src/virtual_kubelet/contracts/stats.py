"""The statistics contract: what the node and its pods use of CPU, memory and the rest."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from virtual_kubelet.objects.stats_v1alpha1 import Summary

__all__ = ["StatsSummary"]


@runtime_checkable
class StatsSummary(Protocol):
    """A provider that knows what its pods use.

    ``/stats/summary``, ``/metrics/resource`` (``kubectl top`` and the HPA live on it) and ``/metrics/cadvisor`` are made
    of it. Without it they answer 501.
    """

    async def get_stats_summary(self, *, only_cpu_and_memory: bool) -> Summary:
        """What is used now. Raises ``UnsupportedError`` if that cannot be known here.

        Called as often as somebody scrapes, perhaps by several at once. With ``only_cpu_and_memory`` whatever costs time
        may be left out (all but ``cpu``, ``memory`` and ``swap``); the framework leaves it out of the answer anyway.
        """
        ...

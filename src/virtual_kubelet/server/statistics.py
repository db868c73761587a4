"""``/stats/summary`` and the metrics made of it: the provider is asked at each request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from virtual_kubelet.contracts.context import PodReader
from virtual_kubelet.contracts.probes import ProbeStatistics, ProbeStatisticsSource
from virtual_kubelet.contracts.stats import StatsSummary
from virtual_kubelet.errors import ProtocolError, UnsupportedError
from virtual_kubelet.objects.stats_v1alpha1 import Summary
from virtual_kubelet.server.http_messages import QueryParameters, Response
from virtual_kubelet.server.metrics_text import Family, Sample, exposition
from virtual_kubelet.server.probe_metrics import probe_metrics
from virtual_kubelet.server.provider_calls import ProviderCalls
from virtual_kubelet.server.resource_metrics import cadvisor_metrics, resource_metrics, scrape_error
from virtual_kubelet.server.stats_summary import only_cpu_and_memory, summary_json
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["Statistics"]

log = get_logger(__name__)

_JSON: Final = ("Content-Type", "application/json")
_METRICS: Final = ("Content-Type", "text/plain; version=0.0.4; charset=utf-8; escaping=underscores")
#: As apimachinery reads booleans.
_FALSE: Final = ("", "false", "0")


class Statistics:
    """Answers to requests for statistics."""

    def __init__(self, provider: object, pods: PodReader, calls: ProviderCalls, *, started: datetime) -> None:
        """
        Args:
            provider: asked if it is a ``StatsSummary``; if not, answers are 501.
            pods: tell the images of containers.
            calls: how the provider is asked.
            started: when this process did.
        """
        self._provider = provider
        self._pods = pods
        self._calls = calls
        self._started = started

    async def summary(self, query: QueryParameters) -> Response:
        """``/stats/summary``, with ``only_cpu_and_memory=true`` without the rest."""
        lean = query.get("only_cpu_and_memory").lower() not in _FALSE
        summary = await self._ask(only_cpu_and_memory=lean)
        return Response(200, [_JSON], _pieces([summary_json(only_cpu_and_memory(summary) if lean else summary)]))

    async def resource_metrics(self) -> Response:
        """``/metrics/resource``. A provider that fails is a metric, as with a kubelet: the scrape itself succeeds."""
        try:
            families = resource_metrics(await self._ask(only_cpu_and_memory=True))
        except ProtocolError as error:
            log.error("cannot get the statistics for a scrape: %s", error)
            families = [scrape_error(failed=True)]
        return self._metrics(_pieces(exposition(families)))

    async def cadvisor_metrics(self) -> Response:
        """``/metrics/cadvisor``: what a Summary knows of it."""
        families = cadvisor_metrics(await self._ask(only_cpu_and_memory=False), self._pods.list())
        return self._metrics(_pieces(exposition(families)))

    def probe_metrics(self) -> Response:
        """``/metrics/probes``: what the provider's probes have counted. Without any there is just the start time, as with a
        kubelet that has probed nothing."""
        started = Family(
            "process_start_time_seconds",
            "gauge",
            "[ALPHA] Start time of the process since unix epoch in seconds.",
            [Sample((), self._started.timestamp())],
        )
        probes: Sequence[ProbeStatistics] = ()
        if isinstance(self._provider, ProbeStatisticsSource):
            with self._calls.timed("probe_statistics"):
                probes = self._provider.probe_statistics()
        pieces = exposition([started, *probe_metrics(probes)])
        return self._metrics(_pieces(pieces) if probes else b"".join(pieces))

    async def _ask(self, *, only_cpu_and_memory: bool) -> Summary:
        provider = self._provider
        if not isinstance(provider, StatsSummary):
            raise UnsupportedError("the provider of this node does not offer statistics")
        question = partial(provider.get_stats_summary, only_cpu_and_memory=only_cpu_and_memory)
        summary = await self._calls.ask("get_stats_summary", question)
        if not isinstance(summary, Summary):
            raise TypeError(f"get_stats_summary returned a {type(summary).__name__}, not a Summary")
        return summary

    def _metrics(self, body: bytes | AsyncIterator[bytes]) -> Response:
        started = ("Process-Start-Time-Unix", str(round(self._started.timestamp())))
        return Response(200, [_METRICS, started], body)


async def _pieces(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)

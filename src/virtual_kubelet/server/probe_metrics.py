"""``/metrics/probes``: runs of probes by result, and how long the good ones took (pkg/kubelet/prober). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from operator import attrgetter
from typing import Final

from virtual_kubelet.contracts.probes import PROBE_BUCKETS, ProbeStatistics
from virtual_kubelet.server.metrics_text import Family, Sample, go_float

__all__ = ["probe_metrics"]

_TOTAL_HELP: Final = "[ALPHA] Cumulative number of a liveness, readiness or startup probe for a container by result."
_DURATION_HELP: Final = "[ALPHA] Duration in seconds for a probe response."
_BOUNDS: Final = (*(go_float(bound) for bound in PROBE_BUCKETS), "+Inf")


def probe_metrics(probes: Iterable[ProbeStatistics]) -> list[Family]:
    """The metrics of these probes."""
    known = sorted(probes, key=attrgetter("container", "key", "kind"))
    total = [sample for probe in known for sample in _results(probe)]
    durations = [sample for probe in known for sample in _durations(probe)]
    return [
        Family("prober_probe_total", "counter", _TOTAL_HELP, total),
        Family("prober_probe_duration_seconds", "histogram", _DURATION_HELP, durations),
    ]


def _results(probe: ProbeStatistics) -> Iterator[Sample]:
    key = probe.key
    pod = (("container", probe.container), ("namespace", key.namespace), ("pod", key.name), ("pod_uid", key.uid))
    for result, count in probe.results.items():
        yield Sample((*pod, ("probe_type", probe.kind), ("result", result)), count)


def _durations(probe: ProbeStatistics) -> Iterator[Sample]:
    count = sum(probe.buckets)
    if not count:
        return
    labels = (
        ("container", probe.container),
        ("namespace", probe.key.namespace),
        ("pod", probe.key.name),
        ("probe_type", probe.kind),
    )
    for bound, below in zip(_BOUNDS, accumulate(probe.buckets), strict=True):
        yield Sample((*labels, ("le", bound)), below, suffix="_bucket")
    yield Sample(labels, probe.seconds, suffix="_sum")
    yield Sample(labels, count, suffix="_count")

"""``/metrics/probes`` of a provider that probes; what a kubelet that has probed nothing says is in the recordings."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client.parser import text_string_to_metric_families

from tests.server.recorded_node import SilentProvider
from tests.server.test_kubelet_api import Make, ask, make, some_context, text
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.probes import PROBE_BUCKETS, ProbeStatistics

__all__ = ["make", "some_context"]  # fixtures

KEY = PodKey("ns", "web", "uid-web")


class Probing(SilentProvider):
    def __init__(self, *statistics: ProbeStatistics) -> None:
        super().__init__()
        self.statistics = statistics

    def probe_statistics(self) -> Sequence[ProbeStatistics]:
        return self.statistics


def buckets(**counts: int) -> list[int]:
    found = [0] * (len(PROBE_BUCKETS) + 1)
    for place, count in counts.items():
        found[int(place[1:])] = count
    return found


async def test_probes_are_shown_as_a_kubelet_shows_them(make: Make) -> None:
    live = ProbeStatistics(KEY, "main", "Liveness", {"successful": 3, "failed": 1}, buckets(_1=2, _11=1), 12.5)
    ready = ProbeStatistics(KEY, "main", "Readiness", {"failed": 2}, buckets(), 0.0)
    response = await ask(make(Probing(ready, live)), "/metrics/probes")
    shown = await text(response)
    pod = 'container="main",namespace="ns",pod="web"'
    assert (
        "# HELP prober_probe_total [ALPHA] Cumulative number of a liveness, readiness or startup probe for a container by "
        "result.\n# TYPE prober_probe_total counter\n"
        f'prober_probe_total{{{pod},pod_uid="uid-web",probe_type="Liveness",result="failed"}} 1\n'
        f'prober_probe_total{{{pod},pod_uid="uid-web",probe_type="Liveness",result="successful"}} 3\n'
        f'prober_probe_total{{{pod},pod_uid="uid-web",probe_type="Readiness",result="failed"}} 2\n'
    ) in shown
    bucket = f'prober_probe_duration_seconds_bucket{{{pod},probe_type="Liveness",le='
    assert [line.removeprefix(bucket) for line in shown.splitlines() if line.startswith(bucket)] == [
        *('"0.005"} 0', '"0.01"} 2', '"0.025"} 2', '"0.05"} 2', '"0.1"} 2', '"0.25"} 2', '"0.5"} 2', '"1"} 2'),
        *('"2.5"} 2', '"5"} 2', '"10"} 2', '"+Inf"} 3'),
    ]
    assert f'prober_probe_duration_seconds_sum{{{pod},probe_type="Liveness"}} 12.5\n' in shown
    assert f'prober_probe_duration_seconds_count{{{pod},probe_type="Liveness"}} 3\n' in shown
    assert shown.count("prober_probe_duration_seconds_count") == 1  # nothing of what never succeeded


async def test_prometheus_can_read_them(make: Make) -> None:
    probing = Probing(
        *(ProbeStatistics(KEY, f"c{n}", "Startup", {"successful": n + 1}, buckets(_0=n + 1), 0.001) for n in range(300))
    )
    shown = await text(await ask(make(probing), "/metrics/probes"))
    families = {family.name: family for family in text_string_to_metric_families(shown)}
    assert families.keys() == {"process_start_time_seconds", "prober_probe", "prober_probe_duration_seconds"}
    assert families["prober_probe_duration_seconds"].type == "histogram"
    assert sum(sample.value for sample in families["prober_probe"].samples) == 300 * 301 / 2

from __future__ import annotations

from virtual_kubelet.telemetry.metrics import Metrics


def test_two_nodes_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.events_dropped.labels("budget").inc()
    assert b'virtual_kubelet_events_dropped_total{reason="budget"} 1.0' in one.exposition()
    assert b'reason="budget"' not in other.exposition()

from __future__ import annotations

import pytest

from virtual_kubelet.devcluster.usage import Point, Usage, parse_sample, usage_between

TEXT = """\
# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="main",namespace="default",pod="p"} 4.5 100000
# TYPE container_memory_working_set_bytes gauge
container_memory_working_set_bytes{container="main",namespace="default",pod="p"} 2.097152e+06 100000
# TYPE container_start_time_seconds gauge
container_start_time_seconds{container="main",namespace="default",pod="p"} 90
# TYPE node_cpu_usage_seconds_total counter
node_cpu_usage_seconds_total 1000 99000
# TYPE node_memory_working_set_bytes gauge
node_memory_working_set_bytes 1e+09 99000
# TYPE scrape_error gauge
scrape_error 0
"""


def test_a_sample_has_the_node_and_each_container_with_their_times() -> None:
    sample = parse_sample(TEXT, now=123.0)
    assert sample.node == Point(99.0, 1000.0, 1e9)
    assert sample.containers == {("default", "p", "main"): Point(100.0, 4.5, 2097152.0, 90.0)}


def test_what_has_no_time_counts_as_of_now() -> None:
    assert parse_sample("node_cpu_usage_seconds_total 5\n", now=7.0).node == Point(7.0, 5.0)


def test_what_is_no_metrics_text_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Invalid|invalid|could not"):
        parse_sample("<html>no {metrics</html>\n", now=0.0)


def test_a_rate_is_the_difference_of_two_samples() -> None:
    earlier, later = Point(100.0, 10.0, 1.0, 50.0), Point(110.0, 12.5, 2.0, 50.0)
    assert usage_between(earlier, later) == Usage(110.0, 10.0, 0.25, 2.0)


@pytest.mark.parametrize("earlier", [None, Point(100.0, 10.0, 1.0, 20.0), Point(100.0, 99.0, 1.0, 106.0)])
def test_what_has_started_since_is_measured_over_its_life(earlier: Point | None) -> None:
    assert usage_between(earlier, Point(110.0, 1.0, 2.0, 106.0)) == Usage(110.0, 4.0, 0.25, 2.0)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (None, Point(110.0, 1.0, 2.0)),  # one sample, and no start
        (None, Point(110.0, 1.0, None, 100.0)),
        (None, Point(110.0, None, 2.0, 100.0)),
        (Point(110.0, 1.0, 2.0), Point(110.0, 1.0, 2.0)),  # the same moment twice
        (None, Point(110.0, 1.0, 2.0, 111.0)),  # a start in the future
    ],
)
def test_what_is_not_known_is_not_guessed(earlier: Point | None, later: Point) -> None:
    assert usage_between(earlier, later) is None

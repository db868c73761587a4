"""Prometheus' text format, with numbers as Go prints them."""

from __future__ import annotations

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from virtual_kubelet.server.metrics_text import Family, Sample, exposition, go_float


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0, "0"),
        (1, "1"),
        (-1.5, "-1.5"),
        (557056, "557056"),
        (999999, "999999"),
        (1000000, "1e+06"),
        (3326230528, "3.326230528e+09"),
        (6702.265348593, "6702.265348593"),
        (0.015227253, "0.015227253"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (0.0000123, "1.23e-05"),
        (100, "100"),
        (1e21, "1e+21"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (5e-324, "5e-324"),
        (2**53, "9.007199254740992e+15"),
        (math.inf, "+Inf"),
        (-math.inf, "-Inf"),
        (math.nan, "NaN"),
    ],
)
def test_numbers_are_printed_as_go_does(value: float, text: str) -> None:
    assert go_float(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_number_is_changed(value: float) -> None:
    assert float(go_float(value)) == value


def test_families_and_samples_are_in_order_and_empty_ones_are_left_out() -> None:
    when = datetime(2026, 1, 1, 0, 0, 0, 999_999, tzinfo=UTC)
    text = b"".join(
        exposition(
            [
                Family("b_total", "counter", "Of b.", [Sample((("pod", "y"),), 2, when), Sample((("pod", "x"),), 1)]),
                Family("c", "gauge", "Of c.", []),
                Family("a", "gauge", "Of a.", [Sample((), 0.5)]),
            ]
        )
    ).decode()
    assert text == (
        "# HELP a Of a.\n# TYPE a gauge\na 0.5\n"
        '# HELP b_total Of b.\n# TYPE b_total counter\nb_total{pod="x"} 1\nb_total{pod="y"} 2 1767225600999\n'
    )


@given(st.text(max_size=30))
def test_any_label_can_be_read_back(label: str) -> None:
    text = b"".join(exposition([Family("a", "gauge", "Of a.", [Sample((("l", label),), 1)])])).decode()
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"l": label}


def test_many_samples_come_in_pieces() -> None:
    samples = [Sample((("pod", f"{number:05}"),), number) for number in range(2000)]
    pieces = list(exposition([Family("a", "gauge", "Of a.", samples)]))
    assert len(pieces) > 2
    assert b"".join(pieces).count(b"\n") == 2002

"""Go's durations: what time.ParseDuration takes and Duration.String prints."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtual_kubelet.objects.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("0s", 0),
        ("5s", 5),
        ("30s", 30),
        ("1478s", 1478),
        ("+5s", 5),
        ("-5s", -5),
        ("5.0s", 5),
        ("5.6s", 5.6),
        ("5.s", 5),
        (".5s", 0.5),
        ("1.004s", 1.004),
        ("10ns", 1e-8),
        ("11us", 1.1e-5),
        ("12µs", 1.2e-5),
        ("12μs", 1.2e-5),
        ("13ms", 0.013),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("3h30m", 12600),
        ("10.5s4m", 250.5),
        ("1h2m3s4ms5us6ns", 3723.004005006),
        ("52763797000ns", 52.763797),
        ("0.3333333333333333333h", 1200),
        ("9223372036854775807ns", 9223372036.854776),
    ],
)
def test_takes_what_go_takes(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not a duration"),
        ("3", "without a unit; write it like 3s"),
        ("1m30", "without a unit"),
        ("-", "is not a duration"),
        ("s", "is not a duration"),
        (".", "is not a duration"),
        (".s", "is not a duration"),
        ("1.2.3s", "without a unit"),
        ("+-5s", "is not a duration"),
        ("1d", "unknown unit 'd'"),
        ("1 s", "unknown unit ' s'"),
        ("5S", "unknown unit 'S'"),
        ("١s", "is not a duration"),
        ("9223372036854775808ns", "longer than 292 years"),
        ("3000000h", "longer than 292 years"),
    ],
)
def test_refuses_what_go_refuses_and_says_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1e-9, "1ns"),
        (1.1e-6, "1.1µs"),
        (2.2e-3, "2.2ms"),
        (3.3, "3.3s"),
        (60, "1m0s"),
        (245, "4m5s"),
        (245.001, "4m5.001s"),
        (18367.001, "5h6m7.001s"),
        (-90, "-1m30s"),
    ],
)
def test_prints_as_go_prints(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=-(2**52), max_value=2**52))
def test_what_is_printed_is_read_back(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@given(st.text(alphabet="0123456789.-+hmsnuµ ", max_size=12) | st.text(max_size=12))
def test_any_text_is_a_duration_or_a_value_error_that_quotes_it(text: str) -> None:
    said: float | str
    try:
        said = parse_duration(text)
    except ValueError as error:
        said = str(error)
    assert isinstance(said, float) or repr(text) in said

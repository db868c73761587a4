"""Quantities against Go's canonical forms and against exact fractions."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtual_kubelet.objects.quantity import Quantity


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"),
        ("0Ki", "0"),
        ("-0", "0"),
        ("00012", "12"),
        ("+5", "5"),
        ("1000m", "1"),
        ("0.5", "500m"),
        (".5", "500m"),
        ("5.", "5"),
        ("1500m", "1500m"),
        ("1.5", "1500m"),
        ("100k", "100k"),
        ("1000k", "1M"),
        ("123456", "123456"),
        ("1000", "1k"),
        ("1u", "1u"),
        ("1n", "1n"),
        ("1E", "1E"),
        ("1024Ki", "1Mi"),
        ("1.5Gi", "1536Mi"),
        ("1Ki", "1Ki"),
        ("1023Ki", "1023Ki"),
        ("0.5Ki", "512"),  # less than 1024: decimal, as in Go
        ("0.25Mi", "256Ki"),
        ("1.0001Ki", "1024102400u"),  # not whole: decimal, no precision is lost
        ("1e3", "1e3"),
        ("1E3", "1e3"),
        ("12e6", "12e6"),
        ("1e4", "10e3"),
        ("1e-3", "1e-3"),
        ("1e0", "1"),
        ("1e21", "1e21"),
        ("1e20", "100e18"),
        ("-1", "-1"),
        ("-1.5Gi", "-1536Mi"),
        ("-500m", "-500m"),
        ("12E", "12E"),
        ("100E", "100E"),
    ],
)
def test_canonical_form(text: str, canonical: str) -> None:
    assert str(Quantity(text)) == canonical
    assert str(Quantity(canonical)) == canonical


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0.1n", "1n"),
        ("1.1n", "2n"),
        ("-0.1n", "-1n"),  # away from zero
        ("0.00000000001Ki", "11n"),
        ("1e-12", "1e-9"),
        ("0.0000000000001", "1n"),
    ],
)
def test_finer_than_a_nano_is_rounded_up(text: str, canonical: str) -> None:
    assert str(Quantity(text)) == canonical


@pytest.mark.parametrize(
    "text", ["9Ei", "8Ei", "-8Ei", "9223372036854775807Ki", "9223372036854775808", "99999999999999999999999"]
)
def test_what_does_not_fit_64_bits_is_capped_as_in_go(text: str) -> None:
    most = 2**63 - 1
    assert Quantity(text).value() == (-most if text.startswith("-") else most)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "abc",
            "1Kib",
            "1 Gi",
            " 1",
            "1 ",
            "1\n",
            "1.1.1",
            "--1",
            "+-1",
            "1i",
            ".5i",
            "0.1mi",
            "-",
            "+",
            ".",
        ),
        *("1e", "1e3k", "1K", "1kk", "1KI", "0x10", "1_000", "1,5", "١", "²", "inf", "nan", "1e1001", "1e-1001"),
    ],
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        Quantity(text)
    assert "quantities must match the regular expression" in str(caught.value) or "out of range" in str(caught.value)


def test_numbers_are_read_too() -> None:
    assert str(Quantity(2)) == "2"
    assert str(Quantity(0.25)) == "250m"
    with pytest.raises(ValueError):
        Quantity(float("nan"))


SUFFIXES = {
    **{name: Fraction(1024) ** (power + 1) for power, name in enumerate(("Ki", "Mi", "Gi"))},
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(1000),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "e3": Fraction(1000),
    "E-3": Fraction(1, 1000),
    "e+6": Fraction(10**6),
}
amounts = st.tuples(st.integers(-(10**9), 10**9), st.sampled_from(sorted(SUFFIXES)))


@given(amounts)
def test_what_is_written_reads_back_as_the_same_number_in_the_same_form(amount: tuple[int, str]) -> None:
    quantity = Quantity(f"{amount[0]}{amount[1]}")
    again = Quantity(str(quantity))
    assert again == quantity
    assert str(again) == str(quantity)


@given(amounts, amounts)
def test_comparison_and_arithmetic_are_exact(one: tuple[int, str], other: tuple[int, str]) -> None:
    a, b = (Quantity(f"{number}{suffix}") for number, suffix in (one, other))
    x, y = (number * SUFFIXES[suffix] for number, suffix in (one, other))
    assert (a < b, a <= b, a == b, a > b) == (x < y, x <= y, x == y, x > y)
    assert a + b == Quantity.of(x + y)
    assert a - b == Quantity.of(x - y)
    assert bool(a) == bool(x)
    assert a.value() == -(-x // 1)
    assert a.milli_value() == -(-(x * 1000) // 1)
    if x == y:
        assert hash(a) == hash(b)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        quantity = Quantity(text)
    except ValueError:
        return
    assert Quantity(str(quantity)) == quantity


def test_a_sum_is_written_as_its_first_part_unless_that_is_zero() -> None:
    assert str(Quantity("1Gi") + Quantity("1Gi")) == "2Gi"
    assert str(Quantity("0") + Quantity("1Gi")) == "1Gi"
    assert str(Quantity("1Gi") - Quantity("512Mi")) == "512Mi"
    assert repr(Quantity("1024Ki")) == "Quantity('1Mi')"


def test_a_quantity_equals_quantities_only() -> None:
    assert Quantity("1") != 1
    assert len({Quantity("1"), Quantity("1000m"), Quantity("2")}) == 2


@pytest.mark.parametrize(
    ("amount", "divisor", "whole"),
    [("1500m", "1", 2), ("1500m", "1m", 1500), ("1Gi", "1Mi", 1024), ("1Gi", "1M", 1074), ("0", "1", 0)],
)
def test_scaled_counts_whole_divisors_rounded_up(amount: str, divisor: str, whole: int) -> None:
    assert Quantity(amount).scaled(Quantity(divisor)) == whole


@pytest.mark.parametrize(("value", "canonical"), [(Fraction(1, 3), "333333334n"), (Fraction(-1, 3), "-333333334n")])
def test_a_quantity_of_a_fraction_is_rounded_as_one_that_is_read(value: Fraction, canonical: str) -> None:
    assert str(Quantity.of(value)) == canonical

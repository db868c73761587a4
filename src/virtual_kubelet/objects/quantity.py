"""Resource quantities: exact, in Go's canonical forms (apimachinery/pkg/api/resource). Pure."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import total_ordering
from typing import Final

__all__ = ["Quantity"]

_FORM: Final = re.compile(r"([+-]?)([0-9]+\.?[0-9]*|\.[0-9]+)(|[numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)\Z")
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES: Final = {power: suffix for suffix, power in _DECIMAL.items()}
#: Go keeps decimal numbers of so many digits as they are; others it caps at the largest 64-bit integer.
_EXACT_DIGITS: Final = 18
_MOST: Final = 2**63 - 1


def _in_nanos(value: Fraction) -> Fraction:
    nano = value * 10**9
    return Fraction(-(-nano.numerator // nano.denominator), 10**9)


@total_ordering
class Quantity:
    """A number with a unit. Finer than a nano is rounded away from zero and too large is capped, both as in Go."""

    __slots__ = ("_binary", "_exponent", "_value")

    def __init__(self, text: str | int | float) -> None:
        """Raises ``ValueError``: quantities must match the regular expression that Kubernetes' own error quotes."""
        match = _FORM.match(str(text))
        if match is None:
            raise ValueError(
                f"{text!r}: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
            )
        sign, number, suffix = match.groups()
        value = Fraction(number if not number.startswith(".") else "0" + number)
        self._binary = suffix.endswith("i")
        self._exponent = len(suffix) > 1 and not self._binary
        if self._binary:
            value *= 1024 ** _BINARY.index(suffix)
        elif self._exponent:
            power = int(suffix[1:])
            if abs(power) > 1000:
                raise ValueError(f"{text!r}: the exponent is out of range")
            value *= Fraction(10) ** power
        else:
            value *= Fraction(10) ** _DECIMAL[suffix]
        value = _in_nanos(value)
        if value > _MOST and (self._binary or len(number.replace(".", "").lstrip("0")) > _EXACT_DIGITS):
            value = Fraction(_MOST)
        self._value = -value if sign == "-" else value

    @classmethod
    def of(cls, value: Fraction | int, like: Quantity | None = None) -> Quantity:
        """A quantity of this value, written like another; finer than a nano is rounded as when read."""
        made = cls(0)
        made._value = _in_nanos(Fraction(value)) if value >= 0 else -_in_nanos(-Fraction(value))
        if like is not None:
            made._binary, made._exponent = like._binary, like._exponent
        return made

    def value(self) -> int:
        """Whole units, rounded up."""
        return self.scaled(Fraction(1))

    def milli_value(self) -> int:
        """Thousandths, rounded up."""
        return self.scaled(Fraction(1, 1000))

    def scaled(self, divisor: Fraction | Quantity) -> int:
        """How many of ``divisor`` this is, rounded up (as a ``resourceFieldRef`` is)."""
        by = divisor._value if isinstance(divisor, Quantity) else divisor
        result = self._value / by
        return -(-result.numerator // result.denominator)

    def __add__(self, other: Quantity) -> Quantity:
        return Quantity.of(self._value + other._value, self if self._value else other)

    def __sub__(self, other: Quantity) -> Quantity:
        return Quantity.of(self._value - other._value, self if self._value else other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and self._value == other._value

    def __lt__(self, other: Quantity) -> bool:
        return self._value < other._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"

    def __str__(self) -> str:
        """Canonical: the largest unit that leaves a whole number."""
        value = self._value
        if self._binary and value.denominator == 1 and abs(value) >= 1024:
            power = 0
            while power < 6 and value % 1024 == 0 and value:
                value /= 1024
                power += 1
            return f"{value.numerator}{_BINARY[power]}"
        if not value:
            return "0"
        power = -9  # nothing is finer
        number = int(value * 10**9)
        while number % 1000 == 0 and (self._exponent or power < 18):
            number //= 1000
            power += 3
        if self._exponent:
            return f"{number}e{power}" if power else str(number)
        return f"{number}{_SUFFIXES[power]}"

"""Resource quantities: exact, in Go's canonical forms (apimachinery/pkg/api/resource). Pure."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import total_ordering
from typing import Final

__all__ = ["Quantity"]

_FORM: Final = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(|[numkMGTPE]|[KMGTPE]i|[eE][+-]?\d+)\Z")
_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}


@total_ordering
class Quantity:
    """A number with a unit. Finer than a nano is rounded up, as in Go."""

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
        nano = value * 10**9
        value = Fraction(-(-nano.numerator // nano.denominator), 10**9)
        self._value = -value if sign == "-" else value

    @classmethod
    def of(cls, value: Fraction | int, like: Quantity | None = None) -> Quantity:
        """A quantity of this value, written like another."""
        made = cls(0)
        made._value = Fraction(value)
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
        for suffix, power in sorted(_DECIMAL.items(), key=lambda item: -item[1]):
            scaled = value / Fraction(10) ** power
            if scaled.denominator == 1 and (scaled or not power):
                if self._exponent and power:
                    return f"{scaled.numerator}e{power}"
                return f"{scaled.numerator}{suffix}"
        raise AssertionError("finer than a nano")

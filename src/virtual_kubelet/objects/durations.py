"""Durations as Go writes them: ``1m30s``, ``500ms``, ``1.5h``. Pure.

The rules are those of Go's time.ParseDuration: one or more decimal numbers, each with a unit, added up; ``0`` needs none.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

__all__ = ["format_duration", "parse_duration"]

_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5, micro sign
    "μs": 1_000,  # U+03BC, Greek letter mu
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
#: Go counts nanoseconds in 64 bits: some 292 years.
_LONGEST: Final = 2**63 - 1
_PART: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")


def parse_duration(text: str) -> float:
    """The duration in seconds. Raises ``ValueError`` with a sentence that says what is wrong."""
    rest = text.removeprefix("-") if text.startswith("-") else text.removeprefix("+")
    if rest == "0":
        return 0.0
    total = Fraction(0)
    position = 0
    while position < len(rest) or not rest:
        part = _PART.match(rest, position)
        if part is None:
            raise ValueError(f"{text!r} is not a duration; write it like 30s, 1m30s, 500ms or 1.5h")
        number, unit = part.groups()
        if not unit:
            raise ValueError(f"{text!r} is a duration without a unit; write it like {number}s")
        if unit not in _NANOSECONDS:
            raise ValueError(f"{text!r} has an unknown unit {unit!r}; units are h, m, s, ms, us and ns")
        # As Go does, what is finer than a nanosecond is cut off.
        total += int(Fraction(number.rstrip(".") if "." in number else int(number)) * _NANOSECONDS[unit])
        position = part.end()
    if total > _LONGEST:
        raise ValueError(f"{text!r} is longer than 292 years")
    seconds = float(total / 1_000_000_000)
    return -seconds if text.startswith("-") else seconds


def format_duration(seconds: float) -> str:
    """As Go prints it: ``1m30s``, ``1.5s``, ``20ms``; to the nanosecond."""
    nanoseconds = round(Fraction(seconds) * 1_000_000_000)
    if nanoseconds == 0:
        return "0s"
    sign, nanoseconds = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    for unit in ("ns", "µs", "ms"):
        size = _NANOSECONDS[unit]
        if nanoseconds < size * 1000:
            return f"{sign}{_decimal(nanoseconds, size)}{unit}"
    hours, nanoseconds = divmod(nanoseconds, _NANOSECONDS["h"])
    minutes, nanoseconds = divmod(nanoseconds, _NANOSECONDS["m"])
    text = f"{_decimal(nanoseconds, _NANOSECONDS['s'])}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _decimal(amount: int, size: int) -> str:
    whole, rest = divmod(amount, size)
    if not rest:
        return str(whole)
    digits = str(rest).rjust(len(str(size)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"

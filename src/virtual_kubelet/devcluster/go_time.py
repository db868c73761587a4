"""What Go's ``time.Parse`` says of text that is no time of the API's. Pure."""

from __future__ import annotations

import calendar
import re
from typing import Final

from virtual_kubelet.devcluster.statuses import quoted

__all__ = ["time_problem"]

_SECONDS: Final = "2006-01-02T15:04:05Z07:00"
_MICROSECONDS: Final = "2006-01-02T15:04:05.000000Z07:00"
#: What stands before an element, the element, what it may look like, its name and its highest value.
_ELEMENTS: Final = (
    ("", "2006", re.compile("[0-9]{4}"), "", 9999),
    ("-", "01", re.compile("[0-9]{2}"), "month", 12),
    ("-", "02", re.compile("[0-9]{2}"), "", 99),
    ("T", "15", re.compile("[0-9]{1,2}"), "hour", 23),
    (":", "04", re.compile("[0-9]{2}"), "minute", 59),
    (":", "05", re.compile("[0-9]{2}"), "second", 59),
)
_FRACTION: Final = re.compile("[.,][0-9]+")
_MICRO: Final = re.compile("[.,][0-9]{6}")
_ZONE: Final = re.compile("Z|[+-]([0-9]{2}):([0-9]{2})")


def time_problem(text: str, *, micro: bool = False) -> str:
    """Empty: it is a time. ``micro``: with six digits of fraction, no more and no less."""
    layout = _MICROSECONDS if micro else _SECONDS
    rest = text
    numbers: list[int] = []
    for before, element, form, name, most in _ELEMENTS:
        if not rest.startswith(before):
            return _cannot(text, layout, rest, before)
        rest = rest[len(before) :]
        match = form.match(rest)
        if match is None:
            return _cannot(text, layout, rest, element)
        number = int(match[0])
        if name and (number > most or (name == "month" and number == 0)):
            return f"parsing time {quoted(text)}: {name} out of range"
        numbers.append(number)
        rest = rest[match.end() :]
    fraction = (_MICRO if micro else _FRACTION).match(rest)
    if fraction is not None:
        rest = rest[fraction.end() :]
    elif micro:
        return _cannot(text, layout, rest, ".000000")
    zone = _ZONE.match(rest)
    if zone is None:
        return _cannot(text, layout, rest, "Z07:00")
    for value, most, name in ((zone[1], 24, "hour"), (zone[2], 60, "minute")):
        if value is not None and int(value) > most:
            return f"parsing time {quoted(text)}: time zone offset {name} out of range"
    rest = rest[zone.end() :]
    if rest:
        return f"parsing time {quoted(text)}: extra text: {quoted(rest)}"
    year, month, day = numbers[:3]
    if not 1 <= day <= calendar.monthrange(max(year, 1), month)[1]:
        return f"parsing time {quoted(text)}: day out of range"
    return ""


def _cannot(text: str, layout: str, rest: str, element: str) -> str:
    return f"parsing time {quoted(text)} as {quoted(layout)}: cannot parse {quoted(rest)} as {quoted(element)}"

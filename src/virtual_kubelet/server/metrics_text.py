"""Prometheus' text format 0.0.4 as the kubelet writes it: families, samples with times, numbers as Go prints them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, NamedTuple

__all__ = ["Family", "Sample", "exposition", "go_float"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Lines written at a stretch.
_STRETCH: Final = 500


class Sample(NamedTuple):
    """One value: labels in the order of their names, when it was measured (None: now), what follows the metric's name."""

    labels: tuple[tuple[str, str], ...]
    value: float
    time: datetime | None = None
    suffix: str = ""


class Family(NamedTuple):
    """A metric: ``kind`` is ``counter``, ``gauge`` or ``histogram``; a family without samples is not written.

    Samples of a histogram are written in the order in which they are given, others by their labels.
    """

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


def exposition(families: Iterable[Family]) -> Iterator[bytes]:
    """Families by name, in pieces of some hundred lines."""
    lines: list[str] = []
    for family in sorted(families, key=lambda family: family.name):
        if not family.samples:
            continue
        lines.append(f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n")
        samples = family.samples
        if family.kind != "histogram":
            samples = sorted(samples, key=lambda sample: sample.labels)
        for labels, value, time, suffix in samples:
            name = family.name + suffix
            shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
            when = "" if time is None else f" {(time - _EPOCH) // timedelta(milliseconds=1)}"
            lines.append(
                f"{name}{{{shown}}} {go_float(value)}{when}\n" if labels else f"{name} {go_float(value)}{when}\n"
            )
            if len(lines) >= _STRETCH:
                yield "".join(lines).encode()
                lines.clear()
    if lines:
        yield "".join(lines).encode()


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def go_float(value: float) -> str:
    """As Go's ``strconv.FormatFloat(value, 'g', -1, 64)``: the shortest digits that are exact; an exponent from 1e+06 on."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(float(value))).as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    exponent += len(text) - len(stripped)
    text = stripped
    minus = "-" if sign else ""
    power = len(text) + exponent - 1
    if power < -4 or power >= 6:
        mantissa = text[0] + ("." + text[1:] if len(text) > 1 else "")
        return f"{minus}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if exponent >= 0:
        return minus + text + "0" * exponent
    if power < 0:
        return f"{minus}0.{'0' * (-power - 1)}{text}"
    return f"{minus}{text[: power + 1]}.{text[power + 1 :]}"

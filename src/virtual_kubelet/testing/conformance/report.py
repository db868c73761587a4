"""A report that people can read: a table of the suites, then each promise that is broken, with all that was seen."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

from virtual_kubelet.testing.conformance.check import SUITES, Check
from virtual_kubelet.testing.conformance.results import CheckResult, ConformanceReport, Verdict

__all__ = ["check_list", "progress_line", "report_text"]

_ORDER: Final = (Verdict.HOLDS, Verdict.BROKEN, Verdict.NOT_CLAIMED, Verdict.NOT_RUN)
_WIDTH: Final = 118


def report_text(report: ConformanceReport, *, again: str = "virtual-kubelet conformance") -> str:
    """All of it. ``again``: the command that makes one check again, but for ``--suite NAME``."""
    parts = [f"Provider {report.provider} on {report.where}, {report.seconds:.0f} s", "", *_table(report)]
    for verdict in (Verdict.NOT_CLAIMED, Verdict.NOT_RUN):
        excused = report.of(verdict)
        if excused:
            parts += ["", f"{verdict.value[0].upper()}{verdict.value[1:]}:", *_reasons(excused, report)]
    for result in report.of(Verdict.BROKEN):
        parts += ["", *_broken(result, again)]
    broken = len(report.of(Verdict.BROKEN))
    held = len(report.of(Verdict.HOLDS))
    end = f"{broken} of {broken + held} promises are broken." if broken else f"All {held} promises hold."
    if any(result.check.suite == "adoption" and result.verdict is Verdict.HOLDS for result in report.results):
        end += f" (For adoption the node was restarted: {report.killing}.)"
    return "\n".join([*parts, "", end])


def _table(report: ConformanceReport) -> Iterable[str]:
    counts = report.counts()
    width = max(map(len, SUITES))
    yield f"{'suite':<{width}}" + "".join(f"{verdict.value:>20}" for verdict in _ORDER)
    for suite in SUITES:
        if suite in counts:
            numbers = [counts[suite][verdict] for verdict in _ORDER]
            yield f"{suite:<{width}}" + "".join(f"{number or '-':>20}" for number in numbers)
    totals = [len(report.of(verdict)) for verdict in _ORDER]
    yield f"{'':<{width}}" + "".join(f"{number or '-':>20}" for number in totals)


def _reasons(results: Sequence[CheckResult], report: ConformanceReport) -> Iterable[str]:
    """Checks that have the same reason together; a suite by its name, if it has no other checks."""
    counts = report.counts()
    by_reason: dict[str, dict[str, list[Check]]] = {}
    for result in results:
        by_reason.setdefault(result.reason, {}).setdefault(result.check.suite, []).append(result.check)
    for reason, suites in by_reason.items():
        names: list[str] = []
        for suite, checks in suites.items():
            names += [suite] if len(checks) == sum(counts[suite].values()) else map(str, checks)
        yield from _wrapped(f"{', '.join(names)}: {reason}", "  ", "      ")


def _wrapped(text: str, first: str, rest: str) -> Iterable[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)


def _broken(result: CheckResult, again: str) -> Iterable[str]:
    yield f"BROKEN  {result.check}"
    yield from _wrapped(result.check.promise, "  ", "  ")
    yield from _labelled("expected", result.expected)
    yield from _labelled("seen", result.seen)
    for label, lines in (("history", result.history), ("events", result.events)):
        if lines:
            yield f"  {label}:"
            yield from (f"    {line}" for line in lines)
    yield f"  alone:     {again} --suite {result.check}"


def _labelled(label: str, text: str) -> Iterable[str]:
    first, *rest = text.splitlines() or [""]
    yield f"  {label + ':':<10} {first}"
    yield from (f"             {line}" for line in rest)


def progress_line(result: CheckResult) -> str:
    """One line for a check that has ended."""
    why = result.reason if result.verdict in (Verdict.NOT_CLAIMED, Verdict.NOT_RUN) else result.seen
    line = f"{result.verdict.value:<19} {result.check!s:<44}{result.seconds:6.1f} s"
    return line if not why else f"{line}  {textwrap.shorten(why, 100)}"


def check_list(checks: Sequence[Check]) -> str:
    """The checks with their promises."""
    lines: list[str] = []
    suite = ""
    for check in checks:
        if check.suite != suite:
            suite = check.suite
            lines += [*([""] if lines else []), suite]
        needs = f"  [{', '.join(check.needs)}]" if check.needs else ""
        lines.append(f"  {check}{needs}")
        lines += _wrapped(check.promise, "      ", "      ")
    return "\n".join(lines)

"""What came of the checks."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from virtual_kubelet.testing.conformance.check import Check

__all__ = ["CheckResult", "ConformanceReport", "Verdict"]


class Verdict(enum.Enum):
    """``NOT_CLAIMED``: the provider says that it does not promise this. ``NOT_RUN``: it cannot be found out here."""

    HOLDS = "holds"
    BROKEN = "broken"
    NOT_CLAIMED = "not claimed"
    NOT_RUN = "cannot be run here"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What came of one check.

    Attributes:
        reason: why it is not claimed, or cannot be run.
        expected, seen: if it is broken.
        history: every state of its pods, in lines; ``events``: those on them. If it is broken.
        seconds: how long it took.
    """

    check: Check
    verdict: Verdict
    reason: str = ""
    expected: str = ""
    seen: str = ""
    history: Sequence[str] = ()
    events: Sequence[str] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformanceReport:
    """What came of all of them.

    Attributes:
        provider: its name.
        where: the cluster, in words.
        killing: how its node was killed, in words.
        results: in the order of the suites.
    """

    provider: str
    where: str
    killing: str
    results: Sequence[CheckResult]
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether no promise is broken."""
        return not self.of(Verdict.BROKEN)

    def of(self, verdict: Verdict) -> list[CheckResult]:
        return [result for result in self.results if result.verdict is verdict]

    def counts(self) -> Mapping[str, Mapping[Verdict, int]]:
        """By suite, how many of each."""
        counted: dict[str, Counter[Verdict]] = {}
        for result in self.results:
            counted.setdefault(result.check.suite, Counter())[result.verdict] += 1
        return counted

    def result(self, name: str) -> CheckResult:
        """Of ``suite.check``. Raises ``KeyError``."""
        for result in self.results:
            if str(result.check) == name:
                return result
        raise KeyError(name)

"""What a check is: one promise, in a sentence, and a coroutine that finds out whether it holds."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from virtual_kubelet.testing.conformance.stage import Stage

__all__ = ["KILLING", "SUITES", "Check", "CheckFunction", "promise", "promises"]

CheckFunction: TypeAlias = Callable[[Stage], Awaitable[None]]

#: In the order of the report. Those that have a method here are offered by providers that have it.
SUITES: Final[dict[str, str | None]] = {
    "lifecycle": None,
    "restart": None,
    "resize": None,
    "logs": "get_container_logs",
    "exec": "run_in_container",
    "attach": "attach_to_container",
    "port-forward": "port_forward",
    "volumes": None,
    "probes": None,
    "stats": "get_stats_summary",
    "abuse": None,
    "adoption": None,
}

#: Suites whose checks have the node killed meanwhile: they run together, after the others.
KILLING: Final = frozenset({"adoption"})


@dataclass(frozen=True, slots=True)
class Check:
    """One promise.

    Attributes:
        suite, name: together its name, ``suite.name``.
        promise: one sentence.
        function: raises ``NotSeenError`` if the promise does not hold.
        needs: what the provider's workloads must be able to do; see ``Declaration``.
        api: the oldest Kubernetes whose API server knows the fields it is about.
    """

    suite: str
    name: str
    promise: str
    function: CheckFunction = field(repr=False)
    needs: Sequence[str] = ()
    api: tuple[int, int] = (1, 20)

    def __str__(self) -> str:
        return f"{self.suite}.{self.name}"


_CHECKS: Final[dict[str, Check]] = {}


def promise(*needs: str, api: tuple[int, int] = (1, 20)) -> Callable[[CheckFunction], CheckFunction]:
    """Make a check of a coroutine function: its name, its docstring's first sentence, its module's name for the suite."""

    def register(function: CheckFunction) -> CheckFunction:
        name = getattr(function, "__name__", "").replace("_", "-")
        suite = function.__module__.rpartition(".")[2].replace("_", "-").removesuffix("-suite")
        sentence = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
        check = Check(suite, name, sentence, function, needs, api)
        _CHECKS[str(check)] = check
        return function

    return register


def promises() -> list[Check]:
    """All that have been made so far, by their names."""
    return [*_CHECKS.values()]

"""What a check is: one promise, in a sentence, and a coroutine that finds out whether it holds."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Final

from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.testing.cluster_user import NotSeenError

if TYPE_CHECKING:
    from virtual_kubelet.testing.conformance.stage import Stage

__all__ = [
    "SUITES",
    "Check",
    "CheckFunction",
    "NotRunError",
    "PromiseBrokenError",
    "all_checks",
    "expect",
    "promise",
    "select",
]

CheckFunction = Callable[["Stage"], Awaitable[None]]

#: In the order of the report. Those that have a method here are offered by providers that have it.
SUITES: Final[dict[str, str | None]] = {
    "lifecycle": None,
    "restart": None,
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


class PromiseBrokenError(NotSeenError):
    """The promise does not hold: what was ``expected``, and what was ``seen``."""


class NotRunError(Exception):
    """The check cannot be made here; the message says why."""


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


def all_checks() -> list[Check]:
    """Every check, suite by suite."""
    for suite in SUITES:
        import_module(f"virtual_kubelet.testing.conformance.suites.{suite.replace('-', '_')}_suite")
    order = list(SUITES)
    return sorted(_CHECKS.values(), key=lambda check: order.index(check.suite))


def select(names: Iterable[str]) -> list[Check]:
    """The checks of these suites (``logs``) and names (``logs.tail``); all of them if there are none.

    Raises ``ConfigurationError`` for a name that there is not.
    """
    checks = all_checks()
    wanted = [part for name in names for part in name.split(",") if part]
    known = {*SUITES, *map(str, checks)}
    for name in wanted:
        if name not in known:
            raise ConfigurationError(
                f"there is no suite or check {name!r}", hint=f"suites: {', '.join(SUITES)}; --list names the checks"
            )
    return [check for check in checks if not wanted or check.suite in wanted or str(check) in wanted]


def expect(holds: object, expected: str, seen: object) -> None:
    """Raise ``PromiseBrokenError`` unless it holds."""
    if not holds:
        raise PromiseBrokenError(expected, str(seen))

"""All checks there are, and those that somebody names."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.testing.conformance.check import SUITES, Check, promises

__all__ = ["all_checks", "select"]


def all_checks() -> list[Check]:
    """Every check, suite by suite."""
    for suite in SUITES:
        import_module(f"virtual_kubelet.testing.conformance.suites.{suite.replace('-', '_')}_suite")
    order = list(SUITES)
    return sorted(promises(), key=lambda check: order.index(check.suite))


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

"""The conformance kit: what a node promises to the users of its pods, each promise a check that says whether it holds.

``virtual-kubelet conformance --provider NAME`` runs it; in pytest it is three lines, see ``pytest_plugin``; in Python:

    report = await run_conformance(ConformanceConfig(provider="mine:Provider"))
    assert report.holds, report_text(report)

The checks are in ``suites``; they use the API only, as a user does, and compare with what a kubelet does. What a provider
does not promise, and what its containers can run, it says in a ``Declaration``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from virtual_kubelet.testing.conformance.catalogue import all_checks as all_checks
    from virtual_kubelet.testing.conformance.catalogue import select as select
    from virtual_kubelet.testing.conformance.check import SUITES as SUITES
    from virtual_kubelet.testing.conformance.check import Check as Check
    from virtual_kubelet.testing.conformance.declaration import Declaration as Declaration
    from virtual_kubelet.testing.conformance.declaration import WorkloadTemplate as WorkloadTemplate
    from virtual_kubelet.testing.conformance.junit import junit_xml as junit_xml
    from virtual_kubelet.testing.conformance.report import report_text as report_text
    from virtual_kubelet.testing.conformance.results import CheckResult as CheckResult
    from virtual_kubelet.testing.conformance.results import ConformanceReport as ConformanceReport
    from virtual_kubelet.testing.conformance.results import Verdict as Verdict
    from virtual_kubelet.testing.conformance.run import ConformanceConfig as ConformanceConfig
    from virtual_kubelet.testing.conformance.run import run_conformance as run_conformance

#: Public name -> the module it lives in.
_PUBLIC = {
    "SUITES": "check",
    "Check": "check",
    "CheckResult": "results",
    "ConformanceConfig": "run",
    "ConformanceReport": "results",
    "Declaration": "declaration",
    "Verdict": "results",
    "WorkloadTemplate": "declaration",
    "all_checks": "catalogue",
    "junit_xml": "junit",
    "report_text": "report",
    "run_conformance": "run",
    "select": "catalogue",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""The report as JUnit's XML, which CI servers read: a test suite for each suite, a test case for each check. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from virtual_kubelet.testing.conformance.results import CheckResult, ConformanceReport, Verdict

__all__ = ["junit_xml"]

#: What XML 1.0 cannot hold.
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(report: ConformanceReport) -> bytes:
    """A broken promise is a failure; what is not claimed or cannot be run is skipped, with the reason."""
    root = Element("testsuites", _counts(report.results, name=f"conformance of {report.provider}", time=report.seconds))
    suites: dict[str, list[CheckResult]] = {}
    for result in report.results:
        suites.setdefault(result.check.suite, []).append(result)
    for name, results in suites.items():
        suite = SubElement(root, "testsuite", _counts(results, name=name, time=sum(one.seconds for one in results)))
        for result in results:
            _case(suite, result)
    indent(root)
    body: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return body + b"\n"


def _counts(results: Sequence[CheckResult], *, name: str, time: float) -> dict[str, str]:
    broken = sum(one.verdict is Verdict.BROKEN for one in results)
    skipped = sum(one.verdict in (Verdict.NOT_CLAIMED, Verdict.NOT_RUN) for one in results)
    return {
        "name": name,
        "tests": str(len(results)),
        "failures": str(broken),
        "errors": "0",
        "skipped": str(skipped),
        "time": f"{time:.3f}",
    }


def _case(suite: Element, result: CheckResult) -> None:
    check = result.check
    attributes = {"classname": check.suite, "name": check.name, "time": f"{result.seconds:.3f}"}
    case = SubElement(suite, "testcase", attributes)
    if result.verdict is Verdict.BROKEN:
        failure = SubElement(case, "failure", {"message": _text(f"expected: {result.expected}; seen: {result.seen}")})
        parts = [check.promise, f"expected: {result.expected}", f"seen: {result.seen}"]
        failure.text = _text("\n".join([*parts, "", *result.history, "", *result.events]))
    elif result.verdict is not Verdict.HOLDS:
        SubElement(case, "skipped", {"message": _text(f"{result.verdict.value}: {result.reason}")})


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)

"""What the documentation says of tests and files is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest


@cache
def _tests_of(path: Path) -> set[str]:
    """``name`` of each test function and ``Class::name`` of each method in a file."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found.update(
                f"{node.name}::{inner.name}"
                for inner in node.body
                if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef))
            )
    return found


def _missing(text: str, repository: Path) -> list[str]:
    missing = []
    for path, name in re.findall(r"(tests/[\w/]+\.py)::([\w:]+)", text):
        file = repository / path
        if not file.is_file() or name not in _tests_of(file):
            missing.append(f"{path}::{name}")
    return missing


def test_every_test_that_proves_a_rule_of_upstream_exists(repository: Path) -> None:
    text = (repository / "docs/upstream-rules.md").read_text()
    assert text.count("::") > 100
    assert _missing(text, repository) == []


@pytest.mark.parametrize(
    "name",
    [
        "tests/no_such_file.py::test_x",
        "tests/test_documentation.py::test_no_such",
        "tests/test_documentation.py::A::test_x",
    ],
)
def test_a_test_that_does_not_exist_is_noticed(repository: Path, name: str) -> None:
    assert _missing(f"| rule | `{name}` |", repository) == [name]


def test_every_row_of_upstream_s_rules_has_a_test_or_says_why_not(repository: Path) -> None:
    rows = [line for line in (repository / "docs/upstream-rules.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) > 80
    heads = ("| upstream |", "| rule |", "| thread |")
    bare = [row for row in rows if "tests/" not in row and not row.startswith(heads)]
    assert all("not offered yet" in row or "a benchmark, not a test" in row for row in bare), bare


#: Rows of ../shared/research/upstream.md that the list must have, and sections it may have more of.
_SECTIONS = ("8.2", "8.3", "10.1", "10.2", "10.3", "10.4", "10.5", "10.7")
_NAMES = re.compile(r"Test\w+|Benchmark\w+|\w+Scenario\w*|…With\w+|#\d+")


def _section(text: str, number: str) -> str:
    start = text.index(f"\n### {number} ")
    return text[start : text.index("\n##", start + 1)]


def _subjects(row: str) -> list[list[str]]:
    """What the first cell of a row is about: upstream's tests, or threads; each as the ways the list may call it."""
    cell = row.split("|")[1]
    subjects = []
    for prefix, inner in re.findall(r"(\w+)\{([^}]*)\}", cell):
        subjects += [[prefix + name.strip(), "…" + name.strip(), name.strip()] for name in inner.split(",")]
    cell = re.sub(r"\w+\{[^}]*\}", "", cell)
    prefix = re.match(r"\s*(Test\w+)/", cell)
    subjects += [[name] for name in _NAMES.findall(cell)]
    if prefix:
        subjects += [[f"{prefix[1]}/{name}", f"/{name}", name] for name in re.findall(r"/(\w+)", cell)]
    return subjects or [[cell.strip()]]


@pytest.mark.recording
@pytest.mark.parametrize("number", _SECTIONS)
def test_no_rule_of_upstream_is_forgotten(repository: Path, shared: Path, number: str) -> None:
    section = _section((shared / "research/upstream.md").read_text(), number)
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) >= 5
    listed = (repository / "docs/upstream-rules.md").read_text()
    forgotten = [ways[0] for row in rows for ways in _subjects(row) if not any(way in listed for way in ways)]
    assert forgotten == []


@pytest.mark.recording
@pytest.mark.parametrize("number", range(1, 8))
def test_every_defect_of_upstream_s_http_api_has_a_row(repository: Path, shared: Path, number: int) -> None:
    upstream = (shared / "research/upstream.md").read_text()
    start = upstream.index(f"\n### 5.{number} ")
    section = upstream[start : upstream.index("\n##", start + 1)]
    rows = (repository / "docs/upstream-rules.md").read_text().count(f"\n| §5.{number} ")
    assert rows >= max(1, section.count("**!**"))


@pytest.mark.recording
def test_what_users_asked_for_of_pods_has_tests_named_after_it(repository: Path, shared: Path) -> None:
    """A row of §10.5, a test: its docstring begins with the threads, and the list has it beside them."""
    section = _section((shared / "research/upstream.md").read_text(), "10.5")
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    file = "tests/test_what_users_asked_for.py"
    functions = [
        one for one in ast.parse((repository / file).read_text()).body if isinstance(one, ast.AsyncFunctionDef)
    ]
    tests = {one.name: ast.get_docstring(one) or "" for one in functions if one.name.startswith("test_")}
    listed = (repository / "docs/upstream-rules.md").read_text()
    for row in rows:
        threads = re.sub(r" \((open|closed|fixed|merged)[^)]*\)", "", row.split("|")[1]).strip()
        named = [name for name, docstring in tests.items() if docstring.startswith(threads)]
        assert len(named) == 1, f"{threads}: {named}"
        assert f"| {threads} |" in listed
        assert f"`{file}::{named[0]}`" in listed.partition(f"| {threads} |")[2].partition("\n")[0], threads
    assert len(tests) == len(rows)

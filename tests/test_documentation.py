"""What the documentation says of tests and files is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest


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

"""The transcripts' own rules: what they accept, and what they do not."""

from __future__ import annotations

import pytest

from tests.contract.test_kubectl import NAMES, TRANSCRIPTS
from tests.contract.transcript import mismatch, parse

VALUES = {"ns": "test", "node": "n1"}


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ([], ""),
        (["web  1/1  {age}"], "web    1/1   3m5s\n"),
        (["a", "...", "z"], "a\nb\nc\nz\n"),
        (["a", "...", "z"], "a\nz\n"),
        (["in {ns} on {node}"], "in test on n1\n"),
        (["        app=web"], "                  app=web\n"),
        (["first", "", "last", ""], "first\n\nlast\n\n"),
        (['{"a":{number}}'], '{"a":12}\n'),
    ],
)
def test_what_is_expected(expected: list[str], actual: str) -> None:
    assert mismatch(expected, actual, VALUES) == ""


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        ([], "something\n"),
        (["something"], ""),
        (["a", "b"], "b\na\n"),
        (["a"], "a\na\n"),
        (["web 1/1"], "web  1/1\n"),
        (["  indented"], "    indented\n"),
        (["{age}"], "soon\n"),
        (["a", "", "b"], "a\nb\n"),
        (["...", "z"], "a\n"),
        (["a.c"], "abc\n"),
    ],
)
def test_what_is_not(expected: list[str], actual: str) -> None:
    assert mismatch(expected, actual, VALUES)


def test_a_line_or_a_command_may_be_one_servers_alone() -> None:
    text = "# words\n$ one\ndev|new\ndebian|old\n! problem\n[exit 3]\n\ndev$ two\n> more\nout\n\ndebian$ three\n"
    first, second = parse(text, "dev")
    assert (first.command, first.out, first.err, first.code) == ("one", ["new", ""], ["problem"], 3)
    assert (second.command, second.out) == ("two\nmore", ["out", ""])
    assert [(step.command, step.out) for step in parse(text, "debian")] == [("one", ["old", ""]), ("three", [])]


def test_a_line_may_be_one_version_of_kubectls_alone() -> None:
    text = "$ one\nv136|old\nv137|new\ndev|all\nv999|as it is\n"
    assert [step.out for step in parse(text, "dev", "v136")] == [["old", "all", "v999|as it is"]]
    assert [step.out for step in parse(text, "dev", "v137")] == [["new", "all", "v999|as it is"]]


def test_there_are_enough_commands_and_none_that_expects_nothing_at_all() -> None:
    steps = [step for name in NAMES for step in parse((TRANSCRIPTS / f"{name}.txt").read_text(), "dev", "v137")]
    assert len(steps) > 150
    silent = [s.command for s in steps if not any(s.out) and not s.err]
    # Commands that say nothing when all is well.
    assert [
        c for c in silent if not any(word in c for word in ("--for=delete", "--ignore-not-found", "kubectl diff"))
    ] == []

"""docs/command-line.md says everything --help says: options, variables, exit codes."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from virtual_kubelet.cli import build_parser
from virtual_kubelet.cli.exit_codes import MEANINGS


@pytest.fixture
def text(repository: Path) -> str:
    return (repository / "docs" / "command-line.md").read_text()


def commands() -> dict[str, argparse.ArgumentParser]:
    [found] = [action for action in build_parser()._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found.choices)


@pytest.mark.parametrize("name", ["run", "up", "conformance"])
def test_every_option_is_documented_and_none_that_is_gone(text: str, name: str) -> None:
    section = text.split(f"\n## `{name}`\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `--")]
    documented = set(re.findall(r"--[a-z-]+", " ".join(rows)))
    offered = {
        option
        for action in commands()[name]._actions
        for option in action.option_strings
        if option.startswith("--") and action.help != argparse.SUPPRESS
    }
    assert documented == offered - {"--help", "--log-level", "--log-format"}


@pytest.mark.parametrize("name", ["run", "up"])
def test_every_variable_is_documented(text: str, name: str) -> None:
    for rule in commands()[name].get_default("environment_rules"):
        assert f"`{rule.variable}`" in text


def test_every_exit_code_is_documented_in_the_same_words(text: str) -> None:
    plain = text.replace("`", "")
    for code, meaning in MEANINGS.items():
        assert f"| {int(code)} | {meaning.replace('`', '')} |" in plain

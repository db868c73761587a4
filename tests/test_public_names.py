"""The package's face: every public name is there, and the version is the distribution's."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import virtual_kubelet


def test_every_public_name_can_be_imported() -> None:
    for name in virtual_kubelet.__all__:
        assert getattr(virtual_kubelet, name) is not None
    assert set(virtual_kubelet.__all__) <= set(dir(virtual_kubelet))


def test_every_public_name_is_public_in_its_own_module() -> None:
    for name, module in virtual_kubelet._PUBLIC.items():
        assert name in import_module(f"virtual_kubelet.{module}").__all__


def test_the_version_is_that_of_the_distribution(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    assert virtual_kubelet.__version__ == project["version"]


def test_a_name_that_there_is_not_is_an_error_to_python_and_to_a_type_checker() -> None:
    with pytest.raises(ImportError):
        # mypy reports an `ignore` that ignores nothing: this line is the proof that it knows.
        from virtual_kubelet import NoSuchName  # type: ignore[attr-defined]  # noqa: F401


def test_a_type_checker_knows_every_public_name() -> None:
    source = Path(virtual_kubelet.__file__).read_text()
    known = set(re.findall(r"^    from virtual_kubelet\.\S+ import (\w+) as \1$", source, re.MULTILINE))
    assert known == set(virtual_kubelet._PUBLIC)

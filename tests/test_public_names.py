"""The package's face: every public name is there, and the version is the distribution's."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

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

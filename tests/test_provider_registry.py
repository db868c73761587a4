"""Providers by name: installed ones, module:Name, and errors that say which part is missing."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from virtual_kubelet.errors import ProviderConfigError
from virtual_kubelet.provider_registry import _APART, GROUP, installed_providers, load_provider

Write = Callable[[str, str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes an importable module; its name is unique to the test."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, text: str) -> str:
        name = f"{name}_{abs(hash(tmp_path)):x}"
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def test_the_built_in_providers_are_found_as_any_other_package_s() -> None:
    known = installed_providers()
    assert known["mock"].target == "virtual_kubelet.providers.mock:MockProvider"
    assert known["process"].target == "virtual_kubelet.providers.process:ProcessProvider"
    assert known["mock"].distribution.startswith("virtual-kubelet ")


def test_an_installed_provider_is_loaded_by_its_name() -> None:
    from virtual_kubelet.providers.mock import MockProvider

    assert load_provider("mock") is MockProvider


def test_a_class_is_loaded_by_module_and_name(module: Write) -> None:
    name = module("mine", "class Outer:\n    class Inner:\n        pass\n")
    assert load_provider(f"{name}:Outer.Inner").__qualname__ == "Outer.Inner"


def refusal(name: str) -> ProviderConfigError:
    with pytest.raises(ProviderConfigError) as refused:
        load_provider(name)
    return refused.value


def test_one_that_is_a_distribution_of_its_own_says_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    own = entry_points(group=GROUP).select(name="mock")
    monkeypatch.setattr("virtual_kubelet.provider_registry.entry_points", lambda group: own)
    with pytest.raises(
        ProviderConfigError, match=r"the provider 'docker' is not installed; known ones: mock"
    ) as caught:
        load_provider("docker")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("pip install virtual-kubelet-docker, or in a clone")


def test_the_providers_apart_are_those_of_this_repository(repository: Path) -> None:
    distributions = {
        path.parent.name: tomllib.loads(path.read_text()) for path in repository.glob("providers/*/pyproject.toml")
    }
    assert {name: file["project"]["name"] for name, file in distributions.items()} == _APART


def test_an_unknown_name_lists_the_known_ones_and_suggests_the_closest() -> None:
    error = refusal("mokc")
    assert "'mokc'" in str(error)
    assert "mock" in str(error)
    assert "process" in str(error)
    assert error.hint == "did you mean 'mock'?"
    assert "module:Name" in refusal("azure").hint


@pytest.mark.parametrize("name", [":Name", "module:", ":"])
def test_half_a_name_is_refused(name: str) -> None:
    assert refusal(name).hint == "write it as module:Name"


def test_a_module_that_is_not_there_is_named() -> None:
    assert "there is no module 'nowhere_at_all'" in str(refusal("nowhere_at_all.inner:Provider"))


def test_an_import_that_fails_inside_the_module_is_named(module: Write) -> None:
    name = module("needy", "import a_library_nobody_has\n")
    error = refusal(f"{name}:Provider")
    assert f"{name} imports 'a_library_nobody_has', which is not installed" in str(error)
    assert "a_library_nobody_has" in error.hint
    name = module("wants", "from json import no_such_thing\n")
    assert "no_such_thing" in str(refusal(f"{name}:Provider"))


@pytest.mark.parametrize(
    ("text", "said"),
    [("x = (", "SyntaxError"), ("raise RuntimeError('out of order')", "RuntimeError: out of order")],
)
def test_a_module_that_breaks_when_imported_is_no_traceback(module: Write, text: str, said: str) -> None:
    assert said in str(refusal(f"{module('broken', text)}:Provider"))


def test_a_name_that_the_module_does_not_have_is_named(module: Write) -> None:
    name = module("mine", "Provider = 3\n")
    assert f"{name} has no 'Missing'" in str(refusal(f"{name}:Missing"))
    assert "Provider is a int, not a class or factory" in str(refusal(f"{name}:Provider"))

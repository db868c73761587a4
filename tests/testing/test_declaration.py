"""What a provider declares: read, refused, and made into pods."""

from __future__ import annotations

from pathlib import Path

import pytest

from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.providers.mock import MockProvider
from virtual_kubelet.testing import a_pod
from virtual_kubelet.testing.conformance import Declaration, WorkloadTemplate
from virtual_kubelet.testing.conformance.declaration_files import find_declaration, read_declaration


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_nothing_declared_is_a_shell_and_every_promise(tmp_path: Path) -> None:
    found = read_declaration(written(tmp_path / "c.yaml", ""))
    assert found == Declaration()
    assert found.can("shell")
    assert found.can("exits")
    assert not found.can("other-image")
    assert found.lacking("logs", "logs.tail") == ""


def test_a_suite_is_lacking_but_for_what_is_promised_after_all(tmp_path: Path) -> None:
    found = read_declaration(written(tmp_path / "c.yaml", "lacks: {restart: one life, restart.never: ''}"))
    assert found.lacking("restart", "restart.always") == "one life"
    assert found.lacking("restart", "restart.never") == ""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lacks: {probe: typo}", "'probe'"),
        ("claims: [nothing.like-this]", "'nothing.like-this'"),
        ("workloads: {flies: {}}", "'flies'"),
        ("images: x", "images"),
        ("shell: sh", "Expected `array | null`"),
        ("[", "not YAML"),
    ],
)
def test_a_mistake_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"c\.yaml") as caught:
        read_declaration(written(tmp_path / "c.yaml", text))
    assert said in str(caught.value)


def test_without_a_shell_only_what_is_declared_can_be_run() -> None:
    annotations = {"example.com/exit": "{code} after {seconds}"}
    made = Declaration(
        shell=None, workloads={"exits": WorkloadTemplate(annotations=annotations)}, commands={"answers": ["a"]}
    )
    assert [made.can(need) for need in ("shell", "runs", "exits", "exec:answers", "exec:echoes")] == [
        False,
        False,
        True,
        True,
        False,
    ]
    pod = made.make(a_pod("p"), "exits", {"code": 3, "seconds": 1}).build()
    assert pod.metadata.annotations == {"example.com/exit": "3 after 1"}
    assert pod.spec.containers[0].command is None


def test_a_script_is_not_expanded_by_kubernetes() -> None:
    pod = Declaration().script(a_pod("p"), "echo $(date) $$ $HOME").build()
    assert pod.spec.containers[0].command == ["/bin/sh", "-c", "echo $$(date) $$$$ $$HOME"]


def test_it_is_found_beside_the_provider_s_module() -> None:
    path = find_declaration(MockProvider)
    assert path is not None
    assert path.parent.name == "mock"
    assert find_declaration(lambda context: None) is None

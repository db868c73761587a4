"""``virtual-kubelet conformance`` as its users run it: the built-in providers keep all that they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.container_engines import ContainerEngine
from virtual_kubelet.cli.exit_codes import ExitCode
from virtual_kubelet.testing.conformance import SUITES, all_checks

#: Seconds for all checks of a provider: some 40 on a machine with nothing else to do, minutes beside other tests.
PATIENCE = 480

#: Of the docker provider: what is about its containers, processes and streams. Volumes, probes, restarts and logs are the
#: engine's and the framework's: the process provider shows them here, and the real node tests show them with containers.
DOCKER_SUITES = ["lifecycle", "resize", "exec", "attach", "port-forward", "stats", "adoption"]


def conformance(*arguments: str, directory: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "virtual_kubelet", "conformance", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=directory,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.timeout(PATIENCE + 60)
@pytest.mark.parametrize(("provider", "least"), [("mock", 44), ("process", 122)])
def test_it_keeps_what_it_promises(provider: str, least: int, tmp_path: Path) -> None:
    """``least``: promises that hold. The number may only grow."""
    junit = tmp_path / "junit.xml"
    done = conformance("--provider", provider, "--junit", str(junit), "--timeout", "200s")
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    root = ElementTree.parse(junit).getroot()
    assert root.get("failures") == "0"
    assert [suite.get("name") for suite in root] == list(SUITES)
    assert len(root.findall("testsuite/testcase")) == len(all_checks())
    held = int(root.get("tests", "0")) - int(root.get("skipped", "0"))
    assert held >= least, done.stdout
    assert f"All {held} promises hold." in done.stdout


@pytest.mark.engine
@pytest.mark.timeout(PATIENCE + 60)
def test_the_docker_provider_keeps_what_it_promises(podman: ContainerEngine, tmp_path: Path) -> None:
    config = tmp_path / "docker.yaml"
    config.write_text(f"host: {podman.url}\n")
    podman.cli("tag", "docker.io/library/busybox:1.35", "docker.io/library/busybox:1.36")
    done = conformance(
        *("--provider", "docker", "--provider-config", str(config), "--timeout", "300s", "--suite", *DOCKER_SUITES)
    )
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    held = len([check for check in all_checks() if check.suite in DOCKER_SUITES])
    assert f"All {held} promises hold." in done.stdout
    # Nothing of it is left at the engine, whose other users' containers are not ours to judge.
    names = podman.cli("ps", "--all", "--format", "{{.Names}}").split()
    assert [name for name in names if "_conformance-" in name] == []


def test_a_broken_promise_is_told_with_all_that_was_seen(repository: Path) -> None:
    declaration = str(repository / "src/virtual_kubelet/providers/mock/conformance.yaml")
    provider = "tests.testing.bad_providers:TakesItsNodeDown"
    done = conformance(
        *("--provider", provider, "--declaration", declaration, "--suite", "lifecycle.runs"), directory=repository
    )
    assert done.returncode == ExitCode.FAILURE
    for words in (
        "BROKEN  lifecycle.runs",
        "expected:  the node runs",
        "ended with 9",
        "lifecycle-runs-1:",
        f"virtual-kubelet conformance --provider {provider} --declaration {declaration} --suite lifecycle.runs",
        "1 of 1 promises are broken.",
    ):
        assert words in done.stdout
    assert "broken              lifecycle.runs" in done.stderr


def test_the_checks_are_listed_with_their_promises() -> None:
    done = conformance("--list", "--suite", "logs.tail", "exec")
    assert done.returncode == ExitCode.OK
    assert "  logs.tail  [prints]\n      tailLines gives the last lines, 0 none.\n" in done.stdout
    assert "exec.stdin" in done.stdout
    assert "restart.always" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--provider", "mock", "--suite", "nonsense"], "there is no suite or check 'nonsense'"),
        (["--provider", "nope", "--suite", "logs"], "'nope'"),
        ([], "which provider is to be judged?"),
        (["--provider", "mock", "--declaration", "/no/such/file"], "/no/such/file"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_started(arguments: list[str], said: str) -> None:
    done = conformance(*arguments)
    assert done.returncode == ExitCode.CONFIGURATION
    assert said in done.stderr
    assert "\n  hint: " in done.stderr
    assert done.stdout == ""

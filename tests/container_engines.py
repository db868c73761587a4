"""A pytest plugin: a real Podman and a real dockerd, started once a run for all its workers when a test asks for one."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.locations import REPOSITORY

_DIRECTORY = "VIRTUAL_KUBELET_TEST_ENGINES"
KINDS = ("podman", "dockerd")


@dataclass(frozen=True)
class ContainerEngine:
    """One that runs.

    Attributes:
        kind: ``podman`` or ``dockerd``.
        url: of its API.
        directory: all its state; ``cli`` in it is its command-line program.
    """

    kind: str
    url: str
    directory: Path

    def cli(self, *arguments: str) -> str:
        """Blocking. Raises ``CalledProcessError``."""
        command = [str(self.directory / "cli"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        os.environ[_DIRECTORY] = tempfile.mkdtemp(prefix="vk-engines-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """In the process that started the workers, which have ended."""
    if hasattr(config, "workerinput"):
        return
    base = Path(os.environ.pop(_DIRECTORY))
    for kind in KINDS:
        if (base / kind).is_dir():
            _up(kind, base / kind, "--stop")
    shutil.rmtree(base, ignore_errors=True)


def engine(kind: str) -> ContainerEngine:
    """Starts it if it does not run; skips the test where it cannot."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("a real container engine needs root and Debian")
    base = Path(os.environ[_DIRECTORY])
    with open(base / f"{kind}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return ContainerEngine(kind, _up(kind, base / kind), base / kind)


def _up(kind: str, directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        [REPOSITORY / "tools" / kind / "up", directory, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"tools/{kind}/up failed: {done.stderr[-2000:]}")
    return done.stdout.strip().rpartition("\n")[2]


@pytest.fixture(scope="session")
def podman() -> ContainerEngine:
    return engine("podman")


@pytest.fixture(scope="session")
def dockerd() -> ContainerEngine:
    return engine("dockerd")


@pytest.fixture(params=KINDS)
def container_engine(request: pytest.FixtureRequest) -> ContainerEngine:
    """Each test with it runs twice, with a Podman and with a dockerd."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, ContainerEngine)
    return found

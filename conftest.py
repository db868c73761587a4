"""Options and guards for every test: which API server the contract tests meet, no blocking call, no silent death."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.locations import REPOSITORY, SHARED
from virtual_kubelet.volumes.mounting import mount_points_below, unmount

pytest_plugins = ["tests.container_engines"]

#: Functions that read files by design, before anything else runs: (end of the module's path, function).
MAY_BLOCK = [
    ("virtual_kubelet/kube/kubeconfig.py", "load_kubeconfig"),
    ("virtual_kubelet/kube/kubeconfig.py", "in_cluster_config"),
    ("virtual_kubelet/kube/kubeconfig.py", "find_config"),
    ("virtual_kubelet/runtime/checkpoint.py", "__init__"),
]

#: Folders whose tests take the most seconds, the longest first.
LONG = (
    "tests/testing/",
    "tests/cli/",
    "tests/contract/",
    "providers/docker/",
    "tests/providers/",
    "tests/volumes/",
    "tests/test_",
)


def pytest_configure() -> None:
    # The environment's own kubectl, whatever else this machine has.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # Else pytest-asyncio's look for a current loop makes one on Python 3.11, which nobody closes.
    asyncio.set_event_loop(None)
    # How fast a machine is, is no property of the code.
    settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("project")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kubernetes",
        metavar="DIR",
        help="run the contract tests against the control plane that `tools/kubernetes/up DIR` started, "
        "instead of the embedded dev cluster",
    )
    parser.addoption("--no-skips", action="store_true", help="a recording, contract or engine test that skips fails")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With ``--no-skips`` a recording, contract or engine test that skips has failed: CI has all they need."""
    report = yield
    bites = any(item.get_closest_marker(name) for name in ("recording", "contract", "engine"))
    if report.skipped and bites and item.config.getoption("--no-skips") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may: {report.longrepr}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that wait for clusters, processes and engines begin first: at the end no worker waits for a long one."""

    def place(item: pytest.Item) -> int:
        return next((index for index, folder in enumerate(LONG) if item.nodeid.startswith(folder)), len(LONG))

    items.sort(key=place)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The recordings; a test that needs them skips where they are absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no recordings: {SHARED.name}/ is not beside the repository")
    return SHARED


@pytest.fixture(autouse=True)
def blockbuster(request: pytest.FixtureRequest) -> Iterator[BlockBuster | None]:
    """A blocking call in an event loop fails the test, unless marked ``may_block`` or listed above."""
    if request.node.get_closest_marker("may_block") is not None:
        yield None
        return
    with blockbuster_ctx("virtual_kubelet") as blocker:
        for function in blocker.functions.values():
            for module, caller in MAY_BLOCK:
                function.can_block_in(module, caller)
        yield blocker


class _Unheard(logging.Handler):
    """What asyncio says of tasks whose end nobody has seen, in code or in a test."""

    SAYS = ("Task exception was never retrieved", "Future exception was never retrieved", "Task was destroyed")

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith(self.SAYS):
            self.said.append(logging.Formatter().format(record))


@pytest.fixture(autouse=True)
def no_task_dies_unseen() -> Iterator[None]:
    """A task that died and that nobody waits for fails the test: it would only be seen as something that never happens."""
    unheard = _Unheard()
    logger = logging.getLogger("asyncio")
    logger.addHandler(unheard)
    yield
    logger.removeHandler(unheard)
    assert not unheard.said, "\n".join(unheard.said)


@pytest.fixture(autouse=True)
def nothing_stays_mounted(request: pytest.FixtureRequest) -> Iterator[None]:
    """A node that stops leaves the volumes of its pods mounted; here they would outlive their folder."""
    if "tmp_path" not in request.fixturenames:
        yield
        return
    folder: Path = request.getfixturevalue("tmp_path")
    yield
    for mounted in mount_points_below(folder):
        unmount(mounted)

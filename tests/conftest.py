"""Options and guards for every test: which API server the contract tests meet, and no blocking call in a loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, blockbuster_ctx

REPOSITORY = Path(__file__).resolve().parent.parent
#: Recordings of a real API server and a real kubelet; beside the repository, in CI too.
SHARED = REPOSITORY.parent / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kubernetes",
        metavar="DIR",
        help="run the contract tests against the control plane that `tools/kubernetes/up DIR` started, "
        "instead of the embedded dev cluster",
    )


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
    """A blocking call in an event loop fails the test; ``@pytest.mark.may_block`` is for tests that block on purpose."""
    if request.node.get_closest_marker("may_block") is not None:
        yield None
        return
    with blockbuster_ctx("virtual_kubelet") as blocker:
        yield blocker

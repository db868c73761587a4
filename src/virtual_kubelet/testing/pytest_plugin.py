"""The kit in pytest: fixtures for a provider's own tests, and the conformance checks as tests. Loaded by itself, and idle.

Every promise as a test of its own, in three lines (or ``pytest --pyargs virtual_kubelet.testing.conformance_tests``):

    from virtual_kubelet.testing.conformance import all_checks

    @pytest.mark.parametrize("check", all_checks(), ids=str)
    def test_promise(check, conformance):
        conformance.assert_holds(check)

with ``pytest --conformance-provider NAME``, or a session fixture ``conformance_config`` that gives a
``ConformanceConfig``. The checks that pytest has collected run side by side, in a thread of their own, once the first test
asks; each test then waits for its own. What is not claimed, or cannot be run, is skipped with the reason.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from virtual_kubelet.provider_binding import ProviderSource
    from virtual_kubelet.testing import FakeClock, RunningNode
    from virtual_kubelet.testing.conformance import Check, CheckResult, ConformanceConfig

__all__ = ["ConformanceThread", "NodeFactory"]

_OPTIONS = (
    ("provider", "NAME", "judge this provider: an installed one, or module:Name"),
    ("provider-config", "FILE", "handed to it"),
    ("declaration", "FILE", "instead of conformance.yaml beside its module"),
    ("image", "IMAGE", "of the containers"),
    ("kubeconfig", "FILE", "of a cluster with all rights (default: a dev cluster)"),
    ("timeout", "SECONDS", "for one check (default 120)"),
)


class NodeFactory(Protocol):
    """See ``running_node``: ``async with virtual_node(MyProvider) as node``."""

    def __call__(self, provider: ProviderSource, **options: Any) -> AbstractAsyncContextManager[RunningNode]: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("virtual kubelet's conformance kit")
    for name, metavar, text in _OPTIONS:
        group.addoption(f"--conformance-{name}", metavar=metavar, help=text)


@pytest.fixture
def virtual_node(tmp_path: Path) -> NodeFactory:
    """Starts a node on a dev cluster, whose state is in the test's own folder: two in one test are one after the other."""
    from virtual_kubelet.testing import running_node

    return partial(running_node, state_directory=tmp_path / "node-state")


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that moves when it is told to."""
    from virtual_kubelet.testing import FakeClock

    return FakeClock()


@pytest.fixture(scope="session")
def conformance_config(request: pytest.FixtureRequest) -> ConformanceConfig:
    """What is judged; by default what the options say. Override it to judge a class."""
    from virtual_kubelet.testing.conformance import ConformanceConfig
    from virtual_kubelet.testing.conformance.declaration_files import read_declaration

    given = {name: request.config.getoption(f"--conformance-{name}") for name, _, _ in _OPTIONS}
    if not given["provider"]:
        pytest.skip("which provider is to be judged? see --conformance-provider")
    return ConformanceConfig(
        provider=given["provider"],
        provider_config=Path(given["provider-config"]) if given["provider-config"] else None,
        allow_host_processes=given["provider"] == "process",
        declaration=read_declaration(Path(given["declaration"])) if given["declaration"] else None,
        image=given["image"] or "",
        kubeconfig=Path(given["kubeconfig"]) if given["kubeconfig"] else None,
        timeout=float(given["timeout"] or 120),
    )


@pytest.fixture(scope="session")
def conformance(request: pytest.FixtureRequest, conformance_config: ConformanceConfig) -> Iterator[ConformanceThread]:
    """The checks of this session; ``assert_holds(check)`` is all there is to do."""
    from virtual_kubelet.testing.conformance import Check

    wanted = []
    for item in request.session.items:
        check = (
            item.callspec.params.get("check")
            if isinstance(item, pytest.Function) and hasattr(item, "callspec")
            else None
        )
        if isinstance(check, Check) and check not in wanted:
            wanted.append(check)
    thread = ConformanceThread(conformance_config, wanted)
    try:
        yield thread
    finally:
        thread.stop()


class ConformanceThread:
    """The checks under way in an event loop of their own, beside whatever pytest runs."""

    def __init__(self, config: ConformanceConfig, checks: Sequence[Check]) -> None:
        from dataclasses import replace

        self._config = replace(config, checks=checks)
        self._results: dict[Check, Future[CheckResult]] = {check: Future() for check in checks}
        self._loop = asyncio.new_event_loop()
        self._run: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._in_thread, name="conformance", daemon=True)

    def assert_holds(self, check: Check) -> None:
        """Waits for the check; fails the test if its promise is broken, skips it if it is not claimed or cannot be run."""
        from virtual_kubelet.testing.conformance import Verdict

        if not self._thread.is_alive() and self._run is None:
            self._thread.start()
        result = self._results[check].result()
        if result.verdict is Verdict.BROKEN:
            lines = [
                check.promise,
                f"expected: {result.expected}",
                f"seen:     {result.seen}",
                *result.history,
                *result.events,
            ]
            pytest.fail("\n".join(lines), pytrace=False)
        if result.verdict is not Verdict.HOLDS:
            pytest.skip(f"{result.verdict.value}: {result.reason}")

    def stop(self) -> None:
        """End it, and wait until everything it has made is gone."""
        if self._thread.is_alive():
            if not all(future.done() for future in self._results.values()):
                self._loop.call_soon_threadsafe(self._cancel)
            self._thread.join()
        else:
            self._loop.close()

    def _cancel(self) -> None:
        if self._run is not None:
            self._run.cancel()

    def _in_thread(self) -> None:
        try:
            self._run = self._loop.create_task(self._all())
            self._loop.run_until_complete(asyncio.wait({self._run}))
        finally:
            self._loop.close()

    async def _all(self) -> None:
        from virtual_kubelet.testing.conformance import run_conformance

        def told(result: CheckResult) -> None:
            self._results[result.check].set_result(result)

        error: BaseException = RuntimeError("the run ended before this check")
        try:
            await run_conformance(self._config, told)
        except (Exception, asyncio.CancelledError) as ended:  # noqa: BLE001 - every test that waits is told
            error = ended
        for future in self._results.values():
            if not future.done():
                future.set_exception(RuntimeError(f"the checks could not be made: {type(error).__name__}: {error}"))

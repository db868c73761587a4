"""The kit's own proof: who breaks a promise is found out, at the check for it; what the breakers are made of is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from tests.testing import bad_providers as bad
from virtual_kubelet.testing.conformance import (
    ConformanceConfig,
    ConformanceReport,
    Declaration,
    Verdict,
    report_text,
    run_conformance,
    select,
)
from virtual_kubelet.testing.conformance.declaration_files import read_declaration

#: A provider, the check that finds it out, and words of what the check says.
BROKEN: list[tuple[Callable[[], bad.Factory], str, str]] = [
    (bad.loses_exit_codes, "lifecycle.exit-code", "exit code 37"),
    (bad.calls_failure_success, "lifecycle.exit-code", "phase Failed"),
    (bad.says_running_for_ever, "lifecycle.succeeds", "Succeeded or Failed"),
    (bad.never_says_ready, "lifecycle.runs", "Running and Ready"),
    (bad.has_no_addresses, "lifecycle.runs", "status.podIP is set"),
    (bad.has_no_container_ids, "lifecycle.runs", "containerID"),
    (bad.lists_containers_twice, "lifecycle.runs", "main2"),
    (bad.hangs_in_create, "lifecycle.runs", "Running and Ready"),
    (bad.hangs_in_delete, "lifecycle.deletion", "gone from the API"),
    (bad.ignores_deletion, "lifecycle.deletion", "gone from the API"),
    (bad.is_slow_to_tell, "lifecycle.runs", "Running and Ready"),
    (bad.never_stops_talking, "lifecycle.stillness", "nothing is written"),
    (bad.forgets_everything, "adoption.running-pod", "as before"),
    (bad.loses_pods_at_restart, "adoption.running-pod", "as before"),
    (bad.mistakes_one_uid_for_another, "adoption.running-pod", "as before"),
    (bad.loses_the_last_line, "logs.output", "ten lines"),
    (bad.resizes_nothing, "resize.in-place", "the container has"),
    (bad.does_not_follow, "logs.follow", "while the container runs"),
    (bad.follows_for_ever, "logs.follow", ""),
    (bad.loses_exit_codes_of_commands, "exec.output-and-exit-code", "exit code 3"),
    (bad.commands_that_hang, "exec.output-and-exit-code", "ends"),
    (bad.mixes_stdout_and_stderr, "exec.output-and-exit-code", "exit code 3"),
    (bad.cuts_stdin, "exec.stdin", "the same megabyte"),
    (bad.attaches_for_a_moment, "attach.until-it-ends", "while the container runs"),
    (bad.forwards_half, "port-forward.bytes-both-ways", "an echo"),
    (bad.forwards_anything, "port-forward.closed-port", "an error"),
    (bad.counts_nothing, "stats.summary", "CPU and memory"),
    (bad.drops_every_third_pod, "abuse.many-pods-at-once", "Running and Ready"),
    (bad.knows_pods_by_name, "abuse.same-name-again", "Running and Ready"),
]


@pytest.fixture(scope="module")
def declaration(repository: Path) -> Declaration:
    """The mock provider's, whose pods outlive their node here."""
    found = read_declaration(repository / "src/virtual_kubelet/providers/mock/conformance.yaml")
    kept = ("adoption.running-pod", "adoption.ended-pod", "adoption.deleted-meanwhile", "adoption.created-meanwhile")
    return msgspec.structs.replace(found, lacks={**found.lacks, **dict.fromkeys(kept, "")})


async def judged(
    factory: bad.Factory, checks: Sequence[str], declaration: Declaration, timeout: float
) -> ConformanceReport:
    config = ConformanceConfig(provider=factory, declaration=declaration, checks=select(checks), timeout=timeout)
    return await run_conformance(config)


@pytest.mark.parametrize(("provider", "check", "words"), BROKEN, ids=[f"{b[0].__name__}" for b in BROKEN])
async def test_a_broken_promise_is_found_out(
    provider: Callable[[], bad.Factory], check: str, words: str, declaration: Declaration
) -> None:
    report = await judged(provider(), [check], declaration, timeout=24)
    result = report.result(check)
    assert result.verdict is Verdict.BROKEN, report_text(report)
    assert words in f"{result.expected} {result.seen}", report_text(report)
    assert not report.holds
    assert f"--suite {check}" in report_text(report)


@pytest.mark.parametrize("provider", [bad.whole, bad.fails_at_first], ids=["whole", "fails at first"])
async def test_what_they_are_made_of_keeps_these_promises(
    provider: Callable[[], bad.Factory], declaration: Declaration
) -> None:
    broken = {check for _, check, _ in BROKEN if not check.startswith("resize.")}  # which no mock pod can
    checks = sorted(broken | {"adoption"})
    report = await judged(provider(), checks, declaration, timeout=180)
    assert report.holds, report_text(report)
    assert {str(result.check) for result in report.of(Verdict.HOLDS)} >= broken


async def test_a_node_whose_process_ends_keeps_no_promise() -> None:
    checks = ["lifecycle.runs", "logs.output", "adoption.running-pod"]
    config = ConformanceConfig(provider="tests.testing.bad_providers:TakesItsNodeDown", checks=select(checks))
    report = await run_conformance(config)
    assert {result.verdict for result in report.results} == {Verdict.BROKEN}, report_text(report)
    assert all("ended with 9" in result.seen for result in report.results), report_text(report)
    assert "about to end" in report.result("lifecycle.runs").seen

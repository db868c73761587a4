from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from virtual_kubelet.contracts.runtime import ContainerExit
from virtual_kubelet.runtime.transitions import Run, Step, backoff_of, next_steps, phase_of, start_backoff_of

T0 = datetime(2026, 1, 1, tzinfo=UTC)


def fresh(name: str = "a") -> Run:
    return Run(name)


def up(name: str = "a", attempts: int = 1) -> Run:
    return Run(name, attempts=attempts, started_at=T0)


def done(code: int = 0, name: str = "a", attempts: int = 1, ran: float = 1, backoff: float = 10) -> Run:
    return Run(
        name,
        attempts=attempts,
        started_at=T0,
        exit=ContainerExit(code, T0 + timedelta(seconds=ran)),
        backoff=timedelta(seconds=backoff),
        due=ran + backoff,
    )


NOW, SOON, LATER = 0.0, 2.0, 3600.0


def test_main_containers_start_together_when_there_are_no_init_containers() -> None:
    runs = [fresh("a"), fresh("b")]
    assert next_steps([], runs, "Always", NOW) == [Step(runs[0]), Step(runs[1])]


def test_init_containers_run_one_after_another_before_the_main_ones() -> None:
    first, second, main = fresh("i1"), fresh("i2"), fresh("m")
    assert next_steps([first, second], [main], "Always", NOW) == [Step(first)]
    assert next_steps([up("i1"), second], [main], "Always", NOW) == []
    assert next_steps([done(name="i1"), second], [main], "Always", NOW) == [Step(second)]
    assert next_steps([done(name="i1"), done(name="i2")], [main], "Always", NOW) == [Step(main)]


@pytest.mark.parametrize(("policy", "again"), [("Always", True), ("OnFailure", True), ("Never", False)])
def test_an_init_container_that_fails_runs_again_unless_the_policy_is_never(policy: str, again: bool) -> None:
    failed = done(1, "i")
    assert next_steps([failed], [fresh("m")], policy, LATER) == ([Step(failed)] if again else [])
    assert phase_of([failed], [fresh("m")], policy) == ("Pending" if again else "Failed")


@pytest.mark.parametrize(
    ("policy", "code", "again", "phase"),
    [
        ("Always", 0, True, "Running"),
        ("Always", 1, True, "Running"),
        ("OnFailure", 0, False, "Succeeded"),
        ("OnFailure", 1, True, "Running"),
        ("Never", 0, False, "Succeeded"),
        ("Never", 1, False, "Failed"),
    ],
)
def test_the_restart_policy_decides_what_runs_again(policy: str, code: int, again: bool, phase: str) -> None:
    run = done(code)
    assert bool(next_steps([], [run], policy, LATER)) is again
    assert phase_of([], [run], policy) == phase


def test_a_restart_waits_for_its_back_off() -> None:
    run = done(1, ran=1, backoff=10)
    assert next_steps([], [run], "Always", SOON) == [Step(run, 11.0)]
    assert next_steps([], [run], "Always", 11.0) == [Step(run)]


def test_the_first_restart_is_at_once_then_back_off_doubles_to_five_minutes() -> None:
    delays, run = [], done(1, backoff=0)
    for attempt in range(1, 10):
        run.attempts = attempt
        run.backoff = backoff_of(run)
        delays.append(run.backoff.total_seconds())
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_run_of_more_than_ten_minutes_clears_the_back_off() -> None:
    assert backoff_of(done(1, attempts=9, ran=600, backoff=300)) == timedelta(seconds=300)
    assert backoff_of(done(1, attempts=9, ran=601, backoff=300)) == timedelta(0)
    assert backoff_of(done(1, attempts=10, ran=1, backoff=0)) == timedelta(seconds=10)


def test_a_start_that_failed_is_tried_again_after_its_back_off_whatever_the_policy() -> None:
    run = Run("a", start_failures=1, due=20.0)
    assert next_steps([], [run], "Never", SOON) == [Step(run, 20.0)]
    assert next_steps([], [run], "Never", 20.0) == [Step(run)]


def test_the_back_off_of_starts_doubles_to_five_minutes() -> None:
    delays = [start_backoff_of(Run("a", start_failures=n)).total_seconds() for n in (1, 2, 3, 9, 10, 1000)]
    assert delays == [1, 2, 4, 256, 300, 300]


def test_one_of_two_containers_that_ends_does_not_end_the_pod() -> None:
    assert phase_of([], [done(0, "a"), up("b")], "Never") == "Running"
    assert next_steps([], [done(0, "a"), up("b")], "Never", LATER) == []
    assert phase_of([], [done(0, "a"), done(2, "b")], "Never") == "Failed"


def test_a_pod_is_pending_until_a_container_runs() -> None:
    assert phase_of([], [fresh()], "Always") == "Pending"
    assert phase_of([done(name="i")], [fresh()], "Always") == "Pending"
    assert phase_of([], [up("a"), fresh("b")], "Always") == "Running"

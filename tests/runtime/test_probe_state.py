"""The rules of probes, in time that is only counted."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from virtual_kubelet.objects.core_v1 import Container, ExecAction, Pod, PodSpec, Probe
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.probe_state import (
    ContainerProbes,
    ProbeKind,
    ProbeResult,
    ProbeState,
    ProbeTimes,
    grace_after_failure,
)

STARTUP, READINESS, LIVENESS = ProbeKind.STARTUP, ProbeKind.READINESS, ProbeKind.LIVENESS
GOOD, BAD = ProbeResult.SUCCESS, ProbeResult.FAILURE


def probe(**fields: int) -> Probe:
    return Probe(exec=ExecAction(command=["true"]), **fields)  # type: ignore[arg-type]


def container(*kinds: ProbeKind, **fields: int) -> Container:
    return Container(
        name="main",
        startup_probe=probe(**fields) if STARTUP in kinds else None,
        readiness_probe=probe(**fields) if READINESS in kinds else None,
        liveness_probe=probe(**fields) if LIVENESS in kinds else None,
    )


def begun(*kinds: ProbeKind, now: float = 100, **fields: int) -> ContainerProbes:
    probes = ContainerProbes(container(*kinds, **fields))
    probes.begin(now, now)
    return probes


def test_defaults_are_those_of_the_api() -> None:
    assert ProbeTimes.of(Probe()) == ProbeTimes(initial_delay=0, period=10, timeout=1, successes=1, failures=3)


def test_a_container_without_probes_is_started_and_ready_while_it_runs() -> None:
    probes = begun()
    assert (probes.started, probes.ready) == (True, True)
    probes.end()
    assert (probes.started, probes.ready) == (False, False)


def test_before_any_result_readiness_fails_and_liveness_holds() -> None:
    probes = begun(READINESS, LIVENESS)
    assert (probes.started, probes.ready, probes.failed) == (True, False, None)


def test_a_probe_is_due_after_its_delay_and_then_every_period() -> None:
    probes = begun(READINESS, initial_delay_seconds=5, period_seconds=3)
    assert probes.due == {READINESS: 105}
    probes.take(READINESS, BAD, 105, 105.5)
    assert probes.due == {READINESS: 108}


def test_a_run_that_takes_longer_than_its_period_is_followed_at_once_and_then_keeps_the_beat() -> None:
    probes = begun(READINESS, period_seconds=2)
    probes.take(READINESS, GOOD, 100, 105.5)
    assert probes.due == {READINESS: 105.5}
    probes.take(READINESS, GOOD, 105.5, 105.6)
    assert probes.due == {READINESS: 106}


def test_a_timer_that_fires_a_little_early_does_not_run_a_probe_twice() -> None:
    probes = begun(READINESS, period_seconds=2, initial_delay_seconds=5)
    probes.take(READINESS, GOOD, 104.999, 104.9995)
    assert probes.due == {READINESS: 107}


def test_results_change_after_as_many_runs_in_a_row_as_the_thresholds_say() -> None:
    probes = begun(READINESS, success_threshold=2, failure_threshold=3)
    changes = [
        probes.take(READINESS, outcome, 100, 100) for outcome in (GOOD, BAD, GOOD, GOOD, BAD, BAD, GOOD, BAD, BAD)
    ]
    assert changes == [False, False, False, True, False, False, False, False, False]
    assert probes.ready
    assert probes.take(READINESS, BAD, 100, 100)
    assert not probes.ready


def test_a_run_that_could_not_be_made_counts_for_nothing_and_breaks_no_row() -> None:
    probes = begun(LIVENESS, failure_threshold=2)
    assert not probes.take(LIVENESS, BAD, 100, 100)
    assert not probes.take(LIVENESS, None, 110, 110)
    assert probes.due == {LIVENESS: 120}
    assert probes.take(LIVENESS, BAD, 120, 120)


@pytest.mark.parametrize("kind", [STARTUP, LIVENESS])
def test_after_a_failure_that_ends_the_container_that_probe_rests_until_it_runs_anew(kind: ProbeKind) -> None:
    probes = begun(kind, failure_threshold=1)
    assert probes.take(kind, BAD, 100, 100)
    assert (probes.failed, probes.due) == (kind, {})
    probes.end()
    assert probes.failed is None
    probes.begin(200, 200)
    assert (probes.failed, probes.due) == (None, {kind: 200})


def test_what_came_of_a_run_before_a_restart_does_not_count_after_it() -> None:
    probes = begun(LIVENESS, failure_threshold=2)
    probes.take(LIVENESS, BAD, 100, 100)
    probes.end()
    probes.begin(200, 200)
    assert not probes.take(LIVENESS, BAD, 200, 200)


def test_readiness_and_liveness_wait_for_the_startup_probe_which_then_rests() -> None:
    probes = begun(STARTUP, READINESS, LIVENESS, initial_delay_seconds=2)
    assert probes.due == {STARTUP: 102}
    probes.take(STARTUP, BAD, 102, 102)
    assert (probes.started, probes.ready) == (False, False)
    assert probes.take(STARTUP, GOOD, 112, 113)
    assert (probes.started, probes.ready) == (True, False)
    assert probes.due == {READINESS: 113, LIVENESS: 113}


def test_delays_count_from_the_start_of_the_container_and_not_from_the_end_of_its_startup_probe() -> None:
    spec = container(STARTUP, READINESS)
    assert spec.readiness_probe is not None
    spec.readiness_probe.initial_delay_seconds = 60
    probes = ContainerProbes(spec)
    probes.begin(100, 100)
    probes.take(STARTUP, GOOD, 110, 110)
    assert probes.due == {READINESS: 160}


def test_while_a_pod_ends_only_readiness_is_probed() -> None:
    probes = begun(READINESS, LIVENESS)
    probes.terminate()
    assert probes.due == {READINESS: 100}
    assert not probes.take(LIVENESS, BAD, 100, 100)  # one that was under way
    waiting = begun(STARTUP, READINESS)
    waiting.terminate()
    assert (waiting.due, waiting.ready) == ({}, False)


def test_an_adopted_container_keeps_what_was_said_of_it_and_its_probes_do_not_begin_together() -> None:
    probes = ContainerProbes(container(STARTUP, READINESS, LIVENESS, initial_delay_seconds=30))
    probes.begin(40, 100, was_started=True, was_ready=True, spread=0.25)
    assert (probes.started, probes.ready, probes.failed) == (True, True, None)
    assert probes.due == {READINESS: 102.5, LIVENESS: 102.5}
    unready = ContainerProbes(container(STARTUP, READINESS))
    unready.begin(40, 100, spread=0.5)
    assert (unready.started, unready.due) == (False, {STARTUP: 105})


@pytest.mark.parametrize(
    ("deletion", "own", "pods", "seconds"),
    [(7, 5, 3, 7), (None, 5, 3, 5), (None, None, 3, 3), (None, None, None, 2), (None, 0, 3, 0)],
)
def test_the_grace_period_after_a_failure_is_the_deletions_then_the_probes_then_the_pods(
    deletion: int | None, own: int | None, pods: int | None, seconds: int
) -> None:
    spec = Container(name="main", liveness_probe=Probe(termination_grace_period_seconds=own))
    pod = Pod(
        metadata=ObjectMeta(deletion_grace_period_seconds=deletion),
        spec=PodSpec(containers=[spec], termination_grace_period_seconds=pods),
    )
    assert grace_after_failure(pod, spec, LIVENESS) == seconds


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, the documented rules hold; a plain model counts the thresholds."""

    @initialize(
        kinds=st.sets(st.sampled_from(ProbeKind)),
        delay=st.integers(0, 4),
        period=st.integers(1, 4),
        failures=st.integers(1, 3),
        successes=st.integers(1, 3),
    )
    def make(self, kinds: set[ProbeKind], delay: int, period: int, failures: int, successes: int) -> None:
        self.times = ProbeTimes(delay, period, 1, successes, failures)
        spec = container(*kinds, initial_delay_seconds=delay, period_seconds=period, failure_threshold=failures)
        for one in (spec.readiness_probe, spec.startup_probe, spec.liveness_probe):
            if one is not None:
                one.success_threshold = successes if one is spec.readiness_probe else 1
        self.probes = ContainerProbes(spec)
        self.now, self.started_at = 0.0, 0.0
        self.ended = True
        self.terminating = False
        self.outcomes: dict[ProbeKind, list[ProbeResult]] = {}

    @rule(adopted=st.booleans(), ready=st.booleans(), age=st.integers(0, 9), spread=st.floats(0, 1))
    def begin(self, adopted: bool, ready: bool, age: int, spread: float) -> None:
        self.started_at = self.now - age if adopted else self.now
        was_ready = adopted and ready
        self.probes.begin(
            self.started_at, self.now, was_started=adopted, was_ready=was_ready, spread=spread if adopted else 0
        )
        self.ended = False
        self.outcomes = {kind: [] for kind in self.probes.states}
        self.was_ready, self.was_started = was_ready, adopted

    @rule()
    def end(self) -> None:
        self.probes.end()
        self.ended = True

    @rule()
    def terminate(self) -> None:
        self.probes.terminate()
        self.terminating = True

    @precondition(lambda self: self.probes.due)
    @rule(outcome=st.sampled_from([GOOD, BAD, None]), took=st.floats(0, 9), data=st.data())
    def run(self, outcome: ProbeResult | None, took: float, data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from(sorted(self.probes.due)))
        began = max(self.now, self.probes.due[kind])
        self.now = began + took
        before = self.probes.states[kind].result
        changed = self.probes.take(kind, outcome, began, self.now)
        assert changed == (self.probes.states[kind].result is not before)
        if outcome is not None:
            self.outcomes[kind].append(outcome)
        following = self.probes.due.get(kind)
        if following is not None:
            assert self.now <= following <= max(self.now, began + self.times.period)

    def said(self, kind: ProbeKind) -> ProbeResult | None:
        """What the newest row that is long enough says; None if there was none."""
        outcomes = self.outcomes[kind]
        needed = {BAD: self.times.failures, GOOD: self.times.successes if kind is READINESS else 1}
        said = None
        for at in range(len(outcomes)):
            row = needed[outcomes[at]]
            if at + 1 >= row and set(outcomes[at + 1 - row : at + 1]) == {outcomes[at]}:
                said = outcomes[at]
        return said

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "probes"):
            return
        probes, due = self.probes, self.probes.due
        if self.ended:
            assert (due, probes.started, probes.ready, probes.failed) == ({}, False, False, None)
            return
        has = probes.states.keys()
        started = STARTUP not in has or self.was_started or self.said(STARTUP) is GOOD
        assert probes.started == started
        said = self.said(READINESS) if READINESS in has else GOOD
        assert probes.ready == (started and ((said is GOOD) if said is not None else self.was_ready))
        assert all(at >= self.started_at + self.times.initial_delay for at in due.values())
        if self.terminating:
            assert set(due) <= {READINESS}
        else:
            resting = {kind for kind in (STARTUP, LIVENESS) if kind in has and self.said(kind) is BAD}
            waiting = has & ({READINESS, LIVENESS} if started else {STARTUP})
            assert set(due) == waiting - resting
            assert probes.failed == next(iter(resting), None)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(settings.get_profile("project"), max_examples=60, stateful_step_count=30)


def test_a_state_that_rests_takes_nothing() -> None:
    state = ProbeState(LIVENESS, ProbeTimes())
    assert not state.take(BAD, 1, 1)
    assert state.result is ProbeResult.UNKNOWN

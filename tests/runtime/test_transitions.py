"""The tables of transitions against the rules that are documented: every line, and at random."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from virtual_kubelet.contracts.runtime import ContainerExit, ContainerInstance, PodSandbox
from virtual_kubelet.objects.core_v1 import (
    Container,
    ContainerResizePolicy,
    Lifecycle,
    LifecycleHandler,
    Pod,
    PodSpec,
    Probe,
    ResourceRequirements,
    SleepAction,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime import pod_actions as do
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.next_steps import advance
from virtual_kubelet.runtime.pod_state import ContainerPhase, ContainerRecord, Now, PodStage, PodState
from virtual_kubelet.runtime.restarts import BackoffOptions, plan_restart
from virtual_kubelet.runtime.status import build_status
from virtual_kubelet.runtime.transition_picture import picture
from virtual_kubelet.runtime.transitions import CONTAINER_TABLE, POD_TABLE, TransitionOptions, apply

T0 = datetime(2026, 1, 1, tzinfo=UTC)
OPTIONS = TransitionOptions()


def at(seconds: float) -> Now:
    return Now(seconds, T0 + timedelta(seconds=seconds))


def pod(policy: str = "Always", *, init: int = 0, sidecars: int = 0, main: int = 1, probe: bool = False) -> Pod:
    startup = Probe() if probe else None
    return Pod(
        metadata=ObjectMeta(name="p", namespace="default", uid="u1"),
        spec=PodSpec(
            restart_policy=policy,
            termination_grace_period_seconds=30,
            init_containers=[
                *(
                    Container(name=f"s{n}", image="i", restart_policy="Always", startup_probe=startup)
                    for n in range(sidecars)
                ),
                *(Container(name=f"i{n}", image="i") for n in range(init)),
            ]
            or None,
            containers=[Container(name=f"m{n}", image="i") for n in range(main)],
        ),
    )


@dataclass
class Machine:
    """A pod and what was asked of it, with a clock."""

    state: PodState
    now: float = 0.0
    runs: int = 0

    @classmethod
    def of(cls, one: Pod) -> Machine:
        machine = cls(PodState.of(one, at(0)))
        machine.go()
        machine.take(on.Prepared(None))
        return machine

    def take(self, event: Any) -> list[Any]:
        return [*apply(self.state, event, OPTIONS, at(self.now)), *self.go()]

    def go(self) -> list[Any]:
        return advance(self.state, OPTIONS, at(self.now)).actions

    def start(self, name: str) -> None:
        self.runs += 1
        labels = {"container": name}
        self.take(
            on.Started(name, ContainerInstance(f"{name}-{self.runs}", labels, at(self.now).wall), wanted_image="i")
        )

    def end(self, name: str, code: int) -> list[Any]:
        run = self.record(name).run
        assert run is not None
        return self.take(on.Exited(name, run.id, ContainerExit(code, at(self.now).wall)))

    def record(self, name: str) -> ContainerRecord:
        found = self.state.find(name)
        assert found is not None
        return found

    def starting(self) -> list[str]:
        return [r.name for r in self.state.containers if r.phase is ContainerPhase.STARTING]


def test_init_containers_come_one_after_another_then_main_ones_in_their_order() -> None:
    m = Machine.of(pod(init=2, main=2))
    for name in ("i0", "i1"):
        assert m.starting() == [name]
        m.start(name)
        assert m.starting() == []
        m.end(name, 0)
    for name in ("m0", "m1"):
        assert m.starting() == [name]
        m.start(name)


def test_a_sidecar_lets_the_next_begin_once_it_is_started_by_its_probe() -> None:
    m = Machine.of(pod(init=1, sidecars=1, probe=True))
    m.start("s0")
    assert m.starting() == []
    m.take(on.Probed("s0", started=True, ready=True))
    assert m.starting() == ["i0"]


def test_a_sidecar_runs_again_while_the_main_container_runs_and_is_ended_after_it() -> None:
    m = Machine.of(pod("Never", sidecars=1))
    m.start("s0")
    m.start("m0")
    m.end("s0", 0)
    assert m.starting() == ["s0"]
    m.start("s0")
    sent = m.end("m0", 0)
    assert m.state.stage is PodStage.ENDING
    assert [a.name for a in sent if isinstance(a, do.Send)] == ["s0"]


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [("Always", 0, True), ("OnFailure", 0, False), ("OnFailure", 1, True), ("Never", 1, False)],
)
def test_the_restart_policy_decides_what_runs_again(policy: str, code: int, again: bool) -> None:
    m = Machine.of(pod(policy))
    m.start("m0")
    m.end("m0", code)
    assert m.starting() == (["m0"] if again else [])
    assert m.state.stage is (PodStage.ACTIVE if again else PodStage.ENDED)


def test_the_first_restart_is_at_once_then_back_off_doubles_to_five_minutes_and_a_long_run_clears_it() -> None:
    m = Machine.of(pod())
    waits = []
    for _ in range(8):
        m.start("m0")
        m.now += 1
        m.end("m0", 1)
        waits.append(m.record("m0").due - m.now)
        m.now = m.record("m0").due
        m.go()
    assert waits == [0, 10, 20, 40, 80, 160, 300, 300]
    m.start("m0")
    m.now += 601
    m.end("m0", 1)
    assert m.record("m0").due == m.now


def test_back_off_has_settings() -> None:
    m = Machine.of(pod())
    m.start("m0")
    m.end("m0", 1)
    record = m.record("m0")
    record.backoff, record.phase = 4.0, ContainerPhase.EXITED
    plan_restart(record, BackoffOptions(initial=2, cap=5), ended_by_us=False, now=m.now)
    assert (record.due - m.now, record.next_backoff) == (4.0, 5.0)


def test_a_runtime_that_tells_an_end_twice_or_of_a_run_before_does_no_harm() -> None:
    m = Machine.of(pod())
    m.start("m0")
    run = m.record("m0").run
    assert run is not None
    m.end("m0", 1)
    m.start("m0")
    assert m.take(on.Exited("m0", run.id, ContainerExit(9, T0))) == []
    assert m.record("m0").phase is ContainerPhase.RUNNING


def test_a_lost_sandbox_restarts_what_ran_in_it_and_the_init_containers_before() -> None:
    m = Machine.of(pod(init=1))
    m.start("i0")
    m.end("i0", 0)
    m.start("m0")
    m.state.sandbox = PodSandbox("box", {}, [])
    actions = m.take(on.SandboxLost("box"))
    assert tuple(a.reason for a in actions if isinstance(a, do.Record) and a.container is None) == ("SandboxChanged",)
    assert m.state.stage is PodStage.RESETTING
    m.end("m0", 137)
    assert m.state.stage.value == "preparing"
    m.take(on.Prepared(PodSandbox("box2", {}, [])))
    assert m.starting() == ["i0"]


def test_the_picture_in_the_documentation_is_that_of_the_tables() -> None:
    text = (Path(__file__).parents[2] / "docs" / "pod-semantics.md").read_text()
    assert picture() in text, "run: python -m virtual_kubelet.runtime.transition_picture"


class PodMachine(RuleBasedStateMachine):
    """Anything may happen at any time; what is promised holds all the same."""

    @initialize(
        policy=st.sampled_from(["Always", "OnFailure", "Never"]),
        init=st.integers(0, 2),
        sidecars=st.integers(0, 2),
        main=st.integers(1, 2),
        probe=st.booleans(),
        hooks=st.booleans(),
        sandbox=st.booleans(),
    )
    def begin(self, policy: str, init: int, sidecars: int, main: int, probe: bool, hooks: bool, sandbox: bool) -> None:
        one = pod(policy, init=init, sidecars=sidecars, main=main, probe=probe)
        if hooks:
            handler = LifecycleHandler(sleep=SleepAction(seconds=5))
            for container in one.spec.containers:
                container.lifecycle = Lifecycle(post_start=handler, pre_stop=handler)
        self.m = Machine.of(one)
        self.deadline: float | None = None
        self.attempts: dict[str, int] = {}
        self.ended = False
        self.boxes = 0
        if sandbox:
            self.m.state.sandbox = PodSandbox("box-0", {}, [])

    def names(self, *phases: ContainerPhase) -> list[str]:
        return [r.name for r in self.m.state.containers if r.phase in phases]

    @rule(data=st.data())
    def starts(self, data: st.DataObject) -> None:
        names = self.names(ContainerPhase.STARTING)
        if names:
            self.m.start(data.draw(st.sampled_from(names)))

    @rule(data=st.data(), code=st.sampled_from([0, 1, 137]))
    def ends(self, data: st.DataObject, code: int) -> None:
        names = self.names(ContainerPhase.RUNNING, ContainerPhase.STOPPING)
        if names:
            self.m.end(data.draw(st.sampled_from(names)), code)

    @rule(data=st.data(), unsure=st.booleans())
    def fails_to_start(self, data: st.DataObject, unsure: bool) -> None:
        names = self.names(ContainerPhase.STARTING)
        if names:
            name = data.draw(st.sampled_from(names))
            self.m.take(on.StartFailed(name, "CreateContainerError", "no", unsure=unsure))

    @rule(data=st.data(), started=st.booleans(), ready=st.booleans())
    def is_probed(self, data: st.DataObject, started: bool, ready: bool) -> None:
        names = self.names(ContainerPhase.RUNNING)
        if names:
            self.m.take(on.Probed(data.draw(st.sampled_from(names)), started, started and ready))

    @rule(data=st.data())
    def fails_a_probe(self, data: st.DataObject) -> None:
        names = self.names(ContainerPhase.RUNNING)
        if names:
            self.m.take(on.ProbeFailed(data.draw(st.sampled_from(names)), "Liveness", 5))

    @rule(data=st.data())
    def is_lost(self, data: st.DataObject) -> None:
        names = self.names(ContainerPhase.RUNNING, ContainerPhase.STOPPING)
        if names:
            name = data.draw(st.sampled_from(names))
            run = self.m.record(name).run
            assert run is not None
            self.m.take(on.Lost(name, run.id))

    @rule(seconds=st.sampled_from([0.5, 2, 11, 400, 1000]))
    def time_passes(self, seconds: float) -> None:
        self.m.now += seconds
        for action in self.m.go():
            if isinstance(action, do.Send):
                self.m.take(on.Signalled(action.name, action.number, action.kill))
            elif isinstance(action, do.CutStart):
                self.m.take(on.NotStarted(action.name))

    @rule(data=st.data(), error=st.sampled_from([None, "Exec lifecycle hook failed"]))
    def ends_its_hook(self, data: st.DataObject, error: str | None) -> None:
        names = self.names(ContainerPhase.POST_START, ContainerPhase.STOPPING)
        if names:
            name = data.draw(st.sampled_from(names))
            post_start = self.m.record(name).phase is ContainerPhase.POST_START
            self.m.take(on.HookDone(name, post_start=post_start, error=error))

    @rule()
    def loses_its_sandbox(self) -> None:
        box = self.m.state.sandbox
        if box is not None:
            self.m.take(on.SandboxLost(box.id))

    @rule(fails=st.booleans())
    def is_prepared(self, fails: bool) -> None:
        if self.m.state.stage is PodStage.PREPARING:
            self.boxes += 1
            box = PodSandbox(f"box-{self.boxes}", {}, [])
            self.m.take(on.PreparationFailed("FailedMount", "no") if fails else on.Prepared(box))

    @rule(data=st.data(), cpu=st.sampled_from(["1", "2"]), anew=st.booleans())
    def is_resized(self, data: st.DataObject, cpu: str, anew: bool) -> None:
        one = msgspec.convert(msgspec.to_builtins(self.m.state.pod), Pod)
        container = data.draw(st.sampled_from(one.spec.containers))
        container.resources = ResourceRequirements(limits={"cpu": cpu})
        policy = "RestartContainer" if anew else "NotRequired"
        container.resize_policy = [ContainerResizePolicy(resource_name="cpu", restart_policy=policy)]
        self.m.take(on.Updated(one))

    @rule(data=st.data(), fails=st.booleans(), refused=st.booleans())
    def has_its_resize_answered(self, data: st.DataObject, fails: bool, refused: bool) -> None:
        asked = [action for action in self.m.go() if isinstance(action, do.Resize)]
        if asked:
            one = data.draw(st.sampled_from(asked))
            failed = on.ResizeFailed(one.name, one.container_id, "no", refused)
            self.m.take(failed if fails else on.Resized(one.name, one.container_id, one.resources))

    @rule()
    def is_evicted(self) -> None:
        self.m.take(on.Evicted("too large"))
        if self.m.state.stage is PodStage.ENDING and not self.m.state.deleting:
            until = self.m.now + 1
            self.deadline = until if self.deadline is None else min(self.deadline, until)

    @rule(grace=st.integers(0, 40))
    def is_deleted(self, grace: int) -> None:
        until = self.m.now + grace
        if self.m.state.stage not in (PodStage.REMOVING, PodStage.GONE):
            self.m.take(on.Deleted(self.m.state.pod, until))
            self.deadline = until if self.deadline is None else min(self.deadline, until)

    @precondition(lambda self: self.m.state.stage is PodStage.REMOVING)
    @rule()
    def is_removed(self) -> None:
        self.m.take(on.Removed())
        assert self.m.state.stage is PodStage.GONE

    @invariant()
    def one_start_at_a_time(self) -> None:
        assert len(self.names(ContainerPhase.STARTING, ContainerPhase.POST_START)) <= 1

    @invariant()
    def what_runs_with_other_resources_than_its_spec_says_is_said_to(self) -> None:
        status = build_status(self.m.state, host_ips=[], pod_ips=[], now=at(self.m.now).wall)
        told = any(condition.type.startswith("PodResize") for condition in status.conditions or ())
        ended = self.m.state.stage in (PodStage.ENDED, PodStage.REMOVING, PodStage.GONE)
        assert told == (bool(self.m.state.resizing) and not ended)

    @invariant()
    def restart_counts_never_fall(self) -> None:
        for record in self.m.state.containers:
            assert record.attempts >= self.attempts.get(record.name, 0)
            self.attempts[record.name] = record.attempts

    @invariant()
    def nothing_starts_once_the_pod_ends(self) -> None:
        if self.m.state.stage in (PodStage.ENDED, PodStage.REMOVING, PodStage.GONE):
            assert not any(r.up or r.phase is ContainerPhase.STARTING for r in self.m.state.containers)

    @invariant()
    def main_containers_wait_for_their_init_containers(self) -> None:
        state = self.m.state
        if any(r.phase is ContainerPhase.STARTING and r.attempts == 0 for r in state.main) and not state.has_run:
            assert all(r.succeeded for r in state.init if r.is_init)

    @invariant()
    def a_longer_grace_never_prolongs(self) -> None:
        ending = self.m.state.ending
        if ending is not None and self.deadline is not None:
            assert ending.until <= self.deadline

    @invariant()
    def a_terminal_phase_is_never_taken_back(self) -> None:
        status = build_status(self.m.state, host_ips=[], pod_ips=[], now=at(self.m.now).wall)
        terminal = status.phase in ("Succeeded", "Failed")
        assert terminal or not self.ended
        self.ended = terminal
        assert not terminal or not any(r.up for r in self.m.state.containers)

    @invariant()
    def a_phase_that_comes_of_the_table_is_one_that_it_names(self) -> None:
        assert {phase for entry in CONTAINER_TABLE.values() for phase in entry.to} >= {
            r.phase for r in self.m.state.containers if r.phase is not ContainerPhase.WAITING
        }
        assert self.m.state.stage in {stage for entry in POD_TABLE.values() for stage in entry.to}


TestAnyOrderOfEvents = PodMachine.TestCase
TestAnyOrderOfEvents.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)

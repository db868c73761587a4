"""``restartPolicyRules`` that restart all containers of a pod (KEP-5532): what Kubernetes' node tests ask of a kubelet."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.runtime.container_fakes import LoopClock, Runtime, start_error
from tests.runtime.test_pod_engine import KEY, Engine, running_engine, settle
from tests.runtime.test_transitions import Machine, at
from virtual_kubelet.contracts.runtime import PodSandbox
from virtual_kubelet.objects.core_v1 import (
    Container,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    ContainerStatus,
    EphemeralContainer,
    Lifecycle,
    LifecycleHandler,
    Pod,
    PodSpec,
    SleepAction,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime import pod_events as on
from virtual_kubelet.runtime.pod_state import PodStage
from virtual_kubelet.runtime.status import build_status

pytestmark = [pytest.mark.looptime, pytest.mark.may_block]


def container(name: str, *codes: int, policy: str | None = None, hook: bool = False) -> Container:
    """With a rule for these exit codes."""
    rule = ContainerRestartRule(
        action="RestartAllContainers", exit_codes=ContainerRestartRuleOnExitCodes(operator="In", values=[*codes])
    )
    stop = Lifecycle(pre_stop=LifecycleHandler(sleep=SleepAction(seconds=60))) if hook else None
    return Container(
        name=name, image="i", restart_policy=policy, restart_policy_rules=[rule] if codes else None, lifecycle=stop
    )


def pod(init: list[Container], main: list[Container], policy: str = "Never") -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="default", uid="u1"),
        spec=PodSpec(
            restart_policy=policy, termination_grace_period_seconds=30, init_containers=init or None, containers=main
        ),
    )


def statuses(e: Engine) -> dict[str, ContainerStatus]:
    return {s.name: s for s in (*(e.status.init_container_statuses or ()), *(e.status.container_statuses or ()))}


def restarts(e: Engine) -> dict[str, int]:
    """Of those that have run anew; what they ended with before is told of each."""
    again = {name: status.restart_count for name, status in statuses(e).items() if status.restart_count}
    for name in again:
        last = statuses(e)[name].last_state
        assert last is not None
        assert last.terminated is not None
    return again


def restarting(e: Engine) -> str | None:
    found = next((c for c in e.status.conditions or () if c.type == "AllContainersRestarting"), None)
    return None if found is None else f"{found.status} {found.reason or ''}".strip()


async def test_all_containers_run_anew_the_init_containers_first_and_no_pre_stop_hook_holds_them_up(
    tmp_path: Path,
) -> None:
    # Those that are killed end with 137: that is nobody's wish to restart all once more.
    main = [container("source", 42, 137), container("regular", 137, hook=True)]
    one = pod([container("init"), container("sidecar", policy="Always")], main)
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        await e.engine.create_pod(one)
        await settle()
        runtime.end("init", 0)
        await settle()
        assert restarting(e) == "False"
        runtime.stubborn = True
        runtime.end("source", 42)
        await settle()
        assert restarting(e) == "True RestartAllContainersStarted"
        assert sorted(runtime.signals) == [("regular", 15), ("sidecar", 15)]
        await asyncio.sleep(2.5)
        assert sorted(runtime.signals[2:]) == [("regular", 9), ("sidecar", 9)]
        assert runtime.started == ["init", "sidecar", "source", "regular", "init"]
        assert restarting(e) == "False"
        runtime.end("init", 0)
        await settle()
        assert runtime.started[5:] == ["sidecar", "source", "regular"]
        assert restarts(e) == {"init": 1, "sidecar": 1, "source": 1, "regular": 1}
        assert e.status.phase == "Running"
        await asyncio.sleep(100)
        assert len(runtime.started) == 8
        runtime.end("source", 0)
        runtime.end("regular", 0)
        await asyncio.sleep(40)
        assert (e.status.phase, restarting(e)) == ("Succeeded", "False PodCompleted")


async def test_only_the_one_whose_end_it_was_waits_for_its_back_off(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        await e.engine.create_pod(pod([], [container("source", 42), container("regular")], "Always"))
        await settle()
        runtime.end("source", 1)
        await settle()
        runtime.end("regular", 1)
        await settle()
        runtime.end("regular", 1)  # ten seconds
        await settle()
        runtime.end("source", 42)
        await settle()
        assert runtime.started == ["source", "regular", "source", "regular", "regular"]
        await asyncio.sleep(10)
        assert runtime.started[5:] == ["source"]
        assert restarts(e) == {"source": 2, "regular": 2}


async def test_what_was_to_begin_with_it_does_so_before(tmp_path: Path) -> None:
    """A kubelet begins the main containers in one go: one that ends at once restarts those too that came after it."""
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        runtime.brief["source"] = 42
        await e.engine.create_pod(pod([], [container("source", 42), container("regular")]))
        await settle()
        assert runtime.started == ["source", "regular", "source", "regular"]
        assert restarts(e) == {"source": 1, "regular": 1}


async def test_one_that_cannot_begin_holds_it_up_no_longer_than_its_try(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        runtime.brief["source"] = 42
        runtime.failures["regular"] = [start_error("no") for _ in range(3)]
        await e.engine.create_pod(pod([], [container("source", 42), container("regular")]))
        await settle()
        assert runtime.started == ["source", "source"]
        assert restarts(e) == {"source": 1}


async def test_what_has_ended_for_good_runs_again_too(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        await e.engine.create_pod(pod([], [container("source", 42), container("done")]))
        await settle()
        runtime.end("done", 0)
        await settle()
        assert "done" not in restarts(e)
        runtime.end("source", 42)
        await settle()
        assert restarts(e) == {"source": 1, "done": 1}


@pytest.mark.parametrize("amid", [False, True], ids=["before", "amid"])
async def test_a_new_engine_sees_to_it(tmp_path: Path, amid: bool) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        await e.engine.create_pod(pod([], [container("source", 42), container("regular")]))
        await settle()
        runtime.stubborn = True
        if amid:
            runtime.end("source", 42)
            await settle()
    if not amid:
        runtime.end("source", 42)
    async with running_engine(tmp_path, runtime) as e:
        await asyncio.sleep(5)
        assert restarts(e) == {"source": 1, "regular": 1}
        assert runtime.started == ["source", "regular", "source", "regular"]


async def test_a_pod_that_is_deleted_amid_it_goes(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        one = pod([], [container("source", 42), container("regular")])
        await e.engine.create_pod(one)
        await settle()
        runtime.stubborn = True
        runtime.end("source", 42)
        await settle()
        one.metadata.deletion_grace_period_seconds = 5
        await e.engine.delete_pod(one)
        await asyncio.sleep(8)
        assert runtime.started == ["source", "regular"]
        assert await e.engine.get_pod(KEY) is None


def test_an_init_container_restarts_itself_and_the_sidecars_before_it() -> None:
    m = Machine.of(pod([container("side", policy="Always"), container("init", 42)], [container("main")]))
    m.start("side")
    m.start("init")
    m.end("init", 42)
    assert m.state.stage is PodStage.RESETTING
    m.end("side", 143)
    assert m.starting() == ["side"]
    m.start("side")
    assert m.starting() == ["init"]
    m.start("init")
    m.end("init", 0)
    assert m.starting() == ["main"]


def test_the_sandbox_stays_unless_it_is_lost_meanwhile() -> None:
    m = Machine.of(pod([], [container("source", 42), container("regular")]))
    m.state.sandbox = PodSandbox("box", {}, [])
    for name in ("source", "regular"):
        m.start(name)
    m.end("source", 42)
    m.end("regular", 137)
    assert (m.state.stage, m.state.sandbox and m.state.sandbox.id) == (PodStage.ACTIVE, "box")
    for name in ("source", "regular"):
        m.start(name)
    m.end("source", 42)
    m.take(on.SandboxLost("box"))
    m.end("regular", 137)
    assert m.state.stage is PodStage.PREPARING
    m.take(on.Prepared(PodSandbox("box2", {}, [])))
    assert m.starting() == ["regular"]  # the other waits for its back-off


def test_a_debug_container_goes_on() -> None:
    one = pod([], [container("source", 42)])
    one.spec.ephemeral_containers = [EphemeralContainer(name="debug", image="i")]
    m = Machine.of(one)
    m.start("debug")
    m.start("source")
    m.end("source", 42)
    assert m.record("debug").up
    assert m.starting() == ["source"]


def test_a_pod_without_such_a_rule_has_no_condition_of_it() -> None:
    m = Machine.of(pod([], [container("main")]))
    status = build_status(m.state, host_ips=[], pod_ips=[], now=at(0).wall)
    assert "AllContainersRestarting" not in {condition.type for condition in status.conditions or ()}

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock, Runtime, start_error
from virtual_kubelet.contracts.logs import ContainerLogOptions
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import InvalidInputError, NotFoundError
from virtual_kubelet.objects.core_v1 import Container, ContainerStatus, Pod, PodSpec, PodStatus
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.checkpoint import PodCheckpoints
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.pod_engine import PodEngine

pytestmark = [pytest.mark.looptime, pytest.mark.may_block]


def pod(policy: str = "Always", init: int = 0, grace: int = 30) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="default", uid="u1"),
        spec=PodSpec(
            restart_policy=policy,
            termination_grace_period_seconds=grace,
            init_containers=[Container(name=f"init{n}", image="i") for n in range(init)] or None,
            containers=[Container(name="main", image="i")],
        ),
    )


KEY = PodKey.of(pod())


class Engine:
    """An engine, its runtime, and every status it reported."""

    def __init__(self, engine: PodEngine, runtime: Runtime) -> None:
        self.engine, self.runtime = engine, runtime
        self.statuses: list[PodStatus] = []
        engine.notify_pods(self._take)

    def _take(self, key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        assert key == KEY
        self.statuses.append(status)

    @property
    def status(self) -> PodStatus:
        return self.statuses[-1]

    @property
    def main(self) -> ContainerStatus:
        assert self.status.container_statuses is not None
        return self.status.container_statuses[0]

    def phases(self) -> list[str]:
        seen: list[str] = []
        for status in self.statuses:
            if not seen or seen[-1] != status.phase:
                seen.append(status.phase or "")
        return seen


@asynccontextmanager
async def running_engine(folder: Path, runtime: Runtime | None = None) -> AsyncIterator[Engine]:
    runtime = runtime or Runtime(LoopClock())
    engine = PodEngine(runtime, context(folder, clock=runtime.clock), EngineOptions(directory=folder))
    async with engine:
        yield Engine(engine, runtime)


async def settle() -> None:
    """Everything that needs no time but threads: checkpoints are written in one."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def test_a_pod_runs_and_says_so_as_a_kubelet_does(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        await e.engine.create_pod(pod())
        await settle()
        assert e.phases() == ["Pending", "Running"]
        assert e.status.pod_ip == "10.0.0.7"
        assert {c.type: c.status for c in e.status.conditions or []} == dict.fromkeys(
            ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"], "True"
        )
        first = e.statuses[0]
        assert first.container_statuses is not None
        state = first.container_statuses[0].state
        assert state is not None
        assert state.waiting is not None
        assert state.waiting.reason == "ContainerCreating"


@pytest.mark.parametrize(("code", "phase", "reason"), [(0, "Succeeded", "Completed"), (3, "Failed", "Error")])
async def test_a_pod_that_is_not_restarted_ends_with_its_exit_code(
    tmp_path: Path, code: int, phase: str, reason: str
) -> None:
    async with running_engine(tmp_path) as e:
        await e.engine.create_pod(pod("Never"))
        await settle()
        e.runtime.end("main", code)
        await settle()
        assert e.status.phase == phase
        state = e.main.state
        assert state is not None
        assert state.terminated is not None
        assert (state.terminated.exit_code, state.terminated.reason) == (code, reason)
        await asyncio.sleep(3600)
        assert e.runtime.started == ["main"]


async def test_a_crash_loop_restarts_at_once_then_backs_off_and_counts_restarts(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        await e.engine.create_pod(pod())
        await settle()
        waits = []
        for _ in range(5):
            before, count = e.runtime.clock.monotonic(), len(e.runtime.started)
            e.runtime.end("main", 1)
            while len(e.runtime.started) == count:
                await asyncio.sleep(0.5)
            waits.append(round(e.runtime.clock.monotonic() - before, -1))
            await settle()
        assert waits == [0, 10, 20, 40, 80]
        assert e.main.restart_count == 5
        assert e.main.last_state is not None
        assert e.main.last_state.terminated is not None
        assert e.main.last_state.terminated.exit_code == 1


async def crashed_twice(e: Engine) -> None:
    """The second crash is the first that has a back-off."""
    await e.engine.create_pod(pod())
    await settle()
    for _ in range(2):
        e.runtime.end("main", 1)
        await settle()


async def test_the_message_of_a_back_off_is_the_kubelets(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        await crashed_twice(e)
        state = e.main.state
        assert state is not None
        assert state.waiting is not None
        assert state.waiting.reason == "CrashLoopBackOff"
        assert state.waiting.message == "back-off 10s restarting failed container=main pod=p_default(u1)"


async def test_init_containers_run_in_order_and_gate_the_main_one(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        await e.engine.create_pod(pod(init=2))
        for name in ("init0", "init1"):
            await settle()
            assert e.runtime.started[-1] == name
            state = e.main.state
            assert state is not None
            assert state.waiting is not None
            assert state.waiting.reason == "PodInitializing"
            e.runtime.end(name)
        await settle()
        assert e.runtime.started == ["init0", "init1", "main"]
        assert e.status.phase == "Running"


async def test_deletion_terminates_waits_and_kills_after_the_grace_period(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        e.runtime.stubborn = True
        one = pod(grace=20)
        await e.engine.create_pod(one)
        await settle()
        before = e.runtime.clock.monotonic()
        await e.engine.delete_pod(one)
        while await e.engine.get_pod(KEY) is not None:
            await asyncio.sleep(0.5)
        assert 20 <= e.runtime.clock.monotonic() - before < 22
        assert e.runtime.signals == [("main", 15), ("main", 9)]
        assert (e.status.phase, e.runtime.instances) == ("Failed", {})


async def test_a_second_shorter_grace_period_counts_at_once(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        e.runtime.stubborn = True
        one = pod(grace=300)
        await e.engine.create_pod(one)
        await settle()
        await e.engine.delete_pod(one)
        await settle()
        before = e.runtime.clock.monotonic()
        shorter = pod()
        shorter.metadata.deletion_grace_period_seconds = 2
        await e.engine.delete_pod(shorter)
        while await e.engine.get_pod(KEY) is not None:
            await asyncio.sleep(0.1)
        assert e.runtime.clock.monotonic() - before < 3


async def test_a_pod_deleted_in_its_back_off_goes_at_once(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        await crashed_twice(e)
        await e.engine.delete_pod(pod())
        await settle()
        assert await e.engine.get_pod(KEY) is None
        assert e.status.phase == "Failed"
        assert e.runtime.started == ["main", "main"]


async def test_a_container_that_cannot_start_waits_with_the_reason_and_is_tried_again(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        e.runtime.failures["main"] = [start_error("no such image", reason="ErrImagePull"), RuntimeError("boom")]
        await e.engine.create_pod(pod())
        await settle()
        state = e.main.state
        assert state is not None
        assert state.waiting is not None
        assert (state.waiting.reason, state.waiting.message) == ("ErrImagePull", "no such image")
        await asyncio.sleep(60)
        assert e.status.phase == "Running"


async def test_a_command_that_is_not_there_counts_as_a_failed_run(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        e.runtime.failures["main"] = [start_error("not found", reason="StartError", exit_code=128)]
        await e.engine.create_pod(pod("Never"))
        await settle()
        assert e.status.phase == "Failed"
        state = e.main.state
        assert state is not None
        assert state.terminated is not None
        assert (state.terminated.exit_code, state.terminated.reason) == (128, "StartError")


async def test_what_the_runtime_cannot_do_is_refused_before_anything_starts(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        e.runtime.refused = "spec.volumes[x]: no volumes"
        with pytest.raises(InvalidInputError, match="volumes"):
            await e.engine.create_pod(pod())
        assert await e.engine.get_pods() == []
        assert list(tmp_path.glob("*.json")) == []


async def test_a_new_engine_adopts_what_runs_and_changes_nothing(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        await e.engine.create_pod(pod())
        await settle()
        runtime.end("main", 1)
        await asyncio.sleep(15)
        before = e.status
    async with running_engine(tmp_path, runtime) as e:
        await settle()
        assert e.status == before
        assert e.main.restart_count == 1
        assert runtime.started == ["main", "main"]


async def test_an_exit_while_nobody_watched_is_not_lost(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        await e.engine.create_pod(pod("Never"))
        await settle()
    runtime.end("main", 42)
    async with running_engine(tmp_path, runtime) as e:
        await settle()
        assert e.status.phase == "Failed"
        state = e.main.state
        assert state is not None
        assert state.terminated is not None
        assert state.terminated.exit_code == 42


async def test_a_container_of_no_known_pod_is_removed_at_start(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        await e.engine.create_pod(pod())
        await settle()
    for path in tmp_path.glob("*.json"):
        path.unlink()
    async with running_engine(tmp_path, runtime):
        assert runtime.instances == {}


async def test_a_damaged_checkpoint_is_left_alone_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "u9.json").write_text('{"version": 1, "pod": {"planted-secret": ')
    async with running_engine(tmp_path) as e:
        assert await e.engine.get_pods() == []
    assert "cannot be read" in caplog.text
    assert "planted-secret" not in caplog.text
    assert (tmp_path / "u9.json").exists()


async def test_previous_logs_are_those_of_the_run_before(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        await e.engine.create_pod(pod())
        await settle()
        with pytest.raises(InvalidInputError, match="previous terminated container"):
            [line async for line in e.engine.get_container_logs(KEY, "main", ContainerLogOptions(previous=True))]
        e.runtime.end("main", 1)
        await asyncio.sleep(15)
        now = [line.data async for line in e.engine.get_container_logs(KEY, "main", ContainerLogOptions())]
        before = [
            line.data async for line in e.engine.get_container_logs(KEY, "main", ContainerLogOptions(previous=True))
        ]
        assert (before, now) == ([b"main-1\n"], [b"main-2\n"])
        with pytest.raises(NotFoundError):
            [line async for line in e.engine.get_container_logs(KEY, "other", ContainerLogOptions())]


async def test_only_the_last_two_runs_are_kept(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        await e.engine.create_pod(pod())
        await settle()
        for _ in range(5):
            e.runtime.end("main", 1)
            await asyncio.sleep(400)
        assert len(e.runtime.instances) == 2


def ended(e: Engine) -> tuple[int, str | None]:
    state = e.main.state
    assert state is not None
    assert state.terminated is not None
    return state.terminated.exit_code, state.terminated.reason


async def test_an_exit_that_is_told_before_the_start_is_answered_counts(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        e.runtime.brief["main"] = 3
        await e.engine.create_pod(pod("Never"))
        await settle()
        assert (e.status.phase, ended(e)) == ("Failed", (3, "Error"))


async def test_an_exit_that_is_told_while_pods_are_adopted_counts(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        await e.engine.create_pod(pod("Never"))
        await settle()
    runtime.refusals = ["end amid list"]
    async with running_engine(tmp_path, runtime) as e:
        await settle()
        assert (e.status.phase, ended(e)) == ("Failed", (42, "Error"))


async def test_a_start_whose_answer_is_lost_is_not_made_twice(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        e.runtime.lost.add("main")
        await e.engine.create_pod(pod())
        await settle()
        state = e.main.state
        assert state is not None
        assert state.waiting is not None
        assert (state.waiting.reason, state.waiting.message) == ("CreateContainerError", "the answer was lost")
        await asyncio.sleep(10)
        assert (e.status.phase, e.main.restart_count) == ("Running", 0)
        assert e.runtime.started == ["main"]


@pytest.mark.parametrize("call", ["signal", "remove"])
async def test_a_deletion_outlives_a_runtime_that_fails_amid_it(tmp_path: Path, call: str) -> None:
    async with running_engine(tmp_path) as e:
        await e.engine.create_pod(pod())
        await settle()
        e.runtime.refusals = [call]
        await e.engine.delete_pod(pod())
        await asyncio.sleep(10)
        assert e.runtime.refusals == []
        assert e.runtime.instances == {}
        assert await e.engine.get_pods() == []
        assert list(tmp_path.glob("*.json")) == []


async def test_an_engine_that_is_left_ends_the_removals_that_it_has_begun(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        await e.engine.create_pod(pod())
        await settle()
        e.runtime.refusals = ["remove"]
        await e.engine.delete_pod(pod())
        while not e.runtime.signals:
            await asyncio.sleep(0.01)
        assert e.runtime.instances != {}
    assert e.runtime.instances == {}
    assert list(tmp_path.glob("*.json")) == []


async def test_an_engine_that_is_left_waits_for_no_runtime_that_removes_nothing(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        await e.engine.create_pod(pod())
        await settle()
        e.runtime.refusals = ["remove"] * 100
        await e.engine.delete_pod(pod())
        await settle()
        before = e.runtime.clock.monotonic()
    assert e.runtime.clock.monotonic() - before < 11
    e.runtime.refusals = []
    async with running_engine(tmp_path, e.runtime) as e:  # the next one does
        await asyncio.sleep(10)
        assert e.runtime.instances == {}


async def test_a_restart_outlives_a_runtime_that_cannot_remove_the_run_before(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        await crashed_twice(e)
        e.runtime.refusals = ["remove"]
        await asyncio.sleep(30)
        assert (e.status.phase, e.main.restart_count) == ("Running", 2)
        assert len(e.runtime.instances) == 2


@pytest.mark.parametrize("crashes", [1, 2, 4])
async def test_a_new_engine_moves_neither_restart_count_nor_back_off_nor_times(tmp_path: Path, crashes: int) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        await e.engine.create_pod(pod())
        await settle()
        for number in range(crashes):
            if number:
                await asyncio.sleep(200)
            runtime.end("main", 1)
        await settle()
        before, started = e.status, len(runtime.started)
    async with running_engine(tmp_path, runtime) as e:
        await settle()
        assert e.statuses == [before]
        await asyncio.sleep(500)
        assert len(runtime.started) == started + (1 if crashes > 1 else 0)


async def test_a_new_engine_knows_of_runs_that_had_no_container(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        runtime.failures["main"] = [start_error("not found", reason="StartError", exit_code=128) for _ in range(9)]
        await e.engine.create_pod(pod())
        await asyncio.sleep(25)
        before = e.status
        assert e.main.restart_count == 2
    async with running_engine(tmp_path, runtime) as e:
        assert e.statuses == [before]
        await asyncio.sleep(30)
        assert e.main.restart_count == 3


async def test_a_container_that_is_gone_without_a_word_has_ended_nobody_knows_how(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        await crashed_twice(e)
        await asyncio.sleep(20)
        assert e.status.phase == "Running"
    runtime.instances.clear()
    async with running_engine(tmp_path, runtime) as e:
        await settle()
        assert e.main.last_state is not None
        assert e.main.last_state.terminated is not None
        assert e.main.last_state.terminated.reason == "ContainerStatusUnknown"
        await asyncio.sleep(60)
        assert (e.status.phase, e.main.restart_count) == ("Running", 3)


@pytest.mark.parametrize("seconds", [-86400, 86400])
async def test_a_wall_clock_that_jumps_moves_no_back_off(tmp_path: Path, seconds: float) -> None:
    async with running_engine(tmp_path) as e:
        await crashed_twice(e)
        e.runtime.clock.jump(seconds)
        await asyncio.sleep(9)
        assert len(e.runtime.started) == 2
        await asyncio.sleep(2)
        assert len(e.runtime.started) == 3


async def test_a_pod_whose_deadline_is_over_is_ended_and_has_failed_for_good(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with running_engine(tmp_path, runtime) as e:
        runtime.stubborn = True
        one = pod("OnFailure", grace=5)
        one.spec.active_deadline_seconds = 60
        await e.engine.create_pod(one)
        await asyncio.sleep(59)
        assert e.runtime.signals == []
        await asyncio.sleep(2)
        assert e.runtime.signals == [("main", 15)]
        assert e.status.phase == "Running"
        await asyncio.sleep(6)
        assert e.runtime.signals == [("main", 15), ("main", 9)]
        assert (e.status.phase, e.status.reason) == ("Failed", "DeadlineExceeded")
        before = e.status
    async with running_engine(tmp_path, runtime) as e:
        await asyncio.sleep(600)
        assert e.statuses == [before]
        assert runtime.started == ["main"]
        await e.engine.delete_pod(pod())
        await settle()
        assert await e.engine.get_pods() == []


async def test_a_pod_that_has_ended_in_time_is_not_failed_by_its_deadline(tmp_path: Path) -> None:
    async with running_engine(tmp_path) as e:
        one = pod("Never")
        one.spec.active_deadline_seconds = 60
        await e.engine.create_pod(one)
        await settle()
        e.runtime.end("main", 0)
        await asyncio.sleep(600)
        assert (e.status.phase, e.status.reason) == ("Succeeded", None)


async def test_a_full_disk_hides_no_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_engine(tmp_path) as e:
        await e.engine.create_pod(pod())
        await settle()

        def full(self: PodCheckpoints, uid: str, content: bytes) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(PodCheckpoints, "save", full)
        for _ in range(3):
            e.runtime.end("main", 1)
            await asyncio.sleep(100)
        assert (e.status.phase, e.main.restart_count) == ("Running", 3)


@pytest.mark.parametrize("policy", ["Always", "Never"])
async def test_a_container_whose_image_changes_is_replaced_whatever_the_policy_also_by_a_new_engine(
    tmp_path: Path, policy: str
) -> None:
    runtime = Runtime(LoopClock())
    runtime.stubborn = True
    changed = pod(policy, grace=10)
    changed.spec.containers[0].image = "other"
    async with running_engine(tmp_path, runtime) as e:
        await e.engine.create_pod(pod(policy, grace=10))
        await settle()
        await e.engine.update_pod(changed)
        await asyncio.sleep(5)
        assert runtime.signals == [("main", 15)]
        assert (e.main.image, e.main.restart_count) == ("i", 0)
    async with running_engine(tmp_path, runtime) as e:
        assert e.main.image == "i"
        await asyncio.sleep(20)
        assert runtime.signals == [("main", 15), ("main", 9)]
        assert (e.status.phase, e.main.image, e.main.restart_count) == ("Running", "other", 1)
        assert runtime.started == ["main", "main"]


async def test_a_status_is_told_when_a_new_process_of_the_node_would_say_the_same(tmp_path: Path) -> None:
    """Else one that is killed then takes back what was said: a pod that was ready is not, until it is probed again."""
    told: list[tuple[bool, bool, int]] = []
    saved: list[tuple[bool, bool, int]] = []

    def tell(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        assert status.container_statuses is not None
        found = status.container_statuses[0]
        told.append((bool(found.started), found.ready, found.restart_count))
        main = msgspec.json.decode((tmp_path / "u1.json").read_bytes())["state"]["containers"][0]
        saved.append((main["started"], main["ready"], max(0, main["attempts"] - 1)))

    async with running_engine(tmp_path) as e:
        e.engine.notify_pods(tell)
        await e.engine.create_pod(pod())
        await settle()
        e.runtime.end("main", 1)
        await settle()
        await asyncio.sleep(60)
        await settle()
    assert (True, True, 0) in told
    assert (True, True, 1) in told
    assert saved == told

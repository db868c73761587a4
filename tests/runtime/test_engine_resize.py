"""Resources of a running container that change: in place, by a new run, or not at all, and how each is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock, Runtime
from tests.runtime.test_pod_engine import Engine, pod, settle
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import ContainerResizePolicy, Pod, PodCondition, ResourceRequirements
from virtual_kubelet.runtime.engine_options import EngineOptions
from virtual_kubelet.runtime.pod_engine import PodEngine
from virtual_kubelet.runtime.resize import same_resources

pytestmark = [pytest.mark.looptime, pytest.mark.may_block]


class ResizingRuntime(Runtime):
    """One that can, unless ``answers`` say otherwise."""

    def __init__(self, clock: LoopClock) -> None:
        super().__init__(clock)
        self.resized: list[tuple[str, dict[str, str] | None]] = []
        self.answers: list[Exception] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def resize_container(self, container_id: str, resources: ResourceRequirements) -> None:
        await self.gate.wait()
        if self.answers:
            raise self.answers.pop(0)
        self.resized.append((self.instances[container_id].labels["container"], resources.limits))


class World(Engine):
    """An engine with a pod of half a CPU, and the events on it."""

    def __init__(self, engine: PodEngine, runtime: Runtime) -> None:
        super().__init__(engine, runtime)
        self.generation = 1

    def pod(self, cpu: str, *policies: ContainerResizePolicy) -> Pod:
        one = pod()
        one.metadata.generation = self.generation
        one.spec.containers[0].resources = resources(cpu)
        one.spec.containers[0].resize_policy = [*policies]
        return one

    async def resize(self, cpu: str, *policies: ContainerResizePolicy) -> None:
        self.generation += 1
        await self.engine.update_pod(self.pod(cpu, *policies))
        await settle()

    def condition(self, kind: str) -> PodCondition | None:
        return next((c for c in self.status.conditions or () if c.type == kind), None)

    def cpus(self) -> tuple[str, str]:
        """What the container has, and what is set aside for it."""
        assert self.main.resources is not None
        return (self.main.resources.limits or {})["cpu"], (self.main.allocated_resources or {})["cpu"]


def resources(cpu: str) -> ResourceRequirements:
    return ResourceRequirements(limits={"cpu": cpu}, requests={"cpu": cpu})


RESTART = ContainerResizePolicy(resource_name="cpu", restart_policy="RestartContainer")


class Events(list[tuple[str, str]]):
    """Reasons and messages."""

    def take(self, key: PodKey, event_type: str, reason: str, message: str, *, field_path: str | None = None) -> None:
        self.append((reason, message))

    def reasons(self) -> list[str]:
        return [reason for reason, _ in self if reason.startswith("Resize")]

    def message(self, reason: str) -> str:
        return next(message for one, message in self if one == reason)


def engine_of(folder: Path, runtime: Runtime, events: Events) -> PodEngine:
    around = replace(context(folder, clock=runtime.clock), record_event=events.take)
    return PodEngine(runtime, around, EngineOptions(directory=folder))


async def test_a_running_container_is_given_what_its_spec_says_now_and_is_not_restarted(tmp_path: Path) -> None:
    runtime, events = ResizingRuntime(LoopClock()), Events()
    async with engine_of(tmp_path, runtime, events) as engine:
        w = World(engine, runtime)
        await engine.create_pod(w.pod("500m"))
        await settle()
        runtime.gate.clear()
        await w.resize("800m")
        in_progress = w.condition("PodResizeInProgress")
        assert in_progress is not None
        assert (in_progress.status, in_progress.observed_generation) == ("True", 2)
        assert w.cpus() == ("500m", "800m")
        assert w.status.observed_generation == 2
        assert w.status.resources == resources("500m")
        assert w.status.allocated_resources == {"cpu": "800m"}
        runtime.gate.set()
        await settle()
        assert runtime.resized == [("main", {"cpu": "800m"})]
        assert w.condition("PodResizeInProgress") is None
        assert w.cpus() == ("800m", "800m")
        assert w.main.restart_count == 0
        assert runtime.started == ["main"]
    assert events.reasons() == ["ResizeStarted", "ResizeCompleted"]
    what, _, shown = events.message("ResizeStarted").partition(": ")
    assert what == "Pod resize started"
    assert json.loads(shown) == {
        "containers": [{"name": "main", "resources": {"limits": {"cpu": "800m"}, "requests": {"cpu": "800m"}}}],
        "generation": 2,
    }


async def test_a_resize_policy_that_wants_a_new_run_gets_one(tmp_path: Path) -> None:
    runtime, events = ResizingRuntime(LoopClock()), Events()
    async with engine_of(tmp_path, runtime, events) as engine:
        w = World(engine, runtime)
        await engine.create_pod(w.pod("500m", RESTART))
        await settle()
        await w.resize("800m", RESTART)
        await settle()
        assert runtime.started == ["main", "main"]
        assert runtime.resized == []
        assert (w.cpus(), w.main.restart_count) == (("800m", "800m"), 1)
        assert w.condition("PodResizeInProgress") is None
    assert events.message("Killing") == "Container main resize requires restart"
    assert events.reasons() == ["ResizeStarted", "ResizeCompleted"]


async def test_a_runtime_that_cannot_says_so_until_the_wish_is_taken_back(tmp_path: Path) -> None:
    runtime, events = Runtime(LoopClock()), Events()
    async with engine_of(tmp_path, runtime, events) as engine:
        w = World(engine, runtime)
        await engine.create_pod(w.pod("500m"))
        await settle()
        await w.resize("800m")
        pending = w.condition("PodResizePending")
        assert pending is not None
        assert (pending.status, pending.reason) == ("True", "Infeasible")
        assert "cannot change the resources" in (pending.message or "")
        assert w.cpus() == ("500m", "500m")
        assert events.reasons() == ["ResizeInfeasible"]
        await w.resize("500m")
        assert w.condition("PodResizePending") is None


async def test_a_runtime_that_refuses_one_resize_is_asked_again_for_another(tmp_path: Path) -> None:
    runtime, events = ResizingRuntime(LoopClock()), Events()
    async with engine_of(tmp_path, runtime, events) as engine:
        w = World(engine, runtime)
        await engine.create_pod(w.pod("500m"))
        await settle()
        runtime.answers = [InvalidInputError("too much for this machine")]
        await w.resize("99")
        pending = w.condition("PodResizePending")
        assert pending is not None
        assert (pending.reason, pending.message) == ("Infeasible", "too much for this machine")
        assert w.cpus() == ("500m", "500m")
        await asyncio.sleep(600)
        assert runtime.resized == []
        await w.resize("1")
        assert (runtime.resized, w.cpus()) == ([("main", {"cpu": "1"})], ("1", "1"))


async def test_a_resize_that_fails_is_tried_again_and_its_error_shown_meanwhile(tmp_path: Path) -> None:
    runtime, events = ResizingRuntime(LoopClock()), Events()
    async with engine_of(tmp_path, runtime, events) as engine:
        w = World(engine, runtime)
        await engine.create_pod(w.pod("500m"))
        await settle()
        runtime.answers = [ConnectionError("no answer")]
        await w.resize("800m")
        in_progress = w.condition("PodResizeInProgress")
        assert in_progress is not None
        assert (in_progress.reason, in_progress.message) == ("Error", "no answer")
        await asyncio.sleep(5)
        assert (w.cpus(), w.condition("PodResizeInProgress")) == (("800m", "800m"), None)
    assert events.reasons() == ["ResizeStarted", "ResizeError", "ResizeCompleted"]


async def test_a_wish_that_changes_amid_a_resize_is_fulfilled_after_it(tmp_path: Path) -> None:
    runtime = ResizingRuntime(LoopClock())
    async with engine_of(tmp_path, runtime, Events()) as engine:
        w = World(engine, runtime)
        await engine.create_pod(w.pod("500m"))
        await settle()
        runtime.gate.clear()
        await w.resize("800m")
        await w.resize("900m")
        runtime.gate.set()
        await settle()
        assert [limits for _, limits in runtime.resized] == [{"cpu": "800m"}, {"cpu": "900m"}]
        assert w.cpus() == ("900m", "900m")


async def test_a_new_engine_finishes_a_resize_that_an_earlier_one_began(tmp_path: Path) -> None:
    runtime = ResizingRuntime(LoopClock())
    async with engine_of(tmp_path, runtime, Events()) as engine:
        w = World(engine, runtime)
        await engine.create_pod(w.pod("500m"))
        await settle()
        runtime.gate.clear()
        await w.resize("800m")
    runtime.gate.set()
    async with engine_of(tmp_path, runtime, Events()) as engine:
        w = World(engine, runtime)
        await settle()
        assert runtime.resized == [("main", {"cpu": "800m"})]
        assert w.cpus() == ("800m", "800m")
    assert runtime.started == ["main"]


@pytest.mark.parametrize(("had", "wanted", "same"), [("1", "1000m", True), ("1", "2", False), ("1", "much", False)])
def test_amounts_are_compared_and_not_their_spelling(had: str, wanted: str, same: bool) -> None:
    assert same_resources(resources(had), resources(wanted)) is same


async def test_that_it_can_is_declared(tmp_path: Path) -> None:
    clock = LoopClock()
    for runtime, features in (
        (ResizingRuntime(clock), ["RestartAllContainersOnContainerExits", "GuaranteedQoSPodCPUResize"]),
        (Runtime(clock), ["RestartAllContainersOnContainerExits"]),
    ):
        assert engine_of(tmp_path, runtime, Events()).declared_features == features

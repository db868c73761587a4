"""Resources of a running container that change: in place, by a new run, or not at all, and how each is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.providers.contexts import context
from tests.runtime.container_fakes import LoopClock, Runtime
from tests.runtime.test_pod_engine import Engine, pod, settle
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.runtime import ContainerConfig
from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import Container, ContainerResizePolicy, Pod, PodCondition, ResourceRequirements
from virtual_kubelet.objects.stats_v1alpha1 import ContainerStats, MemoryStats, NodeStats
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
        self.asked: list[ContainerConfig] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def resize_container(self, container_id: str, config: ContainerConfig) -> None:
        self.asked.append(config)
        await self.gate.wait()
        if self.answers:
            raise self.answers.pop(0)
        assert config.container.name == self.instances[container_id].labels["container"]
        assert config.container.resources is not None
        self.resized.append((config.container.name, config.container.resources.limits))


class Events(list[tuple[str, str]]):
    """Reasons and messages."""

    def take(self, key: PodKey, event_type: str, reason: str, message: str, *, field_path: str | None = None) -> None:
        self.append((reason, message))

    def reasons(self) -> list[str]:
        return [reason for reason, _ in self if reason.startswith("Resize")]

    def message(self, reason: str) -> str:
        return next(message for one, message in self if one == reason)


class World(Engine):
    """An engine with a pod of half a CPU, and the events on it."""

    def __init__(self, engine: PodEngine, runtime: Runtime, events: Events) -> None:
        super().__init__(engine, runtime)
        self.events = events
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


def engine_of(folder: Path, runtime: Runtime, events: Events) -> PodEngine:
    around = replace(context(folder, clock=runtime.clock), record_event=events.take)
    return PodEngine(runtime, around, EngineOptions(directory=folder))


@asynccontextmanager
async def world(
    folder: Path, runtime: Runtime, *policies: ContainerResizePolicy, new: Pod | None = None, adopts: bool = False
) -> AsyncIterator[World]:
    """An engine whose pod runs: one of half a CPU, or ``new``, or what an earlier engine has left."""
    events = Events()
    async with engine_of(folder, runtime, events) as engine:
        made = World(engine, runtime, events)
        if not adopts:
            await engine.create_pod(new or made.pod("500m", *policies))
        await settle()
        yield made


async def test_a_running_container_is_given_what_its_spec_says_now_and_is_not_restarted(tmp_path: Path) -> None:
    runtime = ResizingRuntime(LoopClock())
    async with world(tmp_path, runtime) as w:
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
    assert w.events.reasons() == ["ResizeStarted", "ResizeCompleted"]
    what, _, shown = w.events.message("ResizeStarted").partition(": ")
    assert what == "Pod resize started"
    assert json.loads(shown) == {
        "containers": [{"name": "main", "resources": {"limits": {"cpu": "800m"}, "requests": {"cpu": "800m"}}}],
        "generation": 2,
    }


async def test_a_resize_policy_that_wants_a_new_run_gets_one(tmp_path: Path) -> None:
    runtime = ResizingRuntime(LoopClock())
    async with world(tmp_path, runtime, RESTART) as w:
        await w.resize("800m", RESTART)
        await settle()
        assert runtime.started == ["main", "main"]
        assert runtime.resized == []
        assert (w.cpus(), w.main.restart_count) == (("800m", "800m"), 1)
        assert w.condition("PodResizeInProgress") is None
    assert w.events.message("Killing") == "Container main resize requires restart"
    assert w.events.reasons() == ["ResizeStarted", "ResizeCompleted"]


async def test_a_runtime_that_cannot_says_so_until_the_wish_is_taken_back(tmp_path: Path) -> None:
    runtime = Runtime(LoopClock())
    async with world(tmp_path, runtime) as w:
        await w.resize("800m")
        pending = w.condition("PodResizePending")
        assert pending is not None
        assert (pending.status, pending.reason) == ("True", "Infeasible")
        assert "cannot change the resources" in (pending.message or "")
        assert w.cpus() == ("500m", "500m")
        assert w.events.reasons() == ["ResizeInfeasible"]
        await w.resize("500m")
        assert w.condition("PodResizePending") is None


async def test_a_runtime_that_refuses_one_resize_is_asked_again_for_another(tmp_path: Path) -> None:
    runtime = ResizingRuntime(LoopClock())
    async with world(tmp_path, runtime) as w:
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
    runtime = ResizingRuntime(LoopClock())
    async with world(tmp_path, runtime) as w:
        runtime.answers = [ConnectionError("no answer")]
        await w.resize("800m")
        in_progress = w.condition("PodResizeInProgress")
        assert in_progress is not None
        assert (in_progress.reason, in_progress.message) == ("Error", "no answer")
        await asyncio.sleep(5)
        assert (w.cpus(), w.condition("PodResizeInProgress")) == (("800m", "800m"), None)
    assert w.events.reasons() == ["ResizeStarted", "ResizeError", "ResizeCompleted"]


async def test_a_wish_that_changes_amid_a_resize_is_fulfilled_after_it(tmp_path: Path) -> None:
    runtime = ResizingRuntime(LoopClock())
    async with world(tmp_path, runtime) as w:
        runtime.gate.clear()
        await w.resize("800m")
        await w.resize("900m")
        runtime.gate.set()
        await settle()
        assert [limits for _, limits in runtime.resized] == [{"cpu": "800m"}, {"cpu": "900m"}]
        assert w.cpus() == ("900m", "900m")


async def test_a_new_engine_finishes_a_resize_that_an_earlier_one_began(tmp_path: Path) -> None:
    runtime = ResizingRuntime(LoopClock())
    async with world(tmp_path, runtime) as w:
        runtime.gate.clear()
        await w.resize("800m")
    runtime.gate.set()
    async with world(tmp_path, runtime, adopts=True) as w:
        assert runtime.resized == [("main", {"cpu": "800m"})]
        assert w.cpus() == ("800m", "800m")
    assert runtime.started == ["main"]


def of(name: str, **limits: str) -> Container:
    return Container(name=name, image="i", resources=ResourceRequirements(limits=limits, requests=limits))


def pod_of(*containers: Container, init: Container | None = None) -> Pod:
    one = pod()
    one.spec.containers = [*containers]
    one.spec.init_containers = None if init is None else [init]
    return one


async def test_containers_are_resized_one_after_another_those_that_get_less_first(tmp_path: Path) -> None:
    """And the pod as a whole never has more than what its containers have, for the runtime that limits it too."""
    runtime = ResizingRuntime(LoopClock())
    had = [of("more", memory="10Mi"), of("same", memory="10Mi", cpu="1"), of("less", memory="30Mi")]
    wanted = [of("more", memory="20Mi"), of("same", memory="10Mi", cpu="2"), of("less", memory="20Mi")]
    async with world(tmp_path, runtime, new=pod_of(*had)) as w:
        runtime.gate.clear()
        await w.engine.update_pod(pod_of(*wanted))
        await settle()
        assert [config.container.name for config in runtime.asked] == ["less"]
        runtime.gate.set()
        await settle()
        assert [name for name, _ in runtime.resized] == ["less", "same", "more"]
        assert w.condition("PodResizeInProgress") is None
    memory = [[(c.resources.limits or {})["memory"] for c in config.pod.spec.containers if c.resources]
              for config in runtime.asked]  # fmt: skip
    assert memory == [["10Mi", "10Mi", "20Mi"], ["10Mi", "10Mi", "20Mi"], ["20Mi", "10Mi", "20Mi"]]


async def test_those_after_one_that_fails_wait_with_it(tmp_path: Path) -> None:
    runtime = ResizingRuntime(LoopClock())
    async with world(tmp_path, runtime, new=pod_of(of("a", cpu="1"), of("b", cpu="3"))) as w:
        runtime.answers = [ConnectionError("no answer")]
        await w.engine.update_pod(pod_of(of("a", cpu="2"), of("b", cpu="1")))
        await settle()
        assert runtime.resized == []
        await asyncio.sleep(5)
        assert [name for name, _ in runtime.resized] == ["b", "a"]


async def test_events_tell_what_every_container_is_to_have_init_containers_too(tmp_path: Path) -> None:
    runtime = ResizingRuntime(LoopClock())
    sidecar = of("sidecar", cpu="1")
    sidecar.restart_policy = "Always"
    async with world(tmp_path, runtime, new=pod_of(of("main", cpu="1"), init=sidecar)) as w:
        await w.engine.update_pod(pod_of(of("main", cpu="2"), init=sidecar))
        await settle()
        shown = json.loads(w.events.message("ResizeStarted").partition(": ")[2])
    (of_sidecar,), (of_main,) = shown["initContainers"], shown["containers"]
    assert (of_sidecar["name"], of_sidecar["resources"]["limits"]) == ("sidecar", {"cpu": "1"})
    assert (of_main["name"], of_main["resources"]["limits"]) == ("main", {"cpu": "2"})


class MeasuringRuntime(ResizingRuntime):
    """One that knows what its containers use."""

    used = 20 * 1024 * 1024

    async def container_statistics(self, container_ids: Sequence[str]) -> dict[str, ContainerStats]:
        now = self.clock.now()
        memory = MemoryStats(time=now, usage_bytes=self.used)
        return {one: ContainerStats(name="", start_time=now, memory=memory) for one in container_ids}

    async def node_statistics(self) -> NodeStats:
        raise AssertionError("nobody asks for it")


async def test_a_container_that_uses_more_memory_than_it_is_to_have_keeps_its_limit_until_it_uses_less(
    tmp_path: Path,
) -> None:
    runtime = MeasuringRuntime(LoopClock())
    async with world(tmp_path, runtime, new=pod_of(of("main", memory="30Mi"))) as w:
        await w.engine.update_pod(pod_of(of("main", memory="10Mi")))
        await settle()
        in_progress = w.condition("PodResizeInProgress")
        assert in_progress is not None
        assert (in_progress.reason, in_progress.message) == (
            "Error",
            'cannot decrease memory limits: attempting to set container "main" memory limit (10485760) below current '
            "usage (20971520)",
        )
        assert runtime.resized == []
        runtime.used = 1
        await asyncio.sleep(300)
        assert runtime.resized == [("main", {"memory": "10Mi"})]
        assert w.condition("PodResizeInProgress") is None
    assert w.events.reasons() == ["ResizeStarted", "ResizeError", "ResizeCompleted"]


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

"""Probes that run, in virtual time; what they find is scripted, what they ask for real is in ``tests/runtime/probes``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from tests.runtime.container_fakes import LoopClock
from virtual_kubelet.contracts.streams import AttachIO
from virtual_kubelet.objects.core_v1 import Container, ExecAction, Pod, PodSpec, Probe
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.bounded_call import LeftBehind
from virtual_kubelet.runtime.probe_state import ProbeKind, ProbeResult
from virtual_kubelet.runtime.probes.target import ContainerTarget, Outcome, ProbeAnswer, ProbeError
from virtual_kubelet.runtime.probing import PodProbes, Prober

pytestmark = pytest.mark.looptime

GOOD, BAD = ProbeAnswer(Outcome.SUCCESS), ProbeAnswer(Outcome.FAILURE, "no file")


def probe(name: str, **fields: int) -> Probe:
    return Probe(exec=ExecAction(command=[name]), **fields)  # type: ignore[arg-type]


def pod_of(*containers: Container) -> Pod:
    return Pod(metadata=ObjectMeta(name="p", namespace="n", uid="u"), spec=PodSpec(containers=list(containers)))


class Watched:
    """A pod's probes, and all that they said, with its time."""

    def __init__(self, *, concurrency: int = 100, spread: float = 0.0) -> None:
        self.clock = LoopClock()
        self.prober = Prober(
            clock=self.clock, concurrency=concurrency, spread=lambda: spread, execute=self._execute_probe
        )
        self.answer: Callable[[str], ProbeAnswer] = lambda name: GOOD
        self.work: Callable[[str], Awaitable[None]] = _nothing
        self.runs: list[tuple[float, str]] = []
        self.results: list[tuple[float, str, ProbeKind, ProbeResult]] = []
        self.events: list[tuple[str, str, str, str]] = []
        self.react: Callable[[str, ProbeKind, ProbeResult], None] = lambda container, kind, result: None

    @property
    def now(self) -> float:
        return round(self.clock.monotonic() - self.clock.begin, 3)

    async def _execute_probe(self, probe: Probe, target: ContainerTarget, left: LeftBehind) -> ProbeAnswer:
        assert probe.exec is not None
        assert probe.exec.command is not None
        name = probe.exec.command[0]
        self.runs.append((self.now, name))
        await self.work(name)
        return self.answer(name)

    def _result(self, container: str, kind: ProbeKind, result: ProbeResult, message: str) -> None:
        self.results.append((self.now, container, kind, result))
        self.react(container, kind, result)

    def pod(self, pod: Pod) -> PodProbes:
        return self.prober.pod(pod, on_result=self._result, on_event=lambda *event: self.events.append(event))


async def _nothing(name: str) -> None:
    return None


def target(container: Container, pod: Pod | None = None) -> ContainerTarget:
    return ContainerTarget(pod or pod_of(container), container, "c1", "10.0.0.1", _no_exec)


async def _no_exec(container_id: str, command: object, streams: AttachIO) -> int:
    raise AssertionError("these tests run no command")


@asynccontextmanager
async def probed(watched: Watched, container: Container) -> AsyncIterator[PodProbes]:
    async with watched.pod(pod_of(container)) as probes:
        probes.begin(target(container), watched.clock.monotonic())
        yield probes


async def test_a_readiness_probe_makes_a_container_ready_and_unready_with_one_event_a_failure() -> None:
    watched = Watched()
    found = {"ready": [BAD, GOOD, BAD, BAD, BAD, BAD]}
    watched.answer = lambda name: found[name].pop(0) if found[name] else GOOD
    container = Container(name="main", readiness_probe=probe("ready", period_seconds=1))
    async with probed(watched, container) as probes:
        assert (probes.started("main"), probes.ready("main")) == (True, False)
        await asyncio.sleep(1.5)
        assert probes.ready("main")
        await asyncio.sleep(5)
        assert probes.ready("main")
    kinds = [(at, result) for at, _, _, result in watched.results]
    assert kinds == [(1.0, ProbeResult.SUCCESS), (4.0, ProbeResult.FAILURE), (6.0, ProbeResult.SUCCESS)]
    assert watched.events == [("main", "Warning", "Unhealthy", "Readiness probe failed: no file")] * 5


async def test_startup_holds_the_others_back_and_then_rests() -> None:
    watched = Watched()
    started = [BAD, BAD, GOOD]
    watched.answer = lambda name: started.pop(0) if name == "start" else GOOD
    container = Container(
        name="main",
        startup_probe=probe("start", period_seconds=1, failure_threshold=5),
        readiness_probe=probe("ready", period_seconds=1),
        liveness_probe=probe("live", period_seconds=1),
    )
    async with probed(watched, container) as probes:
        await asyncio.sleep(1.5)
        assert (probes.started("main"), probes.ready("main")) == (False, False)
        await asyncio.sleep(2)
        assert (probes.started("main"), probes.ready("main")) == (True, True)
    assert [name for at, name in watched.runs if at <= 2][:3] == ["start"] * 3
    assert sorted(name for at, name in watched.runs if at >= 2)[-1] == "start"
    assert [name for _, name in watched.runs].count("start") == 3


async def test_a_liveness_failure_is_told_once_and_nothing_is_probed_until_the_next_run() -> None:
    watched = Watched()
    watched.answer = lambda name: BAD
    container = Container(name="main", liveness_probe=probe("live", period_seconds=1, failure_threshold=2))
    async with probed(watched, container) as probes:
        await asyncio.sleep(10)
        assert watched.results == [(1.0, "main", ProbeKind.LIVENESS, ProbeResult.FAILURE)]
        assert probes.failed("main") is ProbeKind.LIVENESS
        assert len(watched.runs) == 2
        probes.end("main")
        probes.begin(target(container), watched.clock.monotonic())
        assert probes.failed("main") is None
        await asyncio.sleep(0.5)
        assert len(watched.runs) == 3


async def test_an_engine_may_end_and_begin_a_container_from_within_the_callback() -> None:
    watched = Watched()
    watched.answer = lambda name: BAD
    container = Container(
        name="main",
        liveness_probe=probe("live", period_seconds=2, failure_threshold=1),
        readiness_probe=probe("ready", period_seconds=2),
    )
    async with watched.pod(pod_of(container)) as probes:

        def restart(name: str, kind: ProbeKind, result: ProbeResult) -> None:
            probes.end(name)
            if len(watched.results) < 3:
                probes.begin(target(container), watched.clock.monotonic() + 1)

        watched.react = restart
        probes.begin(target(container), watched.clock.monotonic())
        await asyncio.sleep(20)
    assert [at for at, *_ in watched.results] == [0, 1, 2]


async def test_an_end_gives_up_the_run_that_is_under_way() -> None:
    watched = Watched()
    ended: list[str] = []

    async def hang(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(name)

    watched.work = hang
    container = Container(name="main", readiness_probe=probe("ready"), liveness_probe=probe("live"))
    async with probed(watched, container) as probes:
        await asyncio.sleep(1)
        probes.end("main")
        await asyncio.sleep(1)
        assert sorted(ended) == ["live", "ready"]
        assert (probes.started("main"), probes.ready("main")) == (False, False)
    assert watched.results == []


async def test_while_the_pod_ends_readiness_goes_on_and_liveness_does_not() -> None:
    watched = Watched()
    container = Container(
        name="main", readiness_probe=probe("ready", period_seconds=1), liveness_probe=probe("live", period_seconds=1)
    )
    async with probed(watched, container) as probes:
        await asyncio.sleep(1.5)
        watched.answer = lambda name: BAD
        probes.terminate()
        probes.terminate()
        before = [name for _, name in watched.runs].count("live")
        await asyncio.sleep(5)
        names = [name for _, name in watched.runs]
        assert names.count("live") == before
        assert names.count("ready") >= before + 4
        assert not probes.ready("main")
        probes.begin(target(container), watched.clock.monotonic())  # a container that was just about to start
        await asyncio.sleep(1)
        assert [name for _, name in watched.runs].count("live") == before


async def test_an_error_is_tried_three_times_told_once_and_counts_for_nothing() -> None:
    watched = Watched()

    def fail(name: str) -> ProbeAnswer:
        raise ProbeError('strconv.Atoi: parsing "web": invalid syntax')

    watched.answer = fail
    container = Container(name="main", liveness_probe=probe("live", period_seconds=10, failure_threshold=1))
    async with probed(watched, container):
        await asyncio.sleep(15)
    assert len(watched.runs) == 6
    text = 'Liveness probe errored and resulted in unknown state: strconv.Atoi: parsing "web": invalid syntax'
    assert watched.events == [("main", "Warning", "Unhealthy", text)] * 2
    assert watched.results == []


async def test_a_fault_in_a_probe_ends_neither_it_nor_its_pod(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched()
    faults = [RuntimeError("a bug"), RuntimeError("a bug")]

    def fail(name: str) -> ProbeAnswer:
        if faults:
            raise faults.pop()
        return GOOD

    watched.answer = fail
    container = Container(name="main", readiness_probe=probe("ready", period_seconds=1))
    async with probed(watched, container) as probes:
        await asyncio.sleep(5)
        assert probes.ready("main")
    assert [e[3] for e in watched.events] == ["Readiness probe errored and resulted in unknown state: a bug"] * 2
    assert "could not be made" in caplog.text


async def test_a_warning_is_a_success_with_an_event() -> None:
    watched = Watched()
    watched.answer = lambda name: ProbeAnswer(Outcome.WARNING, "Probe terminated redirects, Response body: x")
    async with probed(watched, Container(name="main", readiness_probe=probe("ready"))) as probes:
        await asyncio.sleep(1)
        assert probes.ready("main")
    text = "Readiness probe warning: Probe terminated redirects, Response body: x"
    assert watched.events == [("main", "Warning", "ProbeWarning", text)]


async def test_no_more_probes_run_at_a_time_than_allowed_and_each_has_its_turn() -> None:
    watched = Watched(concurrency=3)
    busy: list[int] = []

    async def work(name: str) -> None:
        busy.append(1)
        most.append(len(busy))
        await asyncio.sleep(1)
        busy.pop()

    most: list[int] = []
    watched.work = work
    containers = [Container(name=f"c{n}", readiness_probe=probe(f"r{n}")) for n in range(10)]
    async with watched.pod(pod_of(*containers)) as probes:
        for container in containers:
            probes.begin(target(container), watched.clock.monotonic())
        await asyncio.sleep(5)
        assert all(probes.ready(c.name) for c in containers)
    assert max(most) == 3


async def test_after_adoption_readiness_holds_and_the_first_runs_are_spread() -> None:
    watched = Watched(spread=0.5)
    watched.answer = lambda name: BAD
    container = Container(
        name="main",
        startup_probe=probe("start"),
        readiness_probe=probe("ready", period_seconds=10, failure_threshold=1),
        liveness_probe=probe("live", period_seconds=4, failure_threshold=9),
    )
    async with watched.pod(pod_of(container)) as probes:
        probes.adopt(target(container), watched.clock.monotonic() - 600, started=True, ready=True)
        assert (probes.started("main"), probes.ready("main")) == (True, True)
        await asyncio.sleep(4.5)
        assert (probes.started("main"), probes.ready("main")) == (True, True)
        await asyncio.sleep(1)
        assert not probes.ready("main")
    assert watched.runs == [(2.0, "live"), (5.0, "ready")]


async def test_leaving_ends_every_run_and_takes_the_pod_out_of_the_statistics() -> None:
    watched = Watched()
    watched.work = lambda name: asyncio.sleep(3600)
    container = Container(name="main", readiness_probe=probe("ready"))
    async with probed(watched, container):
        await asyncio.sleep(1)
        assert len(watched.prober.statistics()) == 1
    assert watched.prober.statistics() == []


async def test_statistics_count_results_and_how_long_successes_took() -> None:
    watched = Watched()
    answers = [GOOD, BAD, GOOD]
    watched.answer = lambda name: answers.pop(0)
    watched.work = lambda name: asyncio.sleep(0.3)
    container = Container(name="main", liveness_probe=probe("live", period_seconds=1))
    async with probed(watched, container):
        await asyncio.sleep(2.5)
        (found,) = watched.prober.statistics()
    assert (found.key.uid, found.container, found.kind) == ("u", "main", "Liveness")
    assert found.results == {"successful": 2, "failed": 1}
    assert sum(found.buckets) == found.buckets[6] == 2
    assert found.seconds == pytest.approx(0.6)

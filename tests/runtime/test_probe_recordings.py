"""The pods with probes and hooks that a real kubelet ran: the same events in the same order, and as many as thresholds say.

Containers are played: what their commands would find when. Times are virtual; where a recorded count depends on when the
kubelet looked, it may differ by two.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from tests.runtime.container_fakes import LoopClock
from virtual_kubelet.contracts.streams import AttachIO
from virtual_kubelet.objects.core_v1 import Container, Pod
from virtual_kubelet.runtime.bounded_call import LeftBehind
from virtual_kubelet.runtime.hooks import POST_START_KILLING, HookFailedError, Hooks, grace_after_pre_stop
from virtual_kubelet.runtime.probe_state import ProbeKind, ProbeResult, grace_after_failure
from virtual_kubelet.runtime.probes.execute import execute_probe
from virtual_kubelet.runtime.probes.http_get import HttpResponse
from virtual_kubelet.runtime.probes.target import ContainerTarget, Outcome, ProbeAnswer
from virtual_kubelet.runtime.probing import Prober

pytestmark = [pytest.mark.recording, pytest.mark.looptime, pytest.mark.may_block]

#: Whether a probe succeeds, so many seconds after its container has started.
Found = Callable[[float], bool]


class Recording:
    def __init__(self, shared: Path, name: str) -> None:
        lines = [
            json.loads(line) for line in (shared / f"kubelet-1.36/lifecycles/{name}.jsonl").read_text().splitlines()
        ]
        self.manifest = lines[0]["pod"]
        self.events: list[dict[str, Any]] = next(line["events"] for line in lines if "events" in line)
        self.statuses = [line["status"] for line in lines if "status" in line]
        meta = {**self.manifest["metadata"], "namespace": "default", "uid": "u"}
        self.pod = msgspec.convert({**self.manifest, "metadata": meta}, Pod)

    def told(self, *reasons: str) -> list[tuple[str, str, int]]:
        """Events of these reasons, in the order in which they were first seen."""
        return [(e["reason"], e["message"], e["count"]) for e in self.events if e["reason"] in reasons]

    def flags(self, container: str) -> list[tuple[bool, bool]]:
        """``started`` and ``ready`` of one container as they changed while it ran for the first time."""
        seen: list[tuple[bool, bool]] = []
        for status in self.statuses:
            found = status.get("initContainerStatuses", []) + status.get("containerStatuses", [])
            one = next((c for c in found if c["name"] == container), None)
            if one is None or "running" not in one["state"] or one["restartCount"]:
                continue
            flags = (one["started"], one["ready"])
            if not seen or seen[-1] != flags:
                seen.append(flags)
        return seen


@pytest.fixture
def recording(shared: Path, request: pytest.FixtureRequest) -> Recording:
    return Recording(shared, request.param)


def between(begin: float, end: float) -> Found:
    return lambda seconds: begin <= seconds < end


class Case(NamedTuple):
    """``runs``: how often the container ran until the recording ended; ``seconds``: how long each is watched."""

    found: Found
    runs: int
    seconds: float
    exact: bool = True


ALWAYS, NEVER = between(0, 1e9), between(1, 0)
PROBED = {
    "liveness-fails": Case(between(0, 5), 5, 30),
    "liveness-own-grace": Case(NEVER, 3, 30),
    "startup-fails": Case(NEVER, 4, 30),
    "startup-then-liveness": Case(between(5, 1e9), 1, 20, exact=False),
    "readiness-late": Case(between(6, 1e9), 1, 20, exact=False),
    "readiness-lost": Case(between(0, 8), 1, 33, exact=False),
    "sidecar-startup-gates-main": Case(between(4, 1e9), 1, 10, exact=False),
    "tcp-liveness": Case(ALWAYS, 1, 20),
    "http-readiness": Case(between(6, 1e9), 1, 20, exact=False),
}


def probed_container(pod: Pod) -> Container:
    containers: list[Container] = [*(pod.spec.init_containers or ()), *pod.spec.containers]
    return next(c for c in containers if c.startup_probe or c.readiness_probe or c.liveness_probe)


@pytest.mark.parametrize(
    ("recording", "case"), [pytest.param(name, case, id=name) for name, case in PROBED.items()], indirect=["recording"]
)
async def test_a_pod_is_probed_as_the_kubelet_probed_it(recording: Recording, case: Case) -> None:
    clock, container, pod = LoopClock(), probed_container(recording.pod), recording.pod
    told: Counter[tuple[str, str]] = Counter()
    flags: list[tuple[bool, bool]] = []
    began = clock.monotonic()
    failed: asyncio.Future[ProbeKind] = asyncio.get_running_loop().create_future()

    async def exec_command(container_id: str, command: Sequence[str], streams: AttachIO) -> int:
        return 0 if case.found(clock.monotonic() - began) else 1

    async def execute(probe: Any, target: ContainerTarget, left: LeftBehind) -> ProbeAnswer:
        if probe.exec is not None:
            return await execute_probe(probe, target, left)
        seconds = clock.monotonic() - began
        if probe.tcp_socket is not None or case.found(seconds):
            return ProbeAnswer(Outcome.SUCCESS)
        if seconds < 0.5:
            refused = (
                f'Get "http://{target.pod_ip}:8080/ok": dial tcp {target.pod_ip}:8080: connect: connection refused'
            )
            return ProbeAnswer(Outcome.FAILURE, refused)
        response = HttpResponse(404, None, "")
        return ProbeAnswer(Outcome.FAILURE, f"HTTP probe failed with statuscode: {response.status}")

    def changed(name: str, kind: ProbeKind, result: ProbeResult, message: str) -> None:
        flags.append((probes.started(name), probes.ready(name)))
        if kind.ends_container and result is ProbeResult.FAILURE:
            failed.set_result(kind)

    def event(name: str, event_type: str, reason: str, message: str) -> None:
        assert (name, event_type) == (container.name, "Warning")
        told[reason, message] += 1

    recorded_ip = next((s["podIP"] for s in recording.statuses if s.get("podIP")), "10.0.0.1")
    async with Prober(clock=clock, execute=execute).pod(pod, on_result=changed, on_event=event) as probes:
        for number in range(case.runs):
            began, failed = clock.monotonic(), asyncio.get_running_loop().create_future()
            target = ContainerTarget(pod, container, f"c{number}", recorded_ip, exec_command)
            probes.begin(target, began)
            if number == 0:
                flags.append((probes.started(container.name), probes.ready(container.name)))
            try:
                async with asyncio.timeout(case.seconds):
                    kind = await failed
            except TimeoutError:
                break
            told["Killing", f"Container {container.name} failed {kind.lower()} probe, will be restarted"] += (
                1  # the engine
            )
            await asyncio.sleep(grace_after_failure(pod, container, kind))
            probes.end(container.name)

    recorded = recording.told("Unhealthy", "ProbeWarning", "Killing")
    assert list(told) == [(reason, message) for reason, message, _ in recorded]
    for reason, message, count in recorded:
        assert abs(told[reason, message] - count) <= (0 if case.exact else 2), (reason, message)
    changes = [flag for at, flag in enumerate(flags) if at == 0 or flag != flags[at - 1]]
    if not case.exact or case.runs == 1:
        assert changes == recording.flags(container.name)


class Played:
    """Commands of hooks, which end as a test says."""

    def __init__(self, code: int, seconds: float) -> None:
        self.code, self.seconds = code, seconds

    async def __call__(self, container_id: str, command: Sequence[str], streams: AttachIO) -> int:
        await asyncio.sleep(self.seconds)
        return self.code


def hooked(recording: Recording, code: int = 0, seconds: float = 0) -> ContainerTarget:
    return ContainerTarget(recording.pod, recording.pod.spec.containers[0], "c", "10.0.0.1", Played(code, seconds))


@pytest.mark.parametrize("recording", ["post-start-fails"], indirect=True)
async def test_a_post_start_hook_that_fails_is_told_as_the_kubelet_told_it(recording: Recording) -> None:
    events: list[tuple[str, str]] = []
    with pytest.raises(HookFailedError) as caught:
        await Hooks(LoopClock()).post_start(hooked(recording, 9), lambda *e: events.append((e[2], e[3])))
    events.append(("Killing", POST_START_KILLING))
    waiting = [s["containerStatuses"][0]["state"].get("waiting", {}) for s in recording.statuses if s.get("podIP")]
    shown = next(w["message"] for w in waiting if w.get("reason") == "PostStartHookError")
    uid = shown.split("default(")[1].split(")")[0]
    assert str(caught.value) == shown.replace(uid, "u")
    assert events == [(r, m) for r, m, _ in recording.told("FailedPostStartHook", "Killing")]


@pytest.mark.parametrize(
    ("recording", "seconds"),
    [("pre-stop-and-term", 3), ("pre-stop-sleep", 3), ("pre-stop-longer-than-grace", 60)],
    indirect=["recording"],
)
async def test_a_pre_stop_hook_takes_of_the_grace_period_what_it_took_there(
    recording: Recording, seconds: float
) -> None:
    events = [("Killing", "Stopping container main")]
    grace = recording.pod.spec.termination_grace_period_seconds
    assert grace is not None
    target = hooked(recording, 0, seconds)
    elapsed = await Hooks(LoopClock()).pre_stop(target, grace, lambda *e: events.append((e[2], e[3])))
    assert events == [(r, m) for r, m, _ in recording.told("Killing", "FailedPreStopHook")]
    assert elapsed == pytest.approx(min(seconds, grace))
    assert grace_after_pre_stop(grace, elapsed) == max(2, grace - seconds)

"""Probes and hooks of real processes: commands run, ports answer, files say what ran when."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.providers.contexts import context
from tests.runtime.probes.raw_server import free_port
from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.objects.core_v1 import (
    Container,
    ContainerPort,
    ContainerState,
    ContainerStatus,
    ExecAction,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    Pod,
    PodSpec,
    PodStatus,
    Probe,
    SleepAction,
    TCPSocketAction,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.providers.process import ProcessProvider

pytestmark = pytest.mark.may_block  # files are made and looked at

#: Answers 200 while FILE is there, else 404, on PORT.
SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if os.path.exists(sys.argv[2]) else 404)
        self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Node:
    """A process provider; every status and event of its pods."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.statuses: dict[PodKey, list[PodStatus]] = {}
        self.events: list[tuple[str, str]] = []

    def _take(self, key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        self.statuses.setdefault(key, []).append(status)

    def _event(self, key: PodKey, event_type: str, reason: str, message: str, **where: Any) -> None:
        self.events.append((reason, message))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[ProcessProvider]:
        given = dataclasses.replace(
            context(self.folder), internal_ip="127.0.0.1", host_ips=["127.0.0.1"], record_event=self._event
        )
        async with ProcessProvider(given, allow_host_processes=True) as provider:
            provider.notify_pods(self._take)
            yield provider

    async def until(self, one: Pod, condition: Callable[[ContainerStatus], object]) -> ContainerStatus:
        async with asyncio.timeout(90):
            while True:
                seen = self.statuses.get(PodKey.of(one), [])
                if seen and seen[-1].container_statuses and condition(seen[-1].container_statuses[0]):
                    return seen[-1].container_statuses[0]
                await asyncio.sleep(0.02)

    async def until_event(self, reason: str, message: str | None = None) -> None:
        async with asyncio.timeout(90):
            while not any(r == reason and message in (None, m) for r, m in self.events):
                await asyncio.sleep(0.02)

    def flags(self, one: Pod) -> list[tuple[bool | None, bool]]:
        """``started`` and ``ready`` as they changed."""
        found = [(c.started, c.ready) for s in self.statuses[PodKey.of(one)] for c in s.container_statuses or ()]
        return [flags for at, flags in enumerate(found) if at == 0 or flags != found[at - 1]]


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@contextlib.asynccontextmanager
async def pod_in(node: Node, one: Pod) -> AsyncIterator[ProcessProvider]:
    async with node.running() as provider:
        await provider.create_pod(one)
        yield provider
        await delete(provider, one)


async def delete(provider: ProcessProvider, one: Pod, grace: int = 0) -> None:
    one.metadata.deletion_grace_period_seconds = grace
    await provider.delete_pod(one)
    async with asyncio.timeout(90):
        while await provider.get_pod(PodKey.of(one)) is not None:
            await asyncio.sleep(0.02)


def pod(script: str, *words: str, policy: str = "Always", command: list[str] | None = None, **container: Any) -> Pod:
    main = Container(name="main", image="none", command=command or ["sh", "-c", script, "sh", *words], **container)
    return Pod(
        metadata=ObjectMeta(name="p", namespace="default", uid=str(uuid.uuid4())),
        spec=PodSpec(restart_policy=policy, containers=[main], termination_grace_period_seconds=5),
    )


def probe(**fields: Any) -> Probe:
    return Probe(**({"period_seconds": 1, "timeout_seconds": 30} | fields))


def command(*words: str) -> ExecAction:
    return ExecAction(command=list(words))


def state(status: ContainerStatus) -> ContainerState:
    assert status.state is not None
    return status.state


async def test_vk_238_a_pod_is_ready_while_its_http_server_says_so(node: Node, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "ok"
    one = pod(
        "",
        command=[sys.executable, "-c", SERVER, str(port), str(file)],
        ports=[ContainerPort(name="web", container_port=port)],
        readiness_probe=probe(http_get=HTTPGetAction(port="web", path="/ready"), failure_threshold=1),
    )
    async with pod_in(node, one):
        await node.until_event("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 404")
        file.touch()
        await node.until(one, lambda c: c.ready)
        file.unlink()
        await node.until(one, lambda c: not c.ready)
        assert node.flags(one)[:3] == [(False, False), (True, False), (True, True)]


async def test_vk_238_a_container_whose_liveness_command_fails_is_ended_and_runs_again(
    node: Node, tmp_path: Path
) -> None:
    file = tmp_path / "alive"
    one = pod(
        "touch $1; sleep 1000",
        str(file),
        liveness_probe=probe(exec=command("test", "-f", str(file)), failure_threshold=2),
    )
    async with pod_in(node, one) as provider:
        before = await node.until(one, lambda c: c.ready and file.exists())
        file.unlink()
        status = await node.until(one, lambda c: c.restart_count > before.restart_count and c.ready)
        assert status.last_state is not None
        assert status.last_state.terminated is not None
        assert status.last_state.terminated.signal == signal.SIGTERM
        assert node.events.count(("Unhealthy", "Liveness probe failed: ")) >= 2  # and some before the file was there
        assert ("Killing", "Container main failed liveness probe, will be restarted") in node.events
        (counted,) = provider.probe_statistics()
        assert (counted.container, counted.kind) == ("main", "Liveness")
        assert counted.results["failed"] >= 2


async def test_vk_238_a_startup_probe_holds_readiness_back(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "up"
    one = pod(
        "sleep 1000",
        startup_probe=probe(exec=command("test", "-f", str(file)), failure_threshold=1000),
        readiness_probe=probe(exec=command("true")),
    )
    async with pod_in(node, one):
        await node.until_event("Unhealthy", "Startup probe failed: ")
        status = await node.until(one, lambda c: state(c).running is not None)
        assert (status.started, status.ready) == (False, False)
        file.touch()
        await node.until(one, lambda c: c.started and c.ready)


async def test_vk_238_a_port_that_does_not_open_is_told_and_the_container_is_ended(node: Node) -> None:
    port = free_port()
    one = pod(
        "sleep 1000",
        policy="Never",
        liveness_probe=probe(tcp_socket=TCPSocketAction(port=port), failure_threshold=1),
    )
    async with pod_in(node, one):
        ended = state(await node.until(one, lambda c: state(c).terminated is not None)).terminated
        assert ended is not None
        assert ended.signal == signal.SIGTERM
        refused = f"Liveness probe failed: dial tcp 127.0.0.1:{port}: connect: connection refused"
        assert ("Unhealthy", refused) in node.events
        assert ("Killing", "Container main failed liveness probe") in node.events


async def test_a_command_that_never_returns_is_given_up_and_leaves_no_process(node: Node, tmp_path: Path) -> None:
    marker = f"{300_000 + uuid.uuid4().int % 100_000}"
    one = pod("sleep 1000", readiness_probe=probe(exec=command("sleep", marker), timeout_seconds=1))
    async with pod_in(node, one):
        late = f'Readiness probe failed: command timed out: "sleep {marker}" timed out after 1s'
        await node.until_event("Unhealthy", late)
    async with asyncio.timeout(90):
        while any(marker.encode() in read(path) for path in list(Path("/proc").glob("[0-9]*/cmdline"))):
            await asyncio.sleep(0.05)


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_a_new_process_of_the_node_does_not_take_readiness_back(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "ok"
    file.touch()
    one = pod(
        "sleep 1000",
        startup_probe=probe(exec=command("test", "-f", str(file))),
        readiness_probe=probe(exec=command("test", "-f", str(file)), failure_threshold=1),
    )
    async with node.running() as provider:
        await provider.create_pod(one)
        first = await node.until(one, lambda c: c.ready)
    seen = len(node.statuses[PodKey.of(one)])
    async with node.running() as provider:
        await node.until(one, lambda c: len(node.statuses[PodKey.of(one)]) > seen)
        file.unlink()  # it is probed on
        last = await node.until(one, lambda c: not c.ready)
        after = [c for s in node.statuses[PodKey.of(one)][seen:] for c in s.container_statuses or ()]
        assert after[0].ready
        assert all(c.started and c.restart_count == 0 for c in after)
        assert last.container_id == first.container_id
        await delete(provider, one)


async def test_a_post_start_hook_runs_before_the_container_counts_as_running(node: Node, tmp_path: Path) -> None:
    file = tmp_path / "hooked"
    hook = LifecycleHandler(exec=command("sh", "-c", f"until [ -f {file} ]; do sleep 0.05; done"))
    one = pod("sleep 1000", lifecycle=Lifecycle(post_start=hook))
    async with pod_in(node, one):
        await node.until_event("Started")
        await asyncio.sleep(0.2)
        assert all(state(c).running is None for s in node.statuses[PodKey.of(one)] for c in s.container_statuses or ())
        file.touch()
        await node.until(one, lambda c: c.ready)


async def test_a_post_start_hook_that_fails_ends_the_container_and_says_why(node: Node) -> None:
    hook = LifecycleHandler(exec=command("sh", "-c", "echo said; exit 9"))
    one = pod("sleep 1000", lifecycle=Lifecycle(post_start=hook))
    async with pod_in(node, one):
        waiting = state(await node.until(one, lambda c: "PostStartHookError" in str(c.state))).waiting
        assert waiting is not None
        assert waiting.message is not None
        assert 'exited with 9: , message: "said\\n"' in waiting.message
        await node.until_event("Killing", "FailedPostStartHook")
        assert ("FailedPostStartHook", "PostStartHook failed") in node.events
        assert not any("said" in message for _, message in node.events)


async def test_a_pre_stop_hook_runs_before_the_signal(node: Node, tmp_path: Path) -> None:
    log, up = tmp_path / "log", tmp_path / "up"
    one = pod(
        'trap "echo term >> $1; exit 0" TERM; touch $2; while :; do sleep 0.05; done',
        str(log),
        str(up),
        lifecycle=Lifecycle(pre_stop=LifecycleHandler(exec=command("sh", "-c", f"sleep 0.3; echo hook >> {log}"))),
    )
    async with node.running() as provider:
        await provider.create_pod(one)
        await node.until(one, lambda c: c.ready and up.exists())
        await delete(provider, one, grace=60)
    assert log.read_text() == "hook\nterm\n"
    assert not any(reason == "FailedPreStopHook" for reason, _ in node.events)


async def test_a_pre_stop_hook_that_outlasts_the_grace_period_is_told_and_the_pod_ends(
    node: Node, tmp_path: Path
) -> None:
    hook = LifecycleHandler(exec=command("sleep", "1000"))
    one = pod("sleep 1000", lifecycle=Lifecycle(pre_stop=hook))
    async with node.running() as provider:
        await provider.create_pod(one)
        await node.until(one, lambda c: c.ready)
        await delete(provider, one, grace=1)
    assert node.events.count(("FailedPreStopHook", "PreStopHook failed")) == 1


async def test_sleep_hooks_sleep(node: Node) -> None:
    nap = LifecycleHandler(sleep=SleepAction(seconds=1))
    one = pod("sleep 1000", lifecycle=Lifecycle(post_start=nap, pre_stop=nap))
    async with node.running() as provider:
        await provider.create_pod(one)
        began = asyncio.get_running_loop().time()
        await node.until(one, lambda c: c.ready)
        assert asyncio.get_running_loop().time() - began >= 0.9
        began = asyncio.get_running_loop().time()
        await delete(provider, one, grace=60)
        assert asyncio.get_running_loop().time() - began >= 0.9

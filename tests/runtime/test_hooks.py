"""Hooks: time is virtual where they wait, and sockets are real where they ask."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from tests.runtime.container_fakes import LoopClock
from tests.runtime.probes.raw_server import free_port, raw_server, says
from virtual_kubelet.clock import SystemClock
from virtual_kubelet.contracts.streams import AttachIO
from virtual_kubelet.objects.core_v1 import (
    Container,
    ExecAction,
    HTTPGetAction,
    HTTPHeader,
    Lifecycle,
    LifecycleHandler,
    Pod,
    PodSpec,
    SleepAction,
    TCPSocketAction,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.runtime.hooks import HookFailedError, Hooks, grace_after_pre_stop
from virtual_kubelet.runtime.probes.target import ContainerTarget, ExecCommand

PRE_STOP_FAILED = ("main", "Warning", "FailedPreStopHook", "PreStopHook failed")
POST_START_FAILED = ("main", "Warning", "FailedPostStartHook", "PostStartHook failed")


def target(
    *,
    post_start: LifecycleHandler | None = None,
    pre_stop: LifecycleHandler | None = None,
    exec: ExecCommand | None = None,
    ip: str = "127.0.0.1",
) -> ContainerTarget:
    container = Container(name="main", lifecycle=Lifecycle(post_start=post_start, pre_stop=pre_stop))
    pod = Pod(metadata=ObjectMeta(name="p", namespace="n", uid="u"), spec=PodSpec(containers=[container]))
    return ContainerTarget(pod, container, "c1", ip, exec)


def command(*words: str) -> LifecycleHandler:
    return LifecycleHandler(exec=ExecAction(command=list(words)))


class Commands:
    """Runs no command, but says how it ended, after so many seconds."""

    def __init__(self, code: int = 0, seconds: float = 0.0, output: bytes = b"", error: bytes = b"") -> None:
        self.code, self.seconds, self.output, self.error = code, seconds, output, error
        self.given_up = 0

    async def __call__(self, container_id: str, command: Sequence[str], streams: AttachIO) -> int:
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        assert streams.stdout is not None
        assert streams.stderr is not None
        await streams.stdout.write(self.output)
        await streams.stderr.write(self.error)
        return self.code


class Events(list[tuple[str, str, str, str]]):
    def __call__(self, *event: str) -> None:
        container, kind, reason, message = event
        self.append((container, kind, reason, message))


async def test_no_hook_costs_nothing() -> None:
    hooks, events = Hooks(SystemClock()), Events()
    bare = ContainerTarget(Pod(metadata=ObjectMeta(), spec=PodSpec(containers=[])), Container(name="x"), "c", "", None)
    for asked in (bare, target()):
        await hooks.post_start(asked, events)
        assert await hooks.pre_stop(asked, 30, events) == 0
    assert events == []


async def test_a_post_start_command_that_fails_says_what_the_kubelet_says_and_its_output_is_in_no_event() -> None:
    hooks, events = Hooks(SystemClock()), Events()
    asked = target(post_start=command("sh", "-c", "x"), exec=Commands(9, output=b'pass"word\n', error=b"oh"))
    with pytest.raises(HookFailedError) as caught:
        await hooks.post_start(asked, events)
    assert str(caught.value) == (
        'Exec lifecycle hook ([sh -c x]) for Container "main" in Pod "p_n(u)" failed - '
        'error: command \'sh -c x\' exited with 9: oh, message: "pass\\"word\\noh"'
    )
    assert events == [POST_START_FAILED]


async def test_a_command_that_cannot_be_run_is_a_failure() -> None:
    async def fail(container_id: str, command: Sequence[str], streams: AttachIO) -> int:
        raise OSError("container not found")

    hooks, events = Hooks(SystemClock()), Events()
    with pytest.raises(HookFailedError, match=r'failed - error: container not found, message: ""$'):
        await hooks.post_start(target(post_start=command("x"), exec=fail), events)
    with pytest.raises(HookFailedError, match="runs no commands"):
        await hooks.post_start(target(post_start=command("x")), events)


@pytest.mark.looptime
async def test_post_start_has_all_the_time_it_wants_and_ends_with_its_caller() -> None:
    hooks, events, commands = Hooks(LoopClock()), Events(), Commands(seconds=7200)
    await hooks.post_start(target(post_start=command("x"), exec=commands), events)
    task = asyncio.create_task(hooks.post_start(target(post_start=command("x"), exec=commands), events))
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (commands.given_up, events) == (1, [])


@pytest.mark.looptime
async def test_pre_stop_runs_within_the_grace_period_and_what_it_took_is_taken_off() -> None:
    hooks, events = Hooks(LoopClock()), Events()
    asked = target(pre_stop=command("x"), exec=Commands(seconds=3))
    elapsed = await hooks.pre_stop(asked, 20, events)
    assert elapsed == pytest.approx(3)
    assert grace_after_pre_stop(20, elapsed) == 17
    assert events == []


@pytest.mark.looptime
async def test_a_pre_stop_that_outlasts_the_grace_period_is_given_up_with_an_event() -> None:
    hooks, events, commands = Hooks(LoopClock()), Events(), Commands(seconds=60)
    elapsed = await hooks.pre_stop(target(pre_stop=command("x"), exec=commands), 4, events)
    assert (elapsed, commands.given_up, events) == (4, 1, [PRE_STOP_FAILED])
    assert grace_after_pre_stop(4, elapsed) == 2


@pytest.mark.looptime
async def test_a_pre_stop_that_fails_is_an_event_and_the_end_goes_on() -> None:
    hooks, events = Hooks(LoopClock()), Events()
    assert await hooks.pre_stop(target(pre_stop=command("x"), exec=Commands(1)), 30, events) == 0
    assert events == [PRE_STOP_FAILED]


@pytest.mark.looptime
async def test_without_grace_there_is_no_pre_stop() -> None:
    hooks, events, commands = Hooks(LoopClock()), Events(), Commands(1)
    assert await hooks.pre_stop(target(pre_stop=command("x"), exec=commands), 0, events) == 0
    assert events == []


@pytest.mark.looptime
async def test_sleep_sleeps() -> None:
    hooks, events = Hooks(LoopClock()), Events()
    sleep = LifecycleHandler(sleep=SleepAction(seconds=3))
    assert await hooks.pre_stop(target(pre_stop=sleep), 15, events) == pytest.approx(3)
    began = asyncio.get_running_loop().time()
    await hooks.post_start(target(post_start=sleep), events)
    assert asyncio.get_running_loop().time() - began == pytest.approx(3)
    assert events == []


@pytest.mark.parametrize(
    "handler", [LifecycleHandler(tcp_socket=TCPSocketAction(port=1)), LifecycleHandler()], ids=["tcpSocket", "none"]
)
async def test_a_handler_that_is_not_supported_fails_at_run_time(handler: LifecycleHandler) -> None:
    hooks, events = Hooks(SystemClock()), Events()
    with pytest.raises(HookFailedError, match=r"^Cannot run handler: invalid handler: "):
        await hooks.post_start(target(post_start=handler), events)


@pytest.mark.parametrize("status", [b"200 OK", b"500 Oh"])
async def test_any_answer_to_a_request_is_good_enough(status: bytes) -> None:
    hooks, events = Hooks(SystemClock()), Events()
    async with raw_server(says(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")) as server:
        get = LifecycleHandler(http_get=HTTPGetAction(port=server.port, path="/hook"))
        await hooks.post_start(target(post_start=get), events)
    assert server.requests[0].startswith("GET /hook HTTP/1.1\r\n")
    assert "User-Agent: kube-lifecycle/1.36\r\n" in server.requests[0]


async def test_a_request_that_gets_no_answer_is_a_failure() -> None:
    hooks, events, port = Hooks(SystemClock()), Events(), free_port()
    get = LifecycleHandler(http_get=HTTPGetAction(port=port, path="/hook"))
    with pytest.raises(HookFailedError) as caught:
        await hooks.post_start(target(post_start=get), events)
    assert str(caught.value) == (
        'HTTP lifecycle hook (/hook) for Container "main" in Pod "p_n(u)" failed - '
        f'error: Get "http://127.0.0.1:{port}/hook": dial tcp 127.0.0.1:{port}: connect: connection refused'
    )
    with pytest.raises(HookFailedError, match="the pod has no address"):
        await hooks.post_start(target(post_start=get, ip=""), events)


async def test_https_that_is_http_is_asked_again_without_tls_and_without_secrets() -> None:
    hooks, events = Hooks(SystemClock()), Events()
    first = True

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        if first:
            first = False
            await reader.read(65536)
        else:
            server.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")(reader, writer)

    async with raw_server(plain, wait_for_request=False) as server:
        headers = [HTTPHeader(name="Authorization", value="Bearer s3cret"), HTTPHeader(name="X-A", value="1")]
        get = HTTPGetAction(port=server.port, path="/hook", scheme="HTTPS", http_headers=headers)
        await hooks.post_start(target(post_start=LifecycleHandler(http_get=get)), events)
    assert len(server.requests) == 1
    assert "X-A: 1" in server.requests[0]
    assert "s3cret" not in server.requests[0]
    where = f"127.0.0.1:{server.port}"
    message = f"request to HTTPS lifecycle hook {where} got HTTP response, retry with HTTP succeeded"
    assert events == [("main", "Warning", "LifecycleHTTPFallback", message)]


@pytest.mark.parametrize(
    ("grace", "elapsed", "left"), [(30, 0, 30), (30, 3.9, 27), (4, 4, 2), (4, 3, 2), (1, 0, 2), (10, 25, 2)]
)
def test_whole_seconds_are_taken_off_and_two_are_always_left(grace: float, elapsed: float, left: float) -> None:
    assert grace_after_pre_stop(grace, elapsed) == left

"""Hundreds of exec sessions with the real providers, half of them cut: what a node had before is what it has after.

Thousands of them, with kubectl and a whole node: ``bench/streams_through.py --sessions 1000``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.contract.commands import processes_with
from tests.providers.contexts import context
from tests.providers.test_process_provider import node_in
from tests.providers.test_process_provider import pod as process_pod
from tests.server.raw_http_client import RawClient
from tests.server.recorded_node import Pods
from tests.server.stream_clients import Address, Command
from tests.server.test_kubelet_api import Ada
from virtual_kubelet.contracts.pods import PodLifecycleHandler
from virtual_kubelet.objects.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStatus,
    EnvVar,
    Pod,
    PodSpec,
    PodStatus,
)
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.providers.mock import MockProvider
from virtual_kubelet.server.authorization import AlwaysAllowAuthorizer
from virtual_kubelet.server.kubelet_api import KubeletServer
from virtual_kubelet.streaming.remote_command.session import RemoteCommandOptions
from virtual_kubelet.streaming.remote_command.status import CommandStatus

pytestmark = [pytest.mark.may_block, pytest.mark.timeout(240)]

ALL = RemoteCommandOptions(stdin=True, stdout=True, stderr=True)
TERMINAL = RemoteCommandOptions(stdin=True, stdout=True, tty=True)


def held() -> tuple[int, int, int]:
    """Descriptors, tasks, and objects of ours and of asyncio. Timers that were cancelled leave their loop later."""
    gc.collect()
    kinds = (type(held) for held in gc.get_objects())
    ours = [kind for kind in kinds if str(kind.__module__).startswith(("virtual_kubelet.", "asyncio.", "_asyncio"))]
    objects = sum(kind is not asyncio.TimerHandle for kind in ours)
    return len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks()), objects


class Node:
    def __init__(self, server: KubeletServer, address: Address, tls: ssl.SSLContext, path: str) -> None:
        self.server, self.address, self.tls, self.path = server, address, tls, path
        self.terminals = True

    async def session(self, number: int) -> None:
        """One of four kinds; every other one is cut amid its work."""
        kind, options = ("spdy", "websocket")[number // 2 % 2], TERMINAL if self.terminals and number % 8 > 5 else ALL
        async with await RawClient.open(self.address, self.tls) as client:
            command: Command = await getattr(Command, kind)(client, self.path, options, ["cat"])
            command.send(b"x\n")
            await command.hear(lambda: b"x\n" in command.stdout.replace(b"\r", b""))
            if number % 2:
                return
            if options.tty:
                command.send(b"\x04")  # a terminal's end of input
            else:
                command.end_stdin()
            assert await command.finish() == CommandStatus.success()

    async def sessions(self, count: int) -> tuple[int, int, int]:
        """So many, some at a time; what is held when all have ended."""
        few = asyncio.Semaphore(8)

        async def one(number: int) -> None:
            async with few:
                await self.session(number)

        async with asyncio.TaskGroup() as clients:
            for number in range(count):
                clients.create_task(one(number))
        async with asyncio.timeout(60):
            while self.server.stream_sessions or self.server.connections:
                await asyncio.sleep(0.01)
        return held()

    async def keeps_no_transport(self) -> None:
        """The large part of a connection is its TLS: it is freed at once, whenever the garbage collector may come."""
        gc.collect()
        gc.disable()
        try:
            async with asyncio.TaskGroup() as clients:
                for number in range(8):
                    clients.create_task(self.session(number))
            async with asyncio.timeout(60):
                while any(isinstance(one, ssl.SSLObject) and one.server_side for one in gc.get_objects()):
                    await asyncio.sleep(0.05)
        finally:
            gc.enable()


@asynccontextmanager
async def serving(
    provider: PodLifecycleHandler, one: Pod, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> AsyncIterator[Node]:
    server = KubeletServer(
        "node-1", provider, Pods([one]),
        authenticator=Ada(), authorizer=AlwaysAllowAuthorizer(), ssl_context=server_tls,
    )  # fmt: skip
    (address,) = await server.start("127.0.0.1", 0)
    try:
        yield Node(server, address, client_tls, f"/exec/default/{one.metadata.name}/main")
    finally:
        await server.aclose(grace=0)


def running(one: Pod) -> Pod:
    main = ContainerStatus(
        name="main", image="", image_id="", ready=True, restart_count=0,
        state=ContainerState(running=ContainerStateRunning()),
    )  # fmt: skip
    one.status = PodStatus(phase="Running", container_statuses=[main])
    return one


async def leaves_nothing(node: Node, count: int) -> None:
    await node.sessions(count // 2)  # whatever is made once and kept
    descriptors, tasks, objects = await node.sessions(count // 2)
    after = await node.sessions(count)
    assert after[:2] == (descriptors, tasks)
    assert after[2] - objects < count // 4, "not one object for every other session that was cut"
    await node.keeps_no_transport()


async def test_the_mock_provider(
    nothing_left: None, tmp_path: Path, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    table = json.dumps({"cat": {"stdin": True}})
    one = Pod(
        metadata=ObjectMeta(
            name="p", namespace="default", uid="u", annotations={"mock.virtual-kubelet.io/exec": table}
        ),
        spec=PodSpec(containers=[Container(name="main", image="i")]),
    )
    provider = MockProvider(context(tmp_path))
    await provider.create_pod(one)
    async with serving(provider, running(one), serving_context, client_context) as node:
        node.terminals = False
        await leaves_nothing(node, 200)


async def test_the_process_provider(
    tmp_path: Path, serving_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    async with node_in(tmp_path) as made:
        one = process_pod("exec sleep 1000008", env=[EnvVar(name="MARK", value=mark)])
        await made.provider.create_pod(one)
        await made.until(one, lambda status: status.phase == "Running")
        async with serving(made.provider, running(one), serving_context, client_context) as node:
            await leaves_nothing(node, 40)
        assert len(processes_with(mark)) == 1, "the container's own process, and none of a command"
        one.metadata.deletion_grace_period_seconds = 0
        await made.provider.delete_pod(one)
        await made.gone(one)
    assert processes_with(mark) == []

"""A DockerRuntime at a real engine, with pods and containers made for tests."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.container_engines import ContainerEngine
from virtual_kubelet import (
    ContainerConfig,
    ContainerExit,
    ContainerInstance,
    ContainerLogOptions,
    Mount,
    PodSandbox,
)
from virtual_kubelet.clock import SystemClock
from virtual_kubelet.objects.core_v1 import Container, Pod, PodSpec
from virtual_kubelet.objects.meta_v1 import ObjectMeta
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet_docker.config import DockerConfig
from virtual_kubelet_docker.docker_runtime import DockerRuntime

BUSYBOX = "docker.io/library/busybox:1.35"
#: Seconds: for a machine under load.
PATIENCE = 90


def pod(name: str = "web", **spec: Any) -> Pod:
    meta = ObjectMeta(name=name, namespace="default", uid=str(uuid.uuid4()))
    return Pod(metadata=meta, spec=PodSpec(containers=[], **spec))


def container(*command: str, name: str = "main", **more: Any) -> Container:
    return Container(name=name, image=BUSYBOX, command=list(command) or None, **more)


def shell(script: str, **more: Any) -> Container:
    return container("sh", "-c", script, **more)


@dataclass
class Machine:
    engine: ContainerEngine
    node_name: str
    runtime: DockerRuntime
    exits: dict[str, ContainerExit] = field(default_factory=dict)
    told: asyncio.Event = field(default_factory=asyncio.Event)

    def exited(self, container_id: str, ended: ContainerExit) -> None:
        self.exits[container_id] = ended
        self.told.set()

    async def exit_of(self, container_id: str) -> ContainerExit:
        async with asyncio.timeout(PATIENCE):
            while container_id not in self.exits:
                self.told.clear()
                await self.told.wait()
        return self.exits[container_id]

    async def config(
        self,
        one: Pod,
        what: Container,
        *,
        attempt: int = 0,
        mounts: Sequence[Mount] = (),
        sandbox: PodSandbox | None = None,
        **more: Any,
    ) -> ContainerConfig:
        return ContainerConfig(
            pod=one,
            container=what,
            attempt=attempt,
            mounts=mounts,
            sandbox=sandbox or await self.runtime.ensure_sandbox(one),
            image=await self.runtime.find_image(what.image or ""),
            **more,
        )

    async def start(self, one: Pod, what: Container, **more: Any) -> ContainerInstance:
        return await self.runtime.start_container(await self.config(one, what, **more))

    async def run(self, one: Pod, what: Container, **more: Any) -> tuple[ContainerExit, bytes]:
        """To its end; its exit and its log."""
        started = await self.start(one, what, **more)
        ended = await self.exit_of(started.id)
        return ended, await self.log(started.id)

    async def log(self, container_id: str, **options: Any) -> bytes:
        async with asyncio.timeout(PATIENCE):
            lines = self.runtime.container_logs(container_id, ContainerLogOptions(**options))
            return b"".join([line.data async for line in lines])

    async def logged(self, container_id: str, text: bytes) -> bytes:
        """Wait until it has written this."""
        async with asyncio.timeout(PATIENCE):
            while text not in (log := await self.log(container_id)):
                await asyncio.sleep(0.05)
        return log


@asynccontextmanager
async def runtime_at(
    engine: ContainerEngine, node_name: str, *, cluster: str = "tests", **config: Any
) -> AsyncIterator[DockerRuntime]:
    async def identity() -> str:
        return cluster

    async with DockerRuntime(
        DockerConfig(host=engine.url, **config),
        node_name=node_name,
        cluster=identity,
        node_ip="10.9.8.7",
        cluster_domain="cluster.local",
        log=get_logger("tests"),
        clock=SystemClock(),
    ) as runtime:
        yield runtime


@asynccontextmanager
async def machine_at(engine: ContainerEngine, **config: Any) -> AsyncIterator[Machine]:
    node_name = f"node-{uuid.uuid4().hex[:8]}"
    async with runtime_at(engine, node_name, **config) as runtime:
        made = Machine(engine, node_name, runtime)
        runtime.notify_exits(made.exited)
        try:
            yield made
        finally:
            # Newest first: a debug container depends on its target.
            for one in sorted(await runtime.list_containers(), key=lambda one: one.started_at, reverse=True):
                await runtime.remove_container(one.id)
            for sandbox in await runtime.list_sandboxes():
                await runtime.remove_sandbox(sandbox.id)

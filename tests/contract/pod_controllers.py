"""A PodController with the node's own identity for contract tests, and what they ask the API about its pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.contract.scenarios import eventually
from tests.node.pod_api import Provider
from virtual_kubelet.kube.client import ApiClient
from virtual_kubelet.kube.resources import EVENTS, PODS
from virtual_kubelet.node.pod_controller import PodController
from virtual_kubelet.node.pod_controller_config import PodControllerConfig
from virtual_kubelet.objects.core_v1 import Container, EnvVar, EnvVarSource, Event, Pod


@asynccontextmanager
async def controlled(
    client: ApiClient, node_name: str, provider: Provider, **options: Any
) -> AsyncIterator[PodController]:
    """A PodController that is ready, and runs as long as the block does; what breaks in it breaks the test."""
    settings: Mapping[str, Any] = {"retry_initial": 0.05, "retry_cap": 0.5, "poll_interval": 0.1, **options}
    controller = PodController(PodControllerConfig(client=client, node_name=node_name, provider=provider, **settings))
    async with asyncio.timeout(50), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(controller.run())
        await controller.wait_ready()
        yield controller
        running.cancel()


class Cluster:
    """What a user sees and does in one namespace."""

    def __init__(self, admin: ApiClient, namespace: str) -> None:
        self.admin = admin
        self.namespace = namespace

    async def create(self, pod: Pod) -> Pod:
        return await self.admin.create(PODS, pod, self.namespace)

    async def get(self, name: str) -> Pod:
        return await self.admin.get(PODS, name, self.namespace)

    async def delete(self, name: str, grace: int | None = None) -> None:
        await self.admin.delete(PODS, name, self.namespace, grace_period_seconds=grace)

    async def label(self, name: str, **labels: str) -> None:
        await self.admin.patch(PODS, name, {"metadata": {"labels": labels}}, self.namespace)

    async def names(self) -> set[str]:
        return {pod.metadata.name or "" for pod in (await self.admin.list(PODS, self.namespace)).items}

    async def becomes(self, name: str, holds: Callable[[Pod], object], *, seconds: float = 20) -> Pod:
        """The pod, once ``holds`` is true of it."""

        async def check() -> Pod | None:
            pod = await self.get(name)
            return pod if holds(pod) else None

        found = await eventually(check, seconds=seconds)
        assert isinstance(found, Pod)
        return found

    async def runs(self, name: str, *, seconds: float = 20) -> Pod:
        return await self.becomes(name, lambda pod: pod.status.phase == "Running", seconds=seconds)

    async def is_gone(self, name: str, *, seconds: float = 20) -> None:
        async def check() -> bool:
            return name not in await self.names()

        await eventually(check, seconds=seconds)

    async def events(self, reason: str, name: str) -> list[Event]:
        events = await self.admin.list(EVENTS, self.namespace, field_selector=f"involvedObject.name={name}")
        return [event for event in events.items if event.reason == reason]

    async def event(self, reason: str, name: str) -> Event:
        """The first event of this reason on the pod, once there is one."""
        found = await eventually(lambda: self.events(reason, name))
        assert isinstance(found, list)
        first: Event = found[0]
        return first


def container_with(*variables: tuple[str, EnvVarSource]) -> Container:
    """A container with these variables, each from somewhere."""
    env = [EnvVar(name=name, value_from=source) for name, source in variables]
    return Container(name="main", image="busybox", command=["sleep", "1000"], env=env)

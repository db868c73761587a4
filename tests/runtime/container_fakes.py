"""A runtime in memory that does as it is told, for the pod engine's tests in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta

from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.runtime import ContainerConfig, ContainerExit, ContainerInstance, ContainerStartError
from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.objects.times import parse_time


class LoopClock:
    """Wall time that runs with the loop's virtual time."""

    def __init__(self) -> None:
        self.start, self.begin = parse_time("2026-01-01T00:00:00Z"), asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.monotonic() - self.begin)

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self.start += timedelta(seconds=seconds)


class Runtime:
    """Containers end when a test says so, or on SIGTERM unless ``stubborn``, or on SIGKILL."""

    def __init__(self, clock: LoopClock) -> None:
        self.clock = clock
        self.instances: dict[str, ContainerInstance] = {}
        self.started: list[str] = []
        self.signals: list[tuple[str, int]] = []
        self.failures: dict[str, list[Exception]] = {}
        self.stubborn = False
        self.lost: set[str] = set()  # containers whose start is made but whose answer is lost
        self.brief: dict[str, int] = {}  # containers that have ended, and said so, before their start is answered
        self.refusals: list[str] = []  # calls that fail once: signal, remove, list
        self.refused = ""
        self.numbers = itertools.count(1)
        self.exited: Callable[[str, ContainerExit], None] = lambda container_id, ended: None

    def notify_exits(self, callback: Callable[[str, ContainerExit], None]) -> None:
        self.exited = callback

    def check_pod(self, pod: Pod) -> None:
        if self.refused:
            raise InvalidInputError(self.refused)

    def pod_ips(self, pod: Pod) -> Sequence[str]:
        return ["10.0.0.7"]

    async def start_container(self, config: ContainerConfig) -> ContainerInstance:
        name = config.container.name
        waiting = self.failures.get(name)
        if waiting:
            raise waiting.pop(0)
        for instance in self.instances.values():
            if instance.labels == config.labels:
                return instance
        self.started.append(name)
        instance = ContainerInstance(f"{name}-{next(self.numbers)}", config.labels, self.clock.now())
        self.instances[instance.id] = instance
        if name in self.lost:
            self.lost.remove(name)
            raise ConnectionError("the answer was lost")
        if name in self.brief:
            self.end(name, self.brief.pop(name))
        return instance

    def refuse(self, call: str) -> None:
        if call in self.refusals:
            self.refusals.remove(call)
            raise ConnectionError(f"{call} failed")

    def running(self, name: str) -> ContainerInstance:
        return next(i for i in self.instances.values() if i.labels["container"] == name and i.exit is None)

    def end(self, name: str, code: int = 0, signal: int | None = None) -> None:
        instance = self.running(name)
        ended = ContainerExit(code, self.clock.now(), signal=signal)
        self.instances[instance.id] = ContainerInstance(instance.id, instance.labels, instance.started_at, ended)
        self.exited(instance.id, ended)

    async def signal_container(self, container_id: str, signal: int) -> None:
        self.refuse("signal")
        instance = self.instances[container_id]
        self.signals.append((instance.labels["container"], signal))
        if signal == 9 or not self.stubborn:
            self.end(instance.labels["container"], 128 + signal, signal)

    async def remove_container(self, container_id: str) -> None:
        self.refuse("remove")
        self.instances.pop(container_id, None)

    async def list_containers(self) -> Sequence[ContainerInstance]:
        listed = list(self.instances.values())
        if "end amid list" in self.refusals:
            self.refusals.remove("end amid list")
            self.end("main", 42)
        return listed

    async def container_logs(self, container_id: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        yield LogLine(0, f"{container_id}\n".encode())


def start_error(message: str, **kwargs: object) -> ContainerStartError:
    return ContainerStartError(message, **kwargs)  # type: ignore[arg-type]

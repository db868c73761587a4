"""A whole provider: containers are child processes of the node. No isolation, no images; its pods end with the node.

virtual-kubelet run --provider child_processes:ChildProcessProvider           from this folder, in any cluster
virtual-kubelet conformance --provider child_processes:ChildProcessProvider   which promises it keeps
"""

import asyncio
import os
import signal as signals
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from virtual_kubelet import (
    ContainerConfig,
    ContainerExit,
    ContainerInstance,
    ContainerLogOptions,
    ContainerStartError,
    EngineOptions,
    InvalidInputError,
    LogLine,
    PodEngine,
    ProviderContext,
)
from virtual_kubelet.objects.core_v1 import Node, Pod


class Child(asyncio.SubprocessProtocol):
    """One run of one container."""

    def __init__(self, labels: Mapping[str, str], told: Callable[[str, ContainerExit], None]) -> None:
        self.labels, self.told = labels, told
        self.lines: list[LogLine] = []
        self.rest = {1: b"", 2: b""}  # of a line that is coming, by file descriptor
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self.transport, self.pid = transport, transport.get_pid()
        self.instance = ContainerInstance(f"{os.getpid()}-{self.pid}", self.labels, datetime.now(UTC))

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *whole, self.rest[fd] = (self.rest[fd] + data).split(b"\n")
        self.lines += [LogLine(time.time_ns(), line + b"\n") for line in whole]

    def process_exited(self) -> None:
        self.signal(signals.SIGKILL)  # whatever it has left running

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended, and all its output is read."""
        self.lines += [LogLine(time.time_ns(), rest) for rest in self.rest.values() if rest]
        code = self.transport.get_returncode() or 0
        signal = -code if code < 0 else None
        ended = ContainerExit(code if signal is None else 128 + signal, datetime.now(UTC), signal=signal)
        self.instance = ContainerInstance(self.instance.id, self.labels, self.instance.started_at, ended)
        self.gone.set()
        self.told(self.instance.id, ended)

    def signal(self, signal: int) -> None:
        with suppress(ProcessLookupError):
            if signal == signals.SIGKILL:
                os.killpg(self.pid, signal)  # to all that belongs to it
            else:
                self.transport.send_signal(signal)


class ChildProcesses:
    """A ``ContainerRuntime``: how to start, end and read one container. The pod engine does the rest."""

    def __init__(self, context: ProviderContext) -> None:
        self.ip = context.internal_ip
        self.children: dict[str, Child] = {}

    def notify_exits(self, callback: Callable[[str, ContainerExit], None]) -> None:
        self.exited = callback

    def check_pod(self, pod: Pod) -> None:
        for volume in pod.spec.volumes or ():
            raise InvalidInputError(f"spec.volumes[{volume.name}]: a child process mounts nothing")

    def pod_ips(self, pod: Pod) -> Sequence[str]:
        return [self.ip]

    async def start_container(self, config: ContainerConfig) -> ContainerInstance:
        for child in self.children.values():
            if child.instance.labels == config.labels:
                return child.instance  # an answer of ours was lost: it is not started twice
        container = config.container
        command = [*(container.command or ()), *(container.args or ())]
        if not command:
            raise ContainerStartError("a container without a command: images are not read here")
        variables = {variable.name: variable.value or "" for variable in container.env or ()}
        child = Child(config.labels, lambda container_id, ended: self.exited(container_id, ended))
        try:
            await asyncio.get_running_loop().subprocess_exec(
                lambda: child,
                *command,
                env={"PATH": os.defpath, **variables},
                cwd=container.working_dir or "/",
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise ContainerStartError(f'exec: "{command[0]}": {error}', reason="StartError", exit_code=128) from error
        self.children[child.instance.id] = child
        return child.instance

    async def signal_container(self, container_id: str, signal: int) -> None:
        child = self.children.get(container_id)
        if child is not None and not child.gone.is_set():
            child.signal(signal)

    async def remove_container(self, container_id: str) -> None:
        await self.signal_container(container_id, signals.SIGKILL)
        child = self.children.pop(container_id, None)
        if child is not None:
            await child.gone.wait()

    async def list_containers(self) -> Sequence[ContainerInstance]:
        return [child.instance for child in self.children.values()]

    async def container_logs(self, container_id: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        child = self.children[container_id]
        told = 0
        while True:
            ended = child.instance.exit is not None
            for line in child.lines[told:]:
                yield line
            told = len(child.lines)
            if ended or not options.follow:
                return
            await asyncio.sleep(0.1)


class ChildProcessProvider(PodEngine):
    """Full pods out of ``ChildProcesses``."""

    def __init__(self, context: ProviderContext) -> None:
        self.processes = ChildProcesses(context)
        super().__init__(self.processes, context, EngineOptions(runtime_name="child"))

    def configure_node(self, node: Node) -> None:
        node.status.capacity = {"cpu": str(os.cpu_count() or 1), "memory": "4Gi", "pods": "110"}

    async def __aexit__(self, *exc_info: object) -> None:
        await super().__aexit__(*exc_info)
        for container_id in list(self.processes.children):
            await self.processes.remove_container(container_id)

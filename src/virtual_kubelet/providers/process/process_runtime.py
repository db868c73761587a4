"""ProcessRuntime: a ``ContainerRuntime`` whose containers are processes, started by the supervisor."""

from __future__ import annotations

import asyncio
import errno
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from virtual_kubelet import (
    ContainerConfig,
    ContainerExit,
    ContainerInstance,
    ContainerLogOptions,
    ContainerStartError,
    LogLine,
    TransientError,
)
from virtual_kubelet.objects.core_v1 import Container, Pod
from virtual_kubelet.providers.process.admission import check_pod
from virtual_kubelet.providers.process.log_files import LogReader
from virtual_kubelet.providers.process.supervisor_client import SupervisorClient

__all__ = ["ProcessRuntime"]

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Lines handed over between two looks at the loop.
_BATCH: Final = 500


class ProcessRuntime:
    """Args:
    directory: of the supervisor; what is in it outlives this process.
    node_ip: the address of every pod: processes share the machine's network.
    max_log_bytes, max_log_files: rotation of each container's log (the kubelet's defaults).
    """

    def __init__(
        self, directory: Path, *, node_ip: str, max_log_bytes: int = 10 * 1024 * 1024, max_log_files: int = 5
    ) -> None:
        self._directory = directory
        self._node_ip = node_ip
        self._max_log_bytes, self._max_log_files = max_log_bytes, max_log_files
        self._client = SupervisorClient(directory, on_event=self._event, on_lost=self._lost)
        self._exited: Callable[[str, ContainerExit], None] = lambda container_id, ended: None
        self._running: set[str] = set()
        self._ended: set[str] = set()
        self._lost_task: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Leave the supervisor and its containers alone; it goes by itself when it has none and nobody asks."""
        if self._lost_task is not None:
            self._lost_task.cancel()
            await asyncio.wait([self._lost_task])
        if not self._running:
            await self._client.request("stop")
        await self._client.aclose()

    def notify_exits(self, callback: Callable[[str, ContainerExit], None]) -> None:
        self._exited = callback

    def check_pod(self, pod: Pod) -> None:
        check_pod(pod)

    def pod_ips(self, pod: Pod) -> Sequence[str]:
        return [self._node_ip] if self._node_ip else []

    async def start_container(self, config: ContainerConfig) -> ContainerInstance:
        container, pod = config.container, config.pod
        argv = [*(container.command or ()), *(container.args or ())]
        if not container.command:
            raise ContainerStartError(
                f'container "{container.name}" has no command: the process provider does not read images',
                reason="CreateContainerError",
            )
        uid, gid = _identity(pod, container)
        answer = await self._client.request(
            "start",
            id=f"{pod.metadata.uid}-{container.name}-{config.attempt}-{uuid.uuid4().hex[:6]}",
            labels=config.labels,
            argv=argv,
            env=_environment(pod, container),
            cwd=container.working_dir or "/",
            uid=uid,
            gid=gid,
            max_log_bytes=self._max_log_bytes,
            max_log_files=self._max_log_files,
        )
        if "error" in answer:
            raise _start_error(container, argv, answer)
        instance = _instance(answer["container"])
        if instance.exit is None:
            self._running.add(instance.id)
        return instance

    async def signal_container(self, container_id: str, signal: int) -> None:
        await self._client.request("signal", id=container_id, signal=int(signal))

    async def remove_container(self, container_id: str) -> None:
        await self._client.request("remove", id=container_id)
        self._running.discard(container_id)

    async def list_containers(self) -> Sequence[ContainerInstance]:
        answer = await self._client.request("list")
        instances = [_instance(described) for described in answer["containers"]]
        self._running = {instance.id for instance in instances if instance.exit is None}
        return instances

    async def described(self) -> Sequence[dict[str, Any]]:
        """The supervisor's containers in its own words. Raises ``TransientError`` if it cannot be had."""
        answer = await self._client.request("list")
        containers: list[dict[str, Any]] = answer["containers"]
        return containers

    async def container_logs(self, container_id: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        directory = self._directory / "containers" / container_id
        reader = await asyncio.to_thread(LogReader, directory, options.tail_lines)
        while True:
            running = container_id in self._running
            lines = reader.lines()
            while batch := await asyncio.to_thread(_take, lines):
                for line in batch:
                    yield line
            if not options.follow or not running:
                return
            await asyncio.sleep(0.1)

    def _event(self, message: dict[str, Any]) -> None:
        if message["event"] == "exit":
            instance = _instance(message["container"])
            self._running.discard(instance.id)
            assert instance.exit is not None
            self._exited(instance.id, instance.exit)

    def _lost(self) -> None:
        # It was killed, or crashed: a new one adopts what still runs, and tells what has ended.
        self._lost_task = asyncio.create_task(self._look_again(), name="supervisor lost")

    async def _look_again(self) -> None:
        before = set(self._running)
        while True:
            try:
                instances = await self.list_containers()
                break
            except TransientError:
                await asyncio.sleep(1.0)
        for instance in instances:
            if instance.exit is not None and instance.id in before:
                self._exited(instance.id, instance.exit)


def _take(lines: Any) -> list[LogLine]:
    batch = []
    for line in lines:
        batch.append(line)
        if len(batch) >= _BATCH:
            break
    return batch


def _identity(pod: Pod, container: Container) -> tuple[int | None, int | None]:
    of_pod, own = pod.spec.security_context, container.security_context
    uid = own.run_as_user if own is not None and own.run_as_user is not None else of_pod.run_as_user if of_pod else None
    gid = (
        own.run_as_group
        if own is not None and own.run_as_group is not None
        else of_pod.run_as_group
        if of_pod
        else None
    )
    return uid, gid


def _environment(pod: Pod, container: Container) -> dict[str, str]:
    """What a container runtime gives by itself, then the container's own; nothing of this process."""
    given = {variable.name: variable.value or "" for variable in container.env or ()}
    return {"PATH": _PATH, "HOSTNAME": pod.spec.hostname or pod.metadata.name or "", "HOME": "/", **given}


def _instance(described: dict[str, Any]) -> ContainerInstance:
    ended = described["exit"]
    return ContainerInstance(
        id=described["id"],
        labels=described["labels"],
        started_at=_time(described["started_ns"]),
        exit=None
        if ended is None
        else ContainerExit(
            ended["code"],
            _time(ended["finished_ns"]),
            signal=ended["signal"],
            reason=ended["reason"],
            message=ended["message"],
        ),
    )


def _time(ns: int) -> datetime:
    return datetime.fromtimestamp(ns / 1e9, UTC)


def _start_error(container: Container, argv: Sequence[str], answer: dict[str, Any]) -> Exception:
    stage, message = answer["error"], answer.get("message") or "it failed"
    if stage == "command":
        number = answer.get("errno")
        why = "executable file not found" if number == errno.ENOENT else str(message).lower()
        # As runc does: the container counts as having run and failed (128, StartError).
        return ContainerStartError(f'exec: "{argv[0]}": {why}', reason="StartError", exit_code=128)
    if stage in ("workingDir", "runAsUser/runAsGroup"):
        return ContainerStartError(f'container "{container.name}": {stage}: {message}', reason="CreateContainerError")
    return TransientError(f"the supervisor could not start container {container.name}: {message}")

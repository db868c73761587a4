"""ProcessRuntime: a ``ContainerRuntime`` whose containers are processes, started by the supervisor."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

from virtual_kubelet import (
    AttachIO,
    ContainerConfig,
    ContainerExit,
    ContainerInstance,
    ContainerKind,
    ContainerLogOptions,
    ContainerStartError,
    InvalidInputError,
    LogLine,
    PodSandbox,
    PortStream,
    TransientError,
    effective_security_context,
)
from virtual_kubelet.objects.core_v1 import Container, Pod, ResourceRequirements
from virtual_kubelet.providers.process.admission import check_ephemeral, check_pod
from virtual_kubelet.providers.process.attachment import attach
from virtual_kubelet.providers.process.commands import run_command
from virtual_kubelet.providers.process.identity import identity_of
from virtual_kubelet.providers.process.limits import group_limits
from virtual_kubelet.providers.process.log_files import LogReader, parse_lines
from virtual_kubelet.providers.process.mount_plan import Abilities, planned_links, planned_mounts
from virtual_kubelet.providers.process.ports import forward
from virtual_kubelet.providers.process.supervisor_client import SupervisorClient

__all__ = ["ProcessRuntime"]

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: What may be wrong with a container, by the supervisor's words.
_FIELDS: Final = (
    "volumeMounts", "securityContext.capabilities", "runAsUser/runAsGroup", "workingDir", "allowPrivilegeEscalation"
)  # fmt: skip
#: Of a log, read at once: going to another thread costs as much as half of one.
_PIECES: Final = 4
#: Seconds until a supervisor that could not be had is tried again.
_RETRY: Final = 1.0


class ProcessRuntime:
    """An async context manager.

    Args:
        directory: of the supervisor; what is in it outlives this process.
        node_ip: the address of every pod: processes share the machine's network.
        log: the provider's logger.
        max_log_bytes, max_log_files: rotation of each container's log (the kubelet's defaults).
        cgroup_root: below which containers have cgroups; None: they have none, and no limits.
        pod_pids: how many processes and threads a pod may have; None: as many as it likes.
        mount_namespaces: whether containers have mounts of their own where that is possible; else volumes are links.
    """

    def __init__(
        self,
        directory: Path,
        *,
        node_ip: str,
        log: logging.LoggerAdapter[logging.Logger],
        max_log_bytes: int = 10 * 1024 * 1024,
        max_log_files: int = 5,
        cgroup_root: str | None = None,
        pod_pids: int | None = None,
        mount_namespaces: bool = True,
    ) -> None:
        self._directory = directory
        self._log = log
        self._node_ip = node_ip
        self._cgroup_root, self._pod_pids, self._mount_namespaces = cgroup_root, pod_pids, mount_namespaces
        self._max_log_bytes, self._max_log_files = max_log_bytes, max_log_files
        self._client = SupervisorClient(directory, on_message=self._heard, on_lost=self._lost)
        self._exited: Callable[[str, ContainerExit], None] = lambda container_id, ended: None
        self._abilities = Abilities()
        self._running: set[str] = set()
        self._was_lost = asyncio.Event()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> ProcessRuntime:
        tasks = await self._open.enter_async_context(asyncio.TaskGroup())
        self._client.open(tasks)
        watch = tasks.create_task(self._watch(), name="supervisor watch")
        self._open.callback(watch.cancel)
        try:
            self._abilities = await self._find_abilities()
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def _find_abilities(self) -> Abilities:
        answer = await self._client.request(
            "abilities", cgroup_root=self._cgroup_root, namespaces=self._mount_namespaces
        )
        if "error" in answer:  # a supervisor of an earlier version still has containers
            self._log.warning("the supervisor is of an earlier version: until its pods have ended, there are no mounts")
            return Abilities()
        if not answer["namespaces"]:
            self._log.info("this program may not mount: volumes are links, where links can be made")
        missing = {"cpu", "memory", "pids"} - {*answer["controllers"]}
        if missing:
            self._log.info(
                "this program may make no cgroups: %s of containers is not limited", ", ".join(sorted(missing))
            )
        return Abilities(
            answer["namespaces"], answer["read_only_root"], answer["capabilities"], frozenset(answer["controllers"])
        )

    async def __aexit__(self, *exc_info: object) -> None:
        """Leave the supervisor and its containers alone; one that has none is told to go."""
        try:
            if self._client.connected and not self._running:
                with suppress(TransientError):
                    await self._client.request("stop")
        finally:
            await self._client.aclose()
            await self._open.aclose()

    def notify_exits(self, callback: Callable[[str, ContainerExit], None]) -> None:
        self._exited = callback

    def check_pod(self, pod: Pod) -> None:
        check_pod(pod, self._abilities, _may_link)

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
        identity = identity_of(pod, container)
        if config.kind is ContainerKind.EPHEMERAL:  # it was not there when its pod was admitted
            check_ephemeral(pod, container, self._abilities, _may_link)
        answer = await self._client.request(
            "start",
            # The same for the same run: should the answer be lost, a second request finds what the first one made.
            id=f"{pod.metadata.uid}-{container.name}-{config.attempt}",
            labels=config.labels,
            argv=argv,
            env=_environment(pod, container, terminal=bool(container.tty)),
            cwd=container.working_dir or "/",
            **identity.wanted(),
            **self._places(config),
            **self._groups(config),
            target=config.target,
            stdin=bool(container.stdin),
            stdin_once=bool(container.stdin_once),
            tty=bool(container.tty),
            max_log_bytes=self._max_log_bytes,
            max_log_files=self._max_log_files,
        )
        if "error" in answer:
            raise _start_error(container, argv, answer)
        return _instance(answer["container"])

    def _places(self, config: ContainerConfig) -> dict[str, Any]:
        if not self._abilities.namespaces:
            return {"links": planned_links(config, _may_link)}
        context = effective_security_context(config.pod, config.container)
        return {
            "namespaces": list(self._abilities.namespaces),
            "mounts": planned_mounts(config.mounts),
            "read_only_root": context.read_only_root_filesystem is True,
        }

    def _groups(self, config: ContainerConfig) -> dict[str, Any]:
        if not self._abilities.controllers:
            return {}
        limits = group_limits(config.pod, config.container, pod_pids=self._pod_pids)
        return {"cgroup": {"root": self._cgroup_root, **limits}}

    async def signal_container(self, container_id: str, signal: int) -> None:
        await self._client.request("signal", id=container_id, signal=int(signal))

    async def remove_container(self, container_id: str) -> None:
        await self._client.request("remove", id=container_id)
        self._running.discard(container_id)

    async def list_containers(self) -> Sequence[ContainerInstance]:
        answer = await self._client.request("list")
        return [_instance(described) for described in answer["containers"]]

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
            if options.lines_matter:
                blocks = reader.blocks()
                while (block := await asyncio.to_thread(next, blocks, None)) is not None:
                    for line in parse_lines(block):
                        yield line
            else:
                texts = reader.texts()
                while pieces := await asyncio.to_thread(list, islice(texts, _PIECES)):
                    for text in pieces:
                        yield LogLine(0, text)
            if not options.follow or not running:
                return
            await asyncio.sleep(0.1)

    async def exec_in_container(
        self, container_id: str, config: ContainerConfig, command: Sequence[str], streams: AttachIO
    ) -> int:
        """As the container's user, in its directory, with its environment; one more process of the machine."""
        pod, container = config.pod, config.container
        identity = identity_of(pod, container)
        environment = _environment(pod, container, terminal=streams.tty)

        async def enter() -> Mapping[str, Any]:
            answer = await self._client.request("enter", id=container_id)
            return {name: answer.get(name) for name in ("mark", "pid", "namespaces", "cgroups")}

        wanted = {
            "argv": list(command),
            "env": environment,
            "cwd": container.working_dir or "/",
            **identity.wanted(),
        }
        return await run_command(container.name, wanted, streams, enter)

    async def attach_container(self, container_id: str, config: ContainerConfig, streams: AttachIO) -> None:
        """Input goes to containers with ``stdin``. Raises ``TransientError`` if the client is too slow for the output."""
        directory = self._directory / "containers" / container_id
        await attach(self._client.request, directory, config.container, container_id, streams)

    async def forward_port(
        self, pod: Pod, sandbox: PodSandbox | None, container_ids: Sequence[str], port: int, stream: PortStream
    ) -> None:
        """Pods share the machine's network: only a port on which one of these containers listens is the pod's."""
        mains = [described["pid"] for described in await self.described() if described["id"] in container_ids]
        await forward(port, mains, stream)

    async def resize_container(self, container_id: str, config: ContainerConfig) -> None:
        """By writing the limits of its cgroup and its pod's; where it has none that is said, and it stays as it is."""
        wanted = config.container.resources or ResourceRequirements()
        named = {*(wanted.limits or {}), *(wanted.requests or {})} or {"cpu", "memory"}
        missing = [name for name in ("cpu", "memory") if name in named and name not in self._abilities.controllers]
        if missing:
            what = " and ".join(missing)
            raise _not_resizable(config, f"this program may make no cgroups, so {what} of processes is not limited")
        limits = group_limits(config.pod, config.container, pod_pids=self._pod_pids)
        answer = await self._client.request("resize", id=container_id, **limits)
        if answer.get("error") == "cgroups":
            raise _not_resizable(config, answer["message"])
        if answer.get("error") == "protocol":
            raise _not_resizable(config, "its supervisor is of an earlier version")
        if "error" in answer:
            raise TransientError(answer["message"])

    def _heard(self, message: dict[str, Any]) -> None:
        """Every message in its order: an answer to a start may be followed at once by that container's end."""
        if "containers" in message:
            self._running = {c["id"] for c in message["containers"] if c["exit"] is None}
        elif "container" in message:
            instance = _instance(message["container"])
            if instance.exit is None:
                self._running.add(instance.id)
            else:
                self._running.discard(instance.id)
                self._exited(instance.id, instance.exit)

    def _lost(self) -> None:
        self._was_lost.set()

    async def _watch(self) -> None:
        """When the supervisor was killed, or crashed: a new one adopts what still runs, and tells what has ended."""
        while True:
            await self._was_lost.wait()
            self._was_lost.clear()
            before = set(self._running)
            if not before:
                continue  # nothing can have been missed: the next request starts one
            self._log.warning("the supervisor of %d containers is gone: a new one is started", len(before))
            while True:
                try:
                    instances = {instance.id: instance for instance in await self.list_containers()}
                    break
                except TransientError as error:
                    self._log.warning("there is no supervisor, and it is tried again: %s", error)
                    await asyncio.sleep(_RETRY)
            for container_id in before:
                instance = instances.get(container_id)
                if instance is None:
                    unknown = "the supervisor that knew it is gone, and has left no record of it"
                    now = datetime.now(UTC)
                    self._exited(
                        container_id, ContainerExit(137, now, reason="ContainerStatusUnknown", message=unknown)
                    )
                elif instance.exit is not None:
                    self._exited(container_id, instance.exit)


def _may_link(path: str) -> bool:
    """Whether there is nothing yet, in a directory that may be written."""
    return not os.path.lexists(path) and os.access(os.path.dirname(path), os.W_OK | os.X_OK)


def _environment(pod: Pod, container: Container, *, terminal: bool) -> dict[str, str]:
    """What a container runtime gives by itself, then the container's own; nothing of this process."""
    given = {variable.name: variable.value or "" for variable in container.env or ()}
    usual = {"PATH": _PATH, "HOSTNAME": pod.spec.hostname or pod.metadata.name or "", "HOME": "/"}
    return {**usual, **({"TERM": "xterm"} if terminal else {}), **given}


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


def _not_resizable(config: ContainerConfig, why: str) -> InvalidInputError:
    return InvalidInputError(
        f'the resources of the running container "{config.container.name}" cannot be changed: {why}'
    )


def _start_error(container: Container, argv: Sequence[str], answer: dict[str, Any]) -> Exception:
    stage, message = answer["error"], answer.get("message") or "it failed"
    if stage == "command":
        number = answer.get("errno")
        why = "executable file not found" if number == errno.ENOENT else str(message).lower()
        # As runc does: the container counts as having run and failed (128, StartError).
        return ContainerStartError(f'exec: "{argv[0]}": {why}', reason="StartError", exit_code=128)
    if stage == "volumeMounts" and answer.get("path"):
        message = f"{message}: {answer['path']}"
    if stage in _FIELDS:
        return ContainerStartError(f'container "{container.name}": {stage}: {message}', reason="CreateContainerError")
    return TransientError(f"the supervisor could not start container {container.name}: {message}")

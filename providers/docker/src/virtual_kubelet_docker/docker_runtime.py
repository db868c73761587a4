"""DockerRuntime: a ``ContainerRuntime``, with all that is optional, whose containers are Docker's or Podman's."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from virtual_kubelet import (
    AttachIO,
    Clock,
    ContainerConfig,
    ContainerExit,
    ContainerInstance,
    ContainerLogOptions,
    ContainerStartError,
    Image,
    InvalidInputError,
    LogLine,
    NodeDns,
    PodSandbox,
    PortStream,
    RegistryCredentials,
    TransientError,
    UnsupportedError,
    machine_usage,
    oom_score_adjustment,
)
from virtual_kubelet.objects.core_v1 import Pod, ResourceRequirements
from virtual_kubelet.objects.stats_v1alpha1 import ContainerStats, NodeStats
from virtual_kubelet_docker.admission import check_pod
from virtual_kubelet_docker.commands import attach, run_command
from virtual_kubelet_docker.config import DockerConfig
from virtual_kubelet_docker.container_spec import container_spec
from virtual_kubelet_docker.daemon import Daemon, DaemonError
from virtual_kubelet_docker.exit_watch import ExitWatch
from virtual_kubelet_docker.images import DaemonImages
from virtual_kubelet_docker.instances import container_instance, start_error, was_started
from virtual_kubelet_docker.labels import CLUSTER, Owner, container_name, is_sandbox
from virtual_kubelet_docker.logs import read_log
from virtual_kubelet_docker.pause_image import ensure_pause_image
from virtual_kubelet_docker.ports import forward_port
from virtual_kubelet_docker.process_rights import container_user, lowest_oom_score
from virtual_kubelet_docker.removals import Removals
from virtual_kubelet_docker.resources import docker_update, podman_update
from virtual_kubelet_docker.sandboxes import DaemonSandboxes
from virtual_kubelet_docker.security import localhost_seccomp_profile
from virtual_kubelet_docker.statistics import container_statistics

__all__ = ["DockerRuntime"]

#: Requests at once when all containers are inspected.
_AT_ONCE: Final = 8
_SIGKILL: Final = 9


class DockerRuntime:
    """An async context manager. Leaving it leaves the containers alone.

    Args:
        node_name: containers of other nodes at the same engine are not touched.
        cluster: gives what the node's cluster has alone and for good; nor are those of another cluster's node.
        node_ip: the address of pods with ``hostNetwork``.
        cluster_dns, cluster_domain: for pods that ask the cluster's DNS.
        log: the provider's logger.
    """

    def __init__(
        self,
        config: DockerConfig,
        *,
        node_name: str,
        cluster: Callable[[], Awaitable[str]],
        node_ip: str,
        cluster_dns: Sequence[str] = (),
        cluster_domain: str,
        log: logging.LoggerAdapter[logging.Logger],
        clock: Clock,
    ) -> None:
        self._config = config
        self._node_name = node_name
        self._cluster = cluster
        self._node_ip = node_ip
        self._dns = NodeDns(cluster_dns=cluster_dns, cluster_domain=cluster_domain)
        self._log = log
        self._clock = clock
        self._exited: Callable[[str, ContainerExit], None] = lambda container_id, ended: None
        self.daemon = Daemon(config.host)
        self._images = DaemonImages(self.daemon)
        self._removals = Removals(self.daemon)
        self._lowest_oom_score = 0
        self._starting: set[str] = set()
        self._instances: dict[str, ContainerInstance] = {}
        self._open = AsyncExitStack()

    async def __aenter__(self) -> DockerRuntime:
        """Raises ``DaemonError`` if the engine cannot be reached, and what ``cluster`` raises."""
        self._owner = Owner(self._node_name, await self._cluster())
        await self._open.enter_async_context(self.daemon)
        try:
            image = await ensure_pause_image(self.daemon, self._images, self._config.pause_image)
            self._lowest_oom_score = await asyncio.to_thread(_lowest_oom_score, self.daemon)
            self._watch = ExitWatch(self.daemon, self._owner, self._log)
            self._watch.notify_exits(lambda container_id, ended: self._exited(container_id, ended))
            self._sandboxes = DaemonSandboxes(
                self.daemon,
                self._watch,
                self._removals,
                self._config,
                owner=self._owner,
                node_ip=self._node_ip,
                dns=self._dns,
                image=image,
                lowest_oom_score=self._lowest_oom_score,
            )
            await self._name_others()
            tasks = await self._open.enter_async_context(asyncio.TaskGroup())
            watching = tasks.create_task(self._watch.run(), name="container engine watch")
            self._open.callback(watching.cancel)
        except BaseException:
            await self._open.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._open.aclose()

    # ContainerRuntime

    def notify_exits(self, callback: Callable[[str, ContainerExit], None]) -> None:
        self._exited = callback

    def check_pod(self, pod: Pod) -> None:
        options = self.daemon.info.get("SecurityOptions") or ()
        check_pod(pod, self._config, app_armor=any("apparmor" in option for option in options))

    def pod_ips(self, pod: Pod) -> Sequence[str]:
        return self._sandboxes.known_ips(pod)

    async def start_container(self, config: ContainerConfig) -> ContainerInstance:
        name = container_name(config)
        self._starting.add(name)
        try:
            container_id = await self._created(name, config)
            self._watch.runs(container_id)
            try:
                await self.daemon.request("POST", f"containers/{container_id}/start")
            except DaemonError as error:
                if error.status == 0:
                    raise
                self._watch.forget(container_id)
                await self._removals.remove(container_id)
                raise await self._start_error(config, error) from None
            inspected = await self.daemon.get(f"containers/{container_id}/json")
            user = None
            if self.daemon.is_local:
                user = await asyncio.to_thread(container_user, inspected["State"].get("Pid") or 0, container_id)
            return replace(self._known(inspected), user=user)
        finally:
            self._starting.discard(name)

    async def signal_container(self, container_id: str, signal: int) -> None:
        if signal == _SIGKILL:
            self._watch.kill_requested(container_id)
        try:
            await self.daemon.request("POST", f"containers/{container_id}/kill", params={"signal": int(signal)})
        except DaemonError as error:
            if error.status not in (404, 409) and await self._runs(container_id):
                raise

    async def remove_container(self, container_id: str) -> None:
        self._watch.kill_requested(container_id)
        await self._removals.remove(container_id)
        self._watch.forget(container_id)
        self._instances.pop(container_id, None)

    async def list_containers(self) -> Sequence[ContainerInstance]:
        listed = await self.daemon.get("containers/json", all=True, filters=self._owner.filters())
        await self._removals.sweep([one["Id"] for one in listed])
        gate = asyncio.Semaphore(_AT_ONCE)

        async def look(container_id: str, runs: bool) -> ContainerInstance | None:
            known = self._instances.get(container_id)
            if known is not None and (known.exit is None) == runs:
                return known  # none is started twice
            async with gate:
                try:
                    inspected = await self.daemon.get(f"containers/{container_id}/json")
                except DaemonError as error:
                    if error.status == 404:
                        return None
                    raise
            if was_started(inspected):
                return self._known(inspected)
            if inspected["Name"].lstrip("/") not in self._starting:
                await self._removals.remove(
                    container_id
                )  # an earlier process ended between the making and the start of it
            return None

        async with asyncio.TaskGroup() as tasks:
            looks = [
                tasks.create_task(look(one["Id"], one.get("State") == "running"))
                for one in listed
                if not is_sandbox(one.get("Labels") or {}) and one["Id"] not in self._removals.left
            ]
        return [found for one in looks if (found := one.result()) is not None]

    def container_logs(self, container_id: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        return read_log(self.daemon, container_id, options)

    # PodSandboxes

    async def ensure_sandbox(self, pod: Pod) -> PodSandbox:
        return await self._sandboxes.ensure(pod)

    async def remove_sandbox(self, sandbox_id: str) -> None:
        await self._sandboxes.remove(sandbox_id)

    async def list_sandboxes(self) -> Sequence[PodSandbox]:
        return await self._sandboxes.list()

    # ImageStore

    async def find_image(self, image: str) -> Image | None:
        return await self._images.find_image(image)

    async def pull_image(
        self, image: str, credentials: RegistryCredentials | None, on_progress: Callable[[str], None]
    ) -> Image:
        return await self._images.pull_image(image, credentials, on_progress)

    # ContainerCommands

    async def exec_in_container(
        self, container_id: str, config: ContainerConfig, command: Sequence[str], streams: AttachIO
    ) -> int:
        return await run_command(self.daemon, container_id, config.container.name, command, streams)

    async def attach_container(self, container_id: str, config: ContainerConfig, streams: AttachIO) -> None:
        container = config.container
        tty, stdin = container.tty is True, container.stdin is True
        await attach(self.daemon, container_id, container.name, tty=tty, stdin=stdin, streams=streams)

    # PodPorts

    async def forward_port(
        self, pod: Pod, sandbox: PodSandbox | None, container_ids: Sequence[str], port: int, stream: PortStream
    ) -> None:
        if sandbox is None:
            raise TransientError("the pod has no network yet")
        await forward_port(self.daemon, sandbox.id, port, stream)

    # ContainerStatistics

    async def container_statistics(self, container_ids: Sequence[str]) -> Mapping[str, ContainerStats]:
        started = {one.id: one.started_at for one in self._instances.values()}
        return await container_statistics(self.daemon, container_ids, started, self._clock.now())

    async def node_statistics(self) -> NodeStats:
        """Of the engine's machine, where that is this one."""
        if not self.daemon.is_local:
            raise UnsupportedError("the container engine is on another machine, and does not say what that uses")
        root, now = Path(str(self.daemon.info.get("DockerRootDir") or "/")), self._clock.now()

        def look() -> NodeStats:
            return machine_usage(self._node_name, now, directory=root if root.is_dir() else Path("/"))

        return await asyncio.to_thread(look)

    # ContainerResize

    async def resize_container(self, container_id: str, config: ContainerConfig) -> None:
        resources = config.container.resources or ResourceRequirements()
        try:
            if self.daemon.is_podman:  # which has no such request in Docker's API, but in its own
                path, wanted = f"libpod/containers/{container_id}/update", podman_update(resources)
            else:
                path, wanted = f"containers/{container_id}/update", docker_update(resources)
            await self.daemon.request("POST", path, body=wanted)
        except DaemonError as error:
            if error.status in (0, 404):
                raise
            raise InvalidInputError(f"the engine cannot change the container's resources: {error}") from None

    async def _name_others(self) -> None:
        """Say so if the engine has containers of a node of the same name in another cluster."""
        listed = await self.daemon.get("containers/json", all=True, filters=Owner.of_name(self._node_name))
        labels = [one.get("Labels") or {} for one in listed]
        clusters = Counter(one.get(CLUSTER, "") for one in labels if not self._owner.owns(one))
        for cluster, count in clusters.items():
            self._log.warning(
                "the container engine has %d containers of a node %s of another cluster; they are left alone (those with "
                "the label %s=%s, should that cluster be no more)",
                *(count, self._node_name, CLUSTER, cluster),
            )

    def _oom_score(self, config: ContainerConfig) -> int:
        score = oom_score_adjustment(config.pod, config.container, int(self.daemon.info.get("MemTotal") or 1))
        return max(score, self._lowest_oom_score)

    async def _created(self, name: str, config: ContainerConfig) -> str:
        """The id of a container that waits for its start, or that is started already by an earlier try."""
        spec = container_spec(
            config,
            owner=self._owner,
            settings=self._config,
            image_user="" if config.image is None else config.image.user,
            podman=self.daemon.is_podman,
            seccomp_profile=await self._seccomp_profile(config),
            oom_score=self._oom_score(config),
        )
        for _ in range(2):
            try:
                made = await self.daemon.request("POST", "containers/create", params={"name": name}, body=spec)
                return str(made["Id"])
            except DaemonError as error:
                taken = error.status == 409 or "already in use" in str(error)
                if not taken:
                    if error.status == 0:
                        raise
                    raise await self._create_error(config, error) from None
            try:
                earlier = await self.daemon.get(f"containers/{name}/json")
            except DaemonError as error:
                if error.status == 404:
                    continue
                raise
            if was_started(earlier):
                return str(earlier["Id"])
            await self._removals.remove(earlier["Id"])
        raise TransientError(f"the name of container {config.container.name} is taken at the engine")

    async def _create_error(self, config: ContainerConfig, error: DaemonError) -> Exception:
        if await self._sandbox_gone(config):
            return TransientError(f"the pod's sandbox is gone: {error}")
        return ContainerStartError(str(error), reason="CreateContainerError")

    async def _start_error(self, config: ContainerConfig, error: DaemonError) -> Exception:
        if await self._sandbox_gone(config):
            return TransientError(f"the pod's sandbox is gone: {error}")
        return start_error(str(error))

    async def _sandbox_gone(self, config: ContainerConfig) -> bool:
        return config.sandbox is None or not await self._runs(config.sandbox.id)

    async def _runs(self, container_id: str) -> bool:
        try:
            return bool((await self.daemon.get(f"containers/{container_id}/json"))["State"].get("Running"))
        except DaemonError as error:
            if error.status == 404:
                return False
            raise

    async def _seccomp_profile(self, config: ContainerConfig) -> str | None:
        name = localhost_seccomp_profile(config.pod, config.container)
        if name is None:
            return None
        path = self._config.seccomp_profile_root / name
        try:
            text = await asyncio.to_thread(path.read_text)
        except OSError as error:
            raise ContainerStartError(
                f"cannot load seccomp profile {path}: {error.strerror}", reason="CreateContainerError"
            ) from None
        return str(path) if self.daemon.is_podman else text

    def _known(self, inspected: Mapping[str, Any]) -> ContainerInstance:
        instance = container_instance(inspected, killed=self._watch.was_killed(inspected["Id"]))
        self._instances[instance.id] = instance
        if instance.exit is None:
            self._watch.runs(instance.id)
        return instance


def _lowest_oom_score(daemon: Daemon) -> int:
    """Blocking. An engine on another machine is taken to have all rights."""
    if any("rootless" in option for option in daemon.info.get("SecurityOptions") or ()):
        return 0
    return lowest_oom_score() if daemon.is_local and os.geteuid() == 0 else -1000

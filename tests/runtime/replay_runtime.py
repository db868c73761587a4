"""A runtime in memory whose containers do what the recorded pods' commands say, with sandboxes, images and commands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from tests.runtime.container_fakes import LoopClock, Runtime, start_error
from tests.runtime.tiny_shell import Ended, Program, World
from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.runtime import (
    ContainerConfig,
    ContainerExit,
    ContainerInstance,
    Image,
    ImagePullError,
    PodSandbox,
    RegistryCredentials,
)
from virtual_kubelet.contracts.streams import AttachIO
from virtual_kubelet.objects.core_v1 import ContainerUser, LinuxContainerUser, Pod, Probe
from virtual_kubelet.runtime.probes.execute import execute_probe
from virtual_kubelet.runtime.probes.target import ContainerTarget, Outcome, ProbeAnswer

__all__ = ["ReplayRuntime"]

#: What the recorded machine had.
_IMAGES = ("busybox:1.29", "nginx:1.14-alpine")
_NO_REGISTRY = (
    'failed to pull and unpack image "localhost:1/none:1": failed to resolve image: failed to do request: '
    'Head "https://localhost:1/v2/none/manifests/1": dial tcp 127.0.0.1:1: connect: connection refused'
)
#: Seconds until a container runs; the recorded ones took one to three.
_START = 1.2


class ReplayRuntime(Runtime):
    """``gaps``: seconds from the end of a run to the start of the next, by container and run, as recorded."""

    def __init__(self, clock: LoopClock, gaps: Mapping[tuple[str, int], float]) -> None:
        super().__init__(clock)
        self.gaps = gaps
        self.world = World()
        self.programs: dict[str, Program] = {}
        self.files: dict[str, set[str]] = {}
        self.logs: dict[str, bytes] = {}
        self.begun: dict[tuple[str, int], float] = {}
        self.over: dict[tuple[str, int], float] = {}
        self.sandbox: PodSandbox | None = None

    def pod_ips(self, pod: Pod) -> Sequence[str]:
        return []

    # Sandboxes

    async def ensure_sandbox(self, pod: Pod) -> PodSandbox:
        await asyncio.sleep(0.5)
        if self.sandbox is None:
            meta = pod.metadata
            labels = {"namespace": meta.namespace or "", "pod": meta.name or "", "uid": meta.uid or ""}
            self.sandbox = PodSandbox("sandbox-1", labels, ["10.66.0.4"])
        return self.sandbox

    async def remove_sandbox(self, sandbox_id: str) -> None:
        self.sandbox = None

    async def list_sandboxes(self) -> Sequence[PodSandbox]:
        return [self.sandbox] if self.sandbox is not None else []

    # Images

    async def find_image(self, image: str) -> Image | None:
        short = image.rpartition("/")[2]
        return Image("sha256:1", name=f"docker.io/library/{short}") if short in _IMAGES else None

    async def pull_image(
        self, image: str, credentials: RegistryCredentials | None, on_progress: Callable[[str], None]
    ) -> Image:
        raise ImagePullError(_NO_REGISTRY)

    # Containers

    async def start_container(self, config: ContainerConfig) -> ContainerInstance:
        name, run = config.container.name, config.attempt
        self.begun[name, run] = self.clock.monotonic()
        before = self.over.get((name, run - 1), self.clock.monotonic())
        await asyncio.sleep(max(_START, before + self.gaps.get((name, run), 0) - self.clock.monotonic()))
        program = Program(config.container.command or [], self.world)
        if program.missing:
            command = (config.container.command or [""])[0]
            raise start_error(
                "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
                f'failed: unable to start container process: exec: "{command}": stat {command}: no such file or directory',
                reason="StartError",
                exit_code=128,
            )
        instance = await super().start_container(config)
        instance = replace(
            instance, user=ContainerUser(linux=LinuxContainerUser(uid=0, gid=0, supplemental_groups=[0]))
        )
        self.instances[instance.id] = instance
        self.programs[instance.id], self.files[instance.id], self.logs[instance.id] = program, set(), b""
        message = next(m.host_path for m in config.mounts if m.container_path == "/dev/termination-log")
        loop = asyncio.get_running_loop()
        for at, step in program.steps:
            if isinstance(step, Ended):
                loop.call_later(max(at, 0.3), self._over, instance.id, name, run, step)
            else:
                verb, what = step
                if verb == "message":
                    message.write_text(what)
                elif verb == "log":
                    self.logs[instance.id] += what.encode()
                else:
                    loop.call_later(at, self._file, instance.id, verb, what)
        return instance

    def _file(self, container_id: str, verb: str, path: str) -> None:
        (self.files[container_id].add if verb == "touch" else self.files[container_id].discard)(path)

    def _over(self, container_id: str, name: str, run: int, ended: Ended) -> None:
        instance = self.instances.get(container_id)
        if instance is None or instance.exit is not None:
            return
        self.over[name, run] = self.clock.monotonic()
        said = ContainerExit(ended.code, self.clock.now(), reason=ended.reason)
        self.instances[container_id] = ContainerInstance(container_id, instance.labels, instance.started_at, said)
        self.exited(container_id, said)

    async def signal_container(self, container_id: str, signal: int) -> None:
        labels = self.instances[container_id].labels
        name, run = labels["container"], int(labels["attempt"])
        self.signals.append((name, signal))
        if signal == 9:
            self._over(container_id, name, run, Ended(137))
            return
        end = self.programs[container_id].on_term()
        if end is not None:
            asyncio.get_running_loop().call_later(end[0], self._over, container_id, name, run, Ended(end[1]))

    async def container_logs(self, container_id: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        for line in self.logs[container_id].splitlines(keepends=True):
            yield LogLine(0, line)

    # Commands

    async def exec_in_container(
        self, container_id: str, config: ContainerConfig, command: Sequence[str], streams: AttachIO
    ) -> int:
        script = command[-1]
        if script.startswith("test -f "):
            return 0 if script.split()[2] in self.files[container_id] else 1
        program = Program(command, self.world)
        at, ended = program.steps[-1]
        await asyncio.sleep(at)
        assert isinstance(ended, Ended)
        return ended.code

    async def attach_container(self, container_id: str, config: ContainerConfig, streams: AttachIO) -> None:
        raise NotImplementedError

    async def probe(self, probe: Probe, target: ContainerTarget, left: object) -> ProbeAnswer:
        """Instead of the network's."""
        files = self.files[target.container_id]
        if probe.tcp_socket is not None:
            return ProbeAnswer(Outcome.SUCCESS if ":8080" in files else Outcome.FAILURE, "refused")
        if probe.http_get is not None:
            if ":8080" not in files:
                refused = f'Get "http://{target.pod_ip}:8080/ok": dial tcp {target.pod_ip}:8080: connect: refused'
                return ProbeAnswer(Outcome.FAILURE, refused)
            if "/w/ok" in files:
                return ProbeAnswer(Outcome.SUCCESS)
            return ProbeAnswer(Outcome.FAILURE, "HTTP probe failed with statuscode: 404")
        return await execute_probe(probe, target, left)  # type: ignore[arg-type]

"""MockProvider: keeps pods in a dict and reports what their scripts say. Timers, no tasks: 10,000 pods cost little."""

from __future__ import annotations

import asyncio
import errno
import math
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

from virtual_kubelet import (
    AttachIO,
    ContainerLogOptions,
    InvalidInputError,
    LogLine,
    NotFoundError,
    PodKey,
    PodStatusCallback,
    PortStream,
    ProviderContext,
    TransientError,
)
from virtual_kubelet.objects.core_v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    HostIP,
    Node,
    NodeCondition,
    Pod,
    PodCondition,
    PodIP,
    PodStatus,
)
from virtual_kubelet.objects.stats_v1alpha1 import Summary
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.providers.mock.config import load_config
from virtual_kubelet.providers.mock.script import Script, script_of
from virtual_kubelet.providers.mock.usage import cpu_time_of, pod_stats, summary_of

__all__ = ["MockProvider"]

_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
_DELETED = "MockProviderPodDeleted"
_CONTAINER_DELETED = "MockProviderPodContainerDeleted"
_CONTAINER_MESSAGE = "Mock provider terminated container upon deletion"
#: Pods looked at between two looks at the loop.
_STRETCH = 200


class _MockPod:
    __slots__ = ("created_ns", "deleted", "ended", "ip", "pod", "script", "started", "status", "timer")

    def __init__(self, pod: Pod, script: Script, ip: str, created_ns: int) -> None:
        self.pod, self.script, self.ip, self.created_ns = pod, script, ip, created_ns
        self.status = PodStatus()
        self.timer: asyncio.TimerHandle | None = None
        self.started: datetime | None = None  # while it runs
        self.deleted = False
        self.ended = asyncio.Event()


class MockProvider:
    """Runs nothing and says that everything runs. See ``script`` for what a pod may ask of it."""

    #: There is nothing to lose: a pod that the process forgot is simply there again.
    rerun_is_safe = True

    def __init__(self, context: ProviderContext) -> None:
        self._context = context
        self._config = load_config(context.config_path, context.node_name)
        self._pods: dict[PodKey, _MockPod] = {}
        self._failed: dict[PodKey, int] = {}
        self._addresses: dict[PodKey, str] = {}
        self._next_address = 0
        self._notify: PodStatusCallback = _nobody
        self._started = context.clock.now()
        self._ended_cpu_ns = 0

    # The node

    def configure_node(self, node: Node) -> None:
        """Capacity, allocatable and providerID as configured."""
        config = self._config
        capacity = {"cpu": config.cpu, "memory": config.memory, "pods": config.pods, **config.others}
        node.status.capacity, node.status.allocatable = capacity, dict(capacity)
        if config.provider_id:
            node.spec.provider_id = config.provider_id
        others = [c for c in node.status.conditions or [] if c.type == "Ready"]
        node.status.conditions = others + [
            NodeCondition(type=kind, status="False", reason="MockProviderHasNone", message="nothing is really used")
            for kind in ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
        ]

    # Pods

    def notify_pods(self, callback: PodStatusCallback) -> None:
        self._notify = callback

    async def create_pod(self, pod: Pod) -> None:
        key = PodKey.of(pod)
        if key in self._pods:
            return
        script = script_of(pod.metadata.annotations)
        if script.create_error:
            self._fail(key, script)
        clock = self._context.clock
        created_ns = int(clock.now().timestamp() * 1e9)
        held = self._pods[key] = _MockPod(pod, script, self._address(key), created_ns)
        if script.start_delay:
            self._report(key, held, self._waiting(held))
            held.timer = asyncio.get_running_loop().call_later(script.start_delay, self._start, key, held)
        else:
            self._start(key, held)

    async def update_pod(self, pod: Pod) -> None:
        held = self._pods.get(PodKey.of(pod))
        if held is None:
            raise NotFoundError(f"pod {pod.metadata.name} is not known")
        held.pod = pod
        self._report(PodKey.of(pod), held, held.status)

    async def delete_pod(self, pod: Pod) -> None:
        key = PodKey.of(pod)
        held = self._pods.get(key)
        if held is None:
            self._failed.pop(key, None)  # of one that never came to be nothing is kept either
            self._addresses.pop(key, None)
            raise NotFoundError(f"pod {pod.metadata.name} is not known")
        if held.deleted:
            return
        delay = held.script.delete_delay
        if delay == math.inf:
            # It ignores its grace period, as a broken backend does; without one it cannot.
            if pod.metadata.deletion_grace_period_seconds != 0:
                return
            delay = 0
        held.deleted = True
        if held.timer is not None:
            held.timer.cancel()
        if delay:
            held.timer = asyncio.get_running_loop().call_later(delay, self._end, key, held)
        else:
            self._end(key, held)

    async def get_pod(self, key: PodKey) -> Pod | None:
        held = self._pods.get(key)
        return None if held is None else held.pod

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        held = self._pods.get(key)
        return None if held is None else held.status

    async def get_pods(self) -> Sequence[Pod]:
        return [held.pod for held in self._pods.values()]

    async def get_pod_ips(self, pod: Pod) -> Sequence[str]:
        return [self._address(PodKey.of(pod))]

    # Logs

    async def get_container_logs(
        self, key: PodKey, container: str, options: ContainerLogOptions
    ) -> AsyncIterator[LogLine]:
        held = self._pods.get(key)
        if held is None or all(c.name != container for c in _containers(held.pod)):
            raise NotFoundError(f'container "{container}" not found in pod "{key.name}"')
        text = held.script.logs
        if text is None:
            text = f"mock container {container} of pod {key.namespace}/{key.name}: nothing really runs"
        for line in text.splitlines(keepends=True):
            yield LogLine(held.created_ns, line.encode() if line.endswith("\n") else f"{line}\n".encode())
        if options.follow:
            await held.ended.wait()

    # Streams

    async def run_in_container(self, key: PodKey, container: str, command: Sequence[str], streams: AttachIO) -> int:
        """What the pod's script says of it. A command that is not in there is one that the container does not have."""
        does = self._running(key, container).script.commands.get(" ".join(command))
        if does is None:
            name = command[0] if command else ""
            why = f"stat {name}: no such file or directory" if "/" in name else "executable file not found in $PATH"
            raise TransientError(f'failed to exec in container: failed to start exec: exec: "{name}": {why}')
        if does.stdin and streams.stdin is not None:
            while data := await streams.stdin.read():
                if streams.stdout is not None:
                    await streams.stdout.write(data)
        errors = streams.stdout if streams.tty else streams.stderr
        for text, output in ((does.stdout, streams.stdout), (does.stderr, errors)):
            if text and output is not None:
                await output.write(text.encode())
        return does.exit_code

    async def attach_to_container(self, key: PodKey, container: str, streams: AttachIO) -> None:
        """It wrote all that it writes when it started, and reads nothing."""
        await self._running(key, container).ended.wait()

    async def port_forward(self, key: PodKey, port: int, stream: PortStream) -> None:
        """Its ``echo-ports`` answer."""
        held = self._pods.get(key)
        if held is None or held.started is None or port not in held.script.echo_ports:
            raise ConnectionRefusedError(
                errno.ECONNREFUSED,
                f"failed to connect to localhost:{port}: IPv4: dial tcp4 127.0.0.1:{port}: connect: connection refused",
            )
        while data := await stream.read():
            await stream.write(data)

    def _running(self, key: PodKey, container: str) -> _MockPod:
        held = self._pods.get(key)
        if held is None or held.started is None or all(c.name != container for c in held.pod.spec.containers):
            raise NotFoundError(f'container not found ("{container}")')
        return held

    # Statistics

    async def get_stats_summary(self, *, only_cpu_and_memory: bool) -> Summary:
        """Each running container uses just what it requests."""
        now = self._context.clock.now()
        pods = []
        for held in list(self._pods.values()):
            if held.started is not None:
                pods.append(pod_stats(held.pod, held.started, now))
                if len(pods) % _STRETCH == 0:
                    await asyncio.sleep(0)
        return summary_of(self._context.node_name, self._started, pods, now, ended_ns=self._ended_cpu_ns)

    def _stop_counting(self, held: _MockPod) -> None:
        if held.started is not None:
            self._ended_cpu_ns += cpu_time_of(held.pod, held.started, self._context.clock.now())
            held.started = None

    # What happens to a pod

    def _fail(self, key: PodKey, script: Script) -> None:
        failed = self._failed.get(key, 0)
        if failed >= script.create_error_times:
            del self._failed[key]
            return
        self._failed[key] = failed + 1
        message = f"scripted failure {failed + 1}"
        if script.create_error == "invalid":
            raise InvalidInputError(message)
        if script.create_error == "transient":
            raise TransientError(message)
        raise RuntimeError(message)

    def _address(self, key: PodKey) -> str:
        address = self._addresses.get(key)
        if address is None:
            self._next_address += 1
            number = self._next_address
            address = self._addresses[key] = f"10.{64 + (number >> 16 & 63)}.{number >> 8 & 255}.{number & 255}"
        return address

    def _start(self, key: PodKey, held: _MockPod) -> None:
        held.started = self._context.clock.now()
        now = format_time(held.started)
        state = ContainerState(running=ContainerStateRunning(started_at=now))
        status = self._status(held, "Running", now, state, ready=True)
        self._report(key, held, status)
        held.timer = None
        if held.script.run_for is not None:
            held.timer = asyncio.get_running_loop().call_later(held.script.run_for, self._finish, key, held)

    def _waiting(self, held: _MockPod) -> PodStatus:
        state = ContainerState(waiting=ContainerStateWaiting(reason="ContainerCreating"))
        return self._status(held, "Pending", format_time(self._context.clock.now()), state, ready=False)

    def _finish(self, key: PodKey, held: _MockPod) -> None:
        code = held.script.exit_code
        self._stop_counting(held)
        held.ended.set()
        held.timer = None
        phase = "Succeeded" if code == 0 else "Failed"
        self._report(key, held, self._terminated(held, phase, code, "Completed" if code == 0 else "Error", None))

    def _end(self, key: PodKey, held: _MockPod) -> None:
        del self._pods[key]
        self._addresses.pop(key, None)
        self._stop_counting(held)
        held.ended.set()
        if held.status.phase in ("Succeeded", "Failed"):
            self._notify(key, held.status)
            return
        status = self._terminated(held, "Succeeded", 0, _CONTAINER_DELETED, _CONTAINER_MESSAGE)
        status.reason = _DELETED
        self._report(key, held, status)

    def _terminated(self, held: _MockPod, phase: str, code: int, reason: str, message: str | None) -> PodStatus:
        now = self._context.clock.now()
        started = held.status.start_time or format_time(now - timedelta(seconds=held.script.run_for or 0))
        ended = ContainerStateTerminated(
            exit_code=code, reason=reason, message=message, started_at=started, finished_at=format_time(now)
        )
        return self._status(held, phase, started, ContainerState(terminated=ended), ready=False)

    def _status(self, held: _MockPod, phase: str, started: str, state: ContainerState, *, ready: bool) -> PodStatus:
        host, pod = self._context.internal_ip, held.pod
        is_ready = "True" if ready else "False"
        reason = None if ready else "PodCompleted" if state.terminated is not None else "ContainersNotReady"
        conditions = [
            PodCondition(type=kind, status="True", last_transition_time=started)
            if kind not in ("Ready", "ContainersReady")
            else PodCondition(type=kind, status=is_ready, reason=reason, last_transition_time=started)
            for kind in _CONDITIONS
        ]
        return PodStatus(
            phase=phase,
            host_ip=host or None,
            host_ips=[HostIP(ip=host)] if host else None,
            pod_ip=held.ip,
            pod_ips=[PodIP(ip=held.ip)],
            start_time=started,
            conditions=conditions,
            init_container_statuses=_init_containers(pod, state, started, ready=ready) or None,
            container_statuses=[_container(c, state, ready=ready) for c in pod.spec.containers],
        )

    def _report(self, key: PodKey, held: _MockPod, status: PodStatus) -> None:
        held.status = status
        self._notify(key, status)


def _container(container: Container, state: ContainerState, *, ready: bool) -> ContainerStatus:
    return ContainerStatus(
        name=container.name,
        image=container.image or "",
        image_id="",
        container_id=f"mock://{container.name}",
        ready=ready,
        restart_count=0,
        started=state.running is not None,
        state=state,
    )


def _init_containers(pod: Pod, state: ContainerState, started: str, *, ready: bool) -> list[ContainerStatus]:
    """Sidecars are as the containers are; the others have done at once, unless they wait like everything else."""
    if state.waiting is not None:
        return []
    ended = ContainerStateTerminated(exit_code=0, reason="Completed", started_at=started, finished_at=started)
    done = ContainerState(terminated=ended)
    return [
        _container(c, state, ready=ready) if c.restart_policy == "Always" else _container(c, done, ready=True)
        for c in pod.spec.init_containers or ()
    ]


def _containers(pod: Pod) -> list[Container]:
    return [*(pod.spec.init_containers or ()), *pod.spec.containers]


def _nobody(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
    """Statuses before ``notify_pods``: there is nobody to tell."""

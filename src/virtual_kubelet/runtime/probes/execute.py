"""Runs one probe once, whichever of the four kinds it is; and says which probes and hooks of a pod cannot be run here."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Final

from virtual_kubelet.errors import InvalidInputError
from virtual_kubelet.objects.core_v1 import Container, LifecycleHandler, Pod, Probe
from virtual_kubelet.runtime.bounded_call import LeftBehind
from virtual_kubelet.runtime.probe_state import ProbeTimes
from virtual_kubelet.runtime.probes.exec_command import probe_by_command
from virtual_kubelet.runtime.probes.http_get import probe_by_http
from virtual_kubelet.runtime.probes.target import ContainerTarget, ProbeAnswer, ProbeError
from virtual_kubelet.runtime.probes.tcp_socket import probe_tcp_socket

__all__ = ["check_probes", "execute_probe", "grpc_is_there"]

_NO_GRPC: Final = "gRPC probes need the package h2: install virtual-kubelet[grpc]"
_NO_COMMANDS: Final = "the runtime of this node runs no commands in containers"


async def execute_probe(probe: Probe, target: ContainerTarget, left: LeftBehind) -> ProbeAnswer:
    """How it came out, at latest after its ``timeoutSeconds``. Raises ``ProbeError`` if it could not be made.

    Args:
        left: takes a command that the runtime does not end.
    """
    timeout = ProbeTimes.of(probe).timeout
    if probe.exec is not None:
        return await probe_by_command(target, probe.exec.command or (), timeout, left)
    if probe.http_get is not None:
        return await probe_by_http(target, probe.http_get, timeout)
    if probe.tcp_socket is not None:
        return await probe_tcp_socket(target, probe.tcp_socket, timeout)
    if probe.grpc is not None:
        if not grpc_is_there():
            raise ProbeError(_NO_GRPC)
        from virtual_kubelet.runtime.probes.grpc_health import probe_by_grpc

        return await probe_by_grpc(target, probe.grpc, timeout)
    meta = target.pod.metadata
    raise ProbeError(f"missing probe handler for {meta.name}_{meta.namespace}({meta.uid}):{target.container.name}")


def grpc_is_there() -> bool:
    """Whether gRPC probes can be run: the package ``h2`` is an extra."""
    return find_spec("h2") is not None


def check_probes(pod: Pod, *, commands: bool) -> None:
    """For admission. Raises ``InvalidInputError``, naming the field, if a probe or hook of the pod cannot be run here.

    Args:
        commands: whether the runtime runs commands in containers.
    """
    for name, handler in _handlers(pod):
        if handler.exec is not None and not commands:
            raise InvalidInputError(f"{name}.exec: {_NO_COMMANDS}", reason="UnsupportedPodSpec")
        if isinstance(handler, Probe) and handler.grpc is not None and not grpc_is_there():
            raise InvalidInputError(f"{name}.grpc: {_NO_GRPC}", reason="UnsupportedPodSpec")


def _handlers(pod: Pod) -> Iterator[tuple[str, Probe | LifecycleHandler]]:
    containers: list[tuple[str, Container]] = [
        *(("initContainers", c) for c in pod.spec.init_containers or ()),
        *(("containers", c) for c in pod.spec.containers),
    ]
    for field, container in containers:
        prefix = f"spec.{field}[{container.name}]"
        hooks = container.lifecycle
        for name, handler in (
            ("startupProbe", container.startup_probe),
            ("readinessProbe", container.readiness_probe),
            ("livenessProbe", container.liveness_probe),
            ("lifecycle.postStart", None if hooks is None else hooks.post_start),
            ("lifecycle.preStop", None if hooks is None else hooks.pre_stop),
        ):
            if handler is not None:
                yield f"{prefix}.{name}", handler

"""The runtime contract: what a simple backend implements instead of pods; the pod engine in ``runtime`` does the rest.

A container here is one run of one container of a pod: a restart makes a new one. The labels identify it, so that an engine
that was restarted finds its own again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.objects.core_v1 import Container, Pod

__all__ = ["ContainerConfig", "ContainerExit", "ContainerInstance", "ContainerRuntime", "ContainerStartError"]


class ContainerStartError(Exception):
    """A container could not be started. ``reason`` and the message are shown in its status, as the kubelet's are.

    Attributes:
        reason: such as ``StartError`` or ``CreateContainerError``.
        exit_code: None: the container waits and is tried again; a number: it counts as ended with it (128 as runc's).
    """

    def __init__(self, message: str, *, reason: str = "CreateContainerError", exit_code: int | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What to start. ``container`` has its environment resolved; values of variables are not shown in ``repr``."""

    pod: Pod = field(repr=False)
    container: Container = field(repr=False)
    attempt: int
    init: bool = False

    @property
    def labels(self) -> dict[str, str]:
        """Identity of this run."""
        meta = self.pod.metadata
        return {
            "namespace": meta.namespace or "",
            "pod": meta.name or "",
            "uid": meta.uid or "",
            "container": self.container.name,
            "attempt": str(self.attempt),
            "init": "true" if self.init else "false",
        }


@dataclass(frozen=True, slots=True)
class ContainerExit:
    """How a container ended. ``signal`` if one ended it; then ``exit_code`` is 128 and it."""

    exit_code: int
    finished_at: datetime
    signal: int | None = None
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ContainerInstance:
    """A container as the runtime has it: running, or ended with ``exit``."""

    id: str
    labels: Mapping[str, str]
    started_at: datetime
    exit: ContainerExit | None = None


class ContainerRuntime(Protocol):
    """Starts and ends containers. Calls for one container never overlap; ids are the runtime's own.

    Unknown exceptions are taken as passing: the engine tries again with back-off.
    """

    def notify_exits(self, callback: Callable[[str, ContainerExit], None]) -> None:
        """Call ``callback(id, exit)`` in the loop's thread for every container that ends. Called once, first.

        It may be called before ``start_container`` or ``list_containers`` has given the id.
        """
        ...

    def check_pod(self, pod: Pod) -> None:
        """Raise ``InvalidInputError``, naming the field, if this pod asks for what the runtime cannot do."""
        ...

    def pod_ips(self, pod: Pod) -> Sequence[str]:
        """The pod's addresses, the primary one first."""
        ...

    async def start_container(self, config: ContainerConfig) -> ContainerInstance:
        """Create and start. Raises ``ContainerStartError``, and then leaves nothing behind.

        After any other exception the engine calls again with the same labels; if the container is there after all (its
        answer was lost), it is given, not made twice.
        """
        ...

    async def signal_container(self, container_id: str, signal: int) -> None:
        """Send a signal: SIGTERM to its main process, SIGKILL to all that belongs to it. No error if it has ended."""
        ...

    async def remove_container(self, container_id: str) -> None:
        """Forget an ended container and its logs; end it first if it runs. No error if it is not known."""
        ...

    async def list_containers(self) -> Sequence[ContainerInstance]:
        """All that the runtime has, running or ended, also those of an earlier process."""
        ...

    def container_logs(self, container_id: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        """The lines of one container, oldest first; with ``follow`` until it ends."""
        ...

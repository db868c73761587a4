"""The runtime contract: what a simple backend implements instead of pods; the pod engine in ``runtime`` does the rest.

A container here is one run of one container of a pod: a restart makes a new one. The labels identify it, so that an engine
that was restarted finds its own again.

``ContainerRuntime`` is what every runtime has. All else is optional, each a Protocol of its own, found by its methods:
``PodSandboxes``, ``ImageStore``, ``ContainerCommands``, ``PodPorts``, ``ContainerStatistics``, ``ContainerResize``.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.streams import AttachIO, PortStream
from virtual_kubelet.objects.core_v1 import Container, ContainerUser, Pod
from virtual_kubelet.objects.stats_v1alpha1 import ContainerStats, NodeStats

__all__ = [
    "ContainerCommands",
    "ContainerConfig",
    "ContainerExit",
    "ContainerInstance",
    "ContainerKind",
    "ContainerResize",
    "ContainerRuntime",
    "ContainerStartError",
    "ContainerStatistics",
    "Image",
    "ImagePullError",
    "ImageStore",
    "Mount",
    "PodPorts",
    "PodSandbox",
    "PodSandboxes",
    "RegistryCredentials",
]


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


class ImagePullError(Exception):
    """An image could not be had. The message is shown in the container's status and event; no credentials in it.

    Attributes:
        reason: ``ErrImagePull``, or ``RegistryUnavailable``, or ``InvalidImageName`` if this can never be an image.
    """

    def __init__(self, message: str, *, reason: str = "ErrImagePull") -> None:
        super().__init__(message)
        self.reason = reason


class ContainerKind(StrEnum):
    """Which list of the pod a container stands in."""

    MAIN = "main"
    INIT = "init"
    EPHEMERAL = "ephemeral"


@dataclass(frozen=True, slots=True)
class Mount:
    """A path of this machine that a container sees.

    Attributes:
        host_path: absolute, free of symbolic links that a container could have planted, and there already.
        container_path: absolute, in the container.
        propagation: ``None``, ``HostToContainer`` or ``Bidirectional``, as the container's spec has it.
    """

    host_path: Path
    container_path: str
    read_only: bool = False
    propagation: str | None = None


@dataclass(frozen=True, slots=True)
class PodSandbox:
    """What the containers of one pod share: addresses, and whatever of namespaces the runtime has.

    Attributes:
        id: the runtime's own.
        labels: ``namespace``, ``pod``, ``uid``.
        ips: the primary one first; the node's, if the pod has ``hostNetwork``.
    """

    id: str
    labels: Mapping[str, str]
    ips: Sequence[str]


@dataclass(frozen=True, slots=True)
class RegistryCredentials:
    """How to log in to an image's registry; not shown in ``repr``."""

    server: str
    username: str = field(repr=False, default="")
    password: str = field(repr=False, default="")
    identity_token: str = field(repr=False, default="")
    registry_token: str = field(repr=False, default="")


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the runtime has it.

    Attributes:
        id: goes to ``imageID`` in statuses; a repository digest if there is one, as a kubelet's.
        user: the user that the image names, for ``runAsNonRoot``: a number, a name, or empty for root.
        size: bytes, for the ``Pulled`` event; None if not known.
        name: goes to ``image`` in statuses, with its registry and tag; empty: as the pod names it.
    """

    id: str
    user: str = ""
    size: int | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """What to start. Values of variables are not shown in ``repr``.

    Attributes:
        pod: the pod as its node has it.
        container: with its environment resolved, command and arguments expanded.
        attempt: 0 for the first run, one more for each after.
        kind: the list that the container stands in. An ephemeral one is given as ``Container`` like the others.
        mounts: its volumes, its termination message, and ``/etc/hosts``, ready to be mounted.
        sandbox: the pod's, if the runtime has any.
        image: as ``ImageStore`` gave it; None if the runtime has no images.
        target: id of the container whose processes an ephemeral one wants to see, if it names one.
    """

    pod: Pod = field(repr=False)
    container: Container = field(repr=False)
    attempt: int
    kind: ContainerKind = ContainerKind.MAIN
    mounts: Sequence[Mount] = ()
    sandbox: PodSandbox | None = None
    image: Image | None = None
    target: str | None = None

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
            "kind": self.kind.value,
        }


@dataclass(frozen=True, slots=True)
class ContainerExit:
    """How a container ended. ``signal`` if one ended it; then ``exit_code`` is 128 and it.

    Attributes:
        reason: None for ``Completed`` or ``Error`` as the exit code says; ``OOMKilled`` and the like.
    """

    exit_code: int
    finished_at: datetime
    signal: int | None = None
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ContainerInstance:
    """A container as the runtime has it: running, or ended with ``exit``.

    Attributes:
        stop_signal: the number of the signal that asks it to end, where its image names one.
        user: as whom its first process began, if the runtime knows.
    """

    id: str
    labels: Mapping[str, str]
    started_at: datetime
    exit: ContainerExit | None = None
    stop_signal: int = signal.SIGTERM
    user: ContainerUser | None = None


class ContainerRuntime(Protocol):
    """Starts and ends containers. Calls for one container never overlap; ids are the runtime's own.

    Unknown exceptions are taken as passing: the engine tries again with back-off. Every call has a time-out that the
    engine sets; one that is cancelled leaves nothing that ``list_containers`` does not show.
    """

    def notify_exits(self, callback: Callable[[str, ContainerExit], None]) -> None:
        """Call ``callback(id, exit)`` in the loop's thread for every container, and every sandbox, that ends. Called once,
        first.

        It may be called before ``start_container`` or ``list_containers`` has given the id, and more than once.
        """
        ...

    def check_pod(self, pod: Pod) -> None:
        """Raise ``InvalidInputError``, naming the field, if this pod asks for what the runtime cannot do."""
        ...

    def pod_ips(self, pod: Pod) -> Sequence[str]:
        """The pod's addresses, the primary one first, if they are known before anything runs; empty if only its sandbox
        knows them."""
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
        """All that the runtime has of this node, running or ended, also those of an earlier process. Never a part: what
        is missing is gone; if it cannot be known, raise."""
        ...

    def container_logs(self, container_id: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        """The lines of one container, oldest first; with ``follow`` until it ends."""
        ...


@runtime_checkable
class PodSandboxes(Protocol):
    """A runtime whose containers share something for which a pod's sandbox stands, such as a network."""

    async def ensure_sandbox(self, pod: Pod) -> PodSandbox:
        """The pod's sandbox; made if there is none, or the one there is has ended. It is called again after a failure."""
        ...

    async def remove_sandbox(self, sandbox_id: str) -> None:
        """End and forget it; its containers have ended. No error if it is not known."""
        ...

    async def list_sandboxes(self) -> Sequence[PodSandbox]:
        """All of this node that are alive, also those of an earlier process; never a part."""
        ...


@runtime_checkable
class ImageStore(Protocol):
    """A runtime that has images. ``imagePullPolicy``, back-off and events are the engine's."""

    async def find_image(self, image: str) -> Image | None:
        """The image of this reference, if it is here."""
        ...

    async def pull_image(
        self, image: str, credentials: RegistryCredentials | None, on_progress: Callable[[str], None]
    ) -> Image:
        """Get it. Raises ``ImagePullError``. ``on_progress`` takes a sentence for people, as often as there is news."""
        ...


@runtime_checkable
class ContainerCommands(Protocol):
    """A runtime that runs commands in containers: ``kubectl exec`` and ``attach``, exec probes and hooks."""

    async def exec_in_container(
        self, container_id: str, config: ContainerConfig, command: Sequence[str], streams: AttachIO
    ) -> int:
        """As ``ContainerExec.run_in_container``; ``config`` is what the container was started with."""
        ...

    async def attach_container(self, container_id: str, config: ContainerConfig, streams: AttachIO) -> None:
        """As ``ContainerAttach.attach_to_container``."""
        ...


@runtime_checkable
class PodPorts(Protocol):
    """A runtime whose pods' ports can be reached: ``kubectl port-forward``."""

    async def forward_port(
        self, pod: Pod, sandbox: PodSandbox | None, container_ids: Sequence[str], port: int, stream: PortStream
    ) -> None:
        """As ``PortForwarder.port_forward``, for the pod of these running containers."""
        ...


@runtime_checkable
class ContainerStatistics(Protocol):
    """A runtime that knows what its containers use."""

    async def container_statistics(self, container_ids: Sequence[str]) -> Mapping[str, ContainerStats]:
        """By id; what is not known is left out. The names in them are the engine's to set."""
        ...

    async def node_statistics(self) -> NodeStats:
        """Of the whole node."""
        ...


@runtime_checkable
class ContainerResize(Protocol):
    """A runtime that changes the limits of a running container."""

    async def resize_container(self, container_id: str, config: ContainerConfig) -> None:
        """Give it the resources of ``config.container``; ``config.pod`` is what the pod has then, as a whole.

        Of one pod's containers one is resized at a time, those that get less first. Raises ``InvalidInputError`` if it
        cannot be done without a restart; after any other exception it is tried again, and those after it wait.
        """
        ...

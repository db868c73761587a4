"""The stream contracts: commands in containers, their main processes, and their ports, for somebody far away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.streaming.remote_command.resize import TerminalSize

__all__ = [
    "AttachIO",
    "ContainerAttach",
    "ContainerExec",
    "InputStream",
    "OutputStream",
    "PartialStreams",
    "PortForwarder",
    "PortStream",
    "TerminalSize",
]


class InputStream(Protocol):
    """What a client sends."""

    async def read(self, size: int = 65536) -> bytes:
        """At most ``size`` bytes, as soon as there are any; none once the client sends nothing more.

        The client is held up while nobody reads.
        """
        ...


class OutputStream(Protocol):
    """What a client reads."""

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Returns when the client has taken enough for more to be sent; ``data`` may be changed then.

        Raises ``BrokenPipeError`` when nobody reads this any more.
        """
        ...


@dataclass(frozen=True, slots=True)
class AttachIO:
    """The streams of one command.

    Attributes:
        stdin, stdout, stderr: None if the client did not ask for it.
        tty: whether the client wants a terminal. There is no stderr then.
        resizes: sizes of the client's terminal, the first as soon as it is known; only the newest counts. It ends with
            the session.
    """

    stdin: InputStream | None
    stdout: OutputStream | None
    stderr: OutputStream | None
    tty: bool
    resizes: AsyncIterator[TerminalSize]


@runtime_checkable
class ContainerExec(Protocol):
    """A provider that runs commands in containers: ``kubectl exec``, ``cp``, and ``/run``."""

    async def run_in_container(self, key: PodKey, container: str, command: Sequence[str], streams: AttachIO) -> int:
        """Run ``command`` in a container; its exit code (128 and the signal's number if a signal ended it).

        Returns when the command has ended and its output is written. Cancelled when the client has gone: then the command
        must be ended too. Raises ``NotFoundError`` if there is no such container, or another ``ProviderError`` if the
        command cannot be started; its text is what kubectl prints.
        """
        ...


@runtime_checkable
class ContainerAttach(Protocol):
    """A provider that attaches clients to the main processes of containers: ``kubectl attach`` and ``run -i``."""

    async def attach_to_container(self, key: PodKey, container: str, streams: AttachIO) -> None:
        """Pass bytes between the client and the main process of a container, from now on.

        Returns when the process has ended. Cancelled when the client has gone, which must not harm the process. Errors
        as of ``ContainerExec``.
        """
        ...


class PortStream(Protocol):
    """One connection that a client makes to a port of a pod."""

    async def read(self, size: int = 65536) -> bytes:
        """As ``InputStream.read``."""
        ...

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """As ``OutputStream.write``."""
        ...


@runtime_checkable
class PortForwarder(Protocol):
    """A provider whose pods' ports can be reached: ``kubectl port-forward``."""

    async def port_forward(self, key: PodKey, port: int, stream: PortStream) -> None:
        """Connect to a TCP port of the pod, of no other and not of the node's own, and pass bytes both ways.

        Called once for each connection. Returns when the port has closed it. When the client sends nothing more
        (``read`` gives nothing) the port may still answer. Raises ``ConnectionError`` if the connection broke, any other
        ``OSError`` or a ``ProviderError`` if it could not be made: kubectl prints that. Cancelled when the client has gone.
        """
        ...


@runtime_checkable
class PartialStreams(Protocol):
    """A provider that may lack what its class has methods for, such as an engine on a runtime that runs no commands."""

    def lacks(self, method: str) -> str:
        """Why ``run_in_container``, ``attach_to_container`` or ``port_forward`` is not offered after all; empty if it is.

        Asked before a client gets its stream: it is answered 501 with this sentence instead.
        """
        ...

"""What exec and attach need of a session, whichever protocol carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.remote_command.resize import TerminalSize
from virtual_kubelet.streaming.remote_command.status import CommandStatus

__all__ = [
    "RemoteCommandEvent",
    "RemoteCommandOptions",
    "RemoteCommandSession",
    "Resized",
    "SessionEnded",
    "StdinClosed",
    "StdinData",
    "StreamsReady",
]


class RemoteCommandOptions(NamedTuple):
    """The streams that a client asks for, by the kubelet's rules.

    Attributes:
        stdin, stdout, stderr: which of them. A terminal has no stderr of its own: what was asked for is dropped.
        tty: whether the command gets a terminal.
    """

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False

    @classmethod
    def asked(cls, *, stdin: bool, stdout: bool, stderr: bool, tty: bool) -> RemoteCommandOptions:
        """Raises ``ProtocolError`` (400) if there would be no stream at all."""
        stderr = stderr and not tty
        if not (stdin or stdout or stderr):
            raise ProtocolError("you must specify at least 1 of stdin, stdout, stderr")
        return cls(stdin, stdout, stderr, tty)


@dataclass(frozen=True, slots=True)
class StreamsReady:
    """The client has opened all its streams: the command may start."""


@dataclass(frozen=True, slots=True)
class StdinData:
    """Input for the command: a view of what was received. ``acknowledge`` it when the command has taken it."""

    data: Buffer


@dataclass(frozen=True, slots=True)
class StdinClosed:
    """The client sends no more input."""


@dataclass(frozen=True, slots=True)
class Resized:
    """The client's terminal has a new size."""

    size: TerminalSize


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The client is gone, or (``error``) broke the protocol: nobody reads any more. Always the last event."""

    error: ProtocolError | None = None


RemoteCommandEvent: TypeAlias = StreamsReady | StdinData | StdinClosed | Resized | SessionEnded


class RemoteCommandSession(Protocol):
    """The node's side of one command. After any call, send what ``data_to_send`` gives.

    ``send_stdout`` and ``send_stderr`` raise ``StreamClosedError`` when nobody reads that stream any more, as a pipe
    would. Data given to them must not change afterwards.
    """

    @property
    def closed(self) -> bool:
        """Whether nothing is read or sent any more, but for what is yet to be sent."""
        ...

    @property
    def unacknowledged(self) -> int:
        """Bytes of input that nobody has acknowledged: stop reading from the network while they are too many."""
        ...

    def acknowledge(self, size: int) -> None:
        """The command has taken ``size`` bytes of input."""
        ...

    def receive_data(self, data: Buffer) -> list[RemoteCommandEvent]:
        """What bytes from the network mean, in order."""
        ...

    def receive_eof(self) -> list[RemoteCommandEvent]:
        """The network connection has ended."""
        ...

    def data_to_send(self) -> list[Buffer]:
        """What must be written to the network, in order; each piece is given once."""
        ...

    def send_stdout(self, data: Buffer) -> None:
        """Output of the command."""
        ...

    def send_stderr(self, data: Buffer) -> None:
        """Output of the command on stderr."""
        ...

    def end_stdout(self) -> None:
        """There is no more output."""
        ...

    def end_stderr(self) -> None:
        """There is no more output on stderr."""
        ...

    def finish(self, status: CommandStatus) -> None:
        """The command has ended: say how, and close the session. No matter if it is closed."""
        ...

    def abort(self, reason: str) -> None:
        """Close the session without a status: the client did not open its streams in time, the node shuts down."""
        ...

    def ping(self) -> None:
        """Ask for a sign of life, so that a silent session is not forgotten on the way."""
        ...

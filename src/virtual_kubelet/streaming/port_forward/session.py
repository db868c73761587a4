"""What port-forward needs of a session, whichever protocol carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.streaming.buffers import Buffer

__all__ = [
    "ForwardData",
    "ForwardEnded",
    "ForwardIncomplete",
    "ForwardOpened",
    "ForwardReset",
    "PortForwardEvent",
    "PortForwardSession",
    "SessionEnded",
]


@dataclass(frozen=True, slots=True)
class ForwardIncomplete:
    """A client has opened one of a connection's two streams: if the other does not come in time, ``expire`` it."""

    request_id: str


@dataclass(frozen=True, slots=True)
class ForwardOpened:
    """A client wants a connection to a port; ``forward`` names it in all that follows."""

    forward: int
    port: int


@dataclass(frozen=True, slots=True)
class ForwardData:
    """Bytes for the port: a view of what was received. ``acknowledge`` them when the port has taken them."""

    forward: int
    data: Buffer


@dataclass(frozen=True, slots=True)
class ForwardEnded:
    """The client sends nothing more on this connection; it may still read."""

    forward: int


@dataclass(frozen=True, slots=True)
class ForwardReset:
    """The client has dropped this connection: always its last event."""

    forward: int


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """The client is gone, or (``error``) broke the protocol. Always the last event."""

    error: ProtocolError | None = None


PortForwardEvent: TypeAlias = (
    ForwardIncomplete | ForwardOpened | ForwardData | ForwardEnded | ForwardReset | SessionEnded
)


class PortForwardSession(Protocol):
    """The node's side of one port-forward. After any call, send what ``data_to_send`` gives."""

    @property
    def closed(self) -> bool:
        """Whether nothing is read or sent any more, but for what is yet to be sent."""
        ...

    @property
    def unacknowledged(self) -> int:
        """Bytes received that nobody has acknowledged: stop reading from the network while they are too many."""
        ...

    def acknowledge(self, forward: int, size: int) -> None:
        """The port, or whoever drops them, has taken ``size`` bytes."""
        ...

    def receive_data(self, data: Buffer) -> list[PortForwardEvent]:
        """What bytes from the network mean, in order."""
        ...

    def receive_eof(self) -> list[PortForwardEvent]:
        """The network connection has ended."""
        ...

    def data_to_send(self) -> list[Buffer]:
        """What must be written to the network, in order; each piece is given once."""
        ...

    def send(self, forward: int, data: Buffer) -> None:
        """Bytes from the port, which must not change afterwards. Raises ``StreamClosedError`` if nobody reads them."""
        ...

    def end(self, forward: int, error: str = "") -> None:
        """The connection to the port has ended, or (``error``) could not be made. No matter if it is gone."""
        ...

    def reset(self, forward: int) -> None:
        """The connection to the port broke: the client must not take what it has for all. No matter if it is gone."""
        ...

    def expire(self, request_id: str) -> None:
        """The second stream of a connection did not come in time. No matter if it has come."""
        ...

    def close(self) -> None:
        """End the session."""
        ...

    def ping(self) -> None:
        """Ask for a sign of life, so that a silent session is not forgotten on the way."""
        ...

"""What one node lets the clients of exec, attach and port-forward use."""

from __future__ import annotations

from dataclasses import dataclass, field

from virtual_kubelet.streaming.port_forward.spdy_session import PortForwardLimits
from virtual_kubelet.streaming.spdy.limits import SpdyLimits
from virtual_kubelet.streaming.websocket.connection import WebSocketLimits

__all__ = ["StreamLimits"]


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one node lets the clients of its streams use. Times in seconds.

    Attributes:
        max_sessions: sessions at a time, of all kinds; one more is answered 429.
        idle_timeout: without a byte in either direction, pings not counted; the session is cut. The kubelet's
            ``streamingConnectionIdleTimeout``.
        creation_timeout: for the client to open all streams of a command, or both of a forwarded connection.
        ping_interval: of silence, after which the client gets a ping, so that nobody on the way forgets the connection.
        input_buffer_bytes: of one session that the node reads ahead of who takes them.
        stall_timeout: of one port-forward: a connection whose port takes nothing of what is there for so long, while that
            holds up others of the same client, is reset. Kubernetes' SPDY has no flow control for single streams.
        write_buffer_bytes: of one session held for a client that is slower than the node.
        max_unsent_bytes: answers held for a client that sends without reading; beyond that it is cut.
        linger_timeout: after the end of a command whose client still sends: what it sends is thrown away for so long.
        close_timeout: for the client to take the last bytes, and for the provider to end what the client has left.
        max_run_bytes: output of one command of ``/run``, which is held until it ends; more ends the command.
        spdy, websocket, port_forward: of the protocols.
    """

    max_sessions: int = 256
    idle_timeout: float = 4 * 3600.0
    creation_timeout: float = 30.0
    ping_interval: float = 30.0
    input_buffer_bytes: int = 256 * 1024
    stall_timeout: float = 30.0
    write_buffer_bytes: int = 64 * 1024
    max_unsent_bytes: int = 1024 * 1024
    linger_timeout: float = 0.5
    close_timeout: float = 10.0
    max_run_bytes: int = 8 * 1024 * 1024
    spdy: SpdyLimits = field(default_factory=SpdyLimits)
    websocket: WebSocketLimits = field(default_factory=WebSocketLimits)
    port_forward: PortForwardLimits = field(default_factory=PortForwardLimits)

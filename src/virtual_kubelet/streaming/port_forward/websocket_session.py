"""Port-forward over WebSocket channels: for each port in the request a data and an error channel, 0 and 1, 2 and 3…

Each begins with the port, two bytes, least first. Channels cannot be half-closed here: the session ends when the last
connection to a port has, as in the kubelet's websocket.go. kubectl uses the tunnelled form, which has no such limits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from virtual_kubelet.errors import ProtocolError, StreamClosedError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.port_forward.session import (
    ForwardData,
    ForwardOpened,
    PortForwardEvent,
    SessionEnded,
)
from virtual_kubelet.streaming.websocket.channels import (
    ChannelConnection,
    ChannelData,
    ChannelProtocol,
    ChannelsEnded,
)
from virtual_kubelet.streaming.websocket.connection import WebSocketLimits

__all__ = ["CHANNEL_PROTOCOLS", "MAX_PORTS", "WebSocketPortForward", "parse_ports"]

#: Sub-protocols served, and what each of them speaks.
CHANNEL_PROTOCOLS: Final = {
    "v4.channel.k8s.io": "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io": "v4.base64.channel.k8s.io",
    "portforward.k8s.io": "v4.channel.k8s.io",
    "": "",
}
#: Channel numbers are one byte, 255 is none; in the base64 forms no digit comes after ``9``, but Go goes on with ``:``.
MAX_PORTS: Final = 32


def parse_ports(values: Iterable[str], *, max_ports: int = MAX_PORTS) -> list[int]:
    """The ports of the query's ``port`` parameters, each maybe a list with commas.

    Raises ``ProtocolError`` (400) in the kubelet's words if there is none, one is no port, or there are too many.
    """
    texts = [text for value in values for text in value.split(",")]
    if not texts:
        raise ProtocolError('query parameter "port" is required')
    if len(texts) > max_ports:
        raise ProtocolError(f"at most {max_ports} ports can be forwarded in one WebSocket")
    ports = []
    for text in texts:
        if not (text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) <= 65535):
            raise ProtocolError(f'unable to parse "{text[:40]}" as a port')
        if not int(text):
            raise ProtocolError(f'port "{text}" must be > 0')
        ports.append(int(text))
    return ports


class WebSocketPortForward:
    """The node's side of one port-forward; see ``PortForwardSession``. A connection is named by its data channel."""

    def __init__(self, ports: Sequence[int], protocol: str, *, limits: WebSocketLimits | None = None) -> None:
        """``protocol`` is one of ``CHANNEL_PROTOCOLS``."""
        self._ports = tuple(ports)
        self._channels = ChannelConnection(
            ChannelProtocol.named(CHANNEL_PROTOCOLS[protocol]),
            2 * len(ports),
            range(0, 2 * len(ports), 2),
            limits=limits,
        )
        self._running = set(range(0, 2 * len(ports), 2))
        self._ended = False

    @property
    def closed(self) -> bool:
        return not self._channels.open

    @property
    def unacknowledged(self) -> int:
        return self._channels.unacknowledged

    def begin(self) -> list[PortForwardEvent]:
        """To be called once, after the handshake: says the ports, and opens them."""
        for channel, port in enumerate(port for port in self._ports for _ in range(2)):
            self._channels.send(channel, port.to_bytes(2, "little"))
        return [ForwardOpened(2 * index, port) for index, port in enumerate(self._ports)]

    def acknowledge(self, forward: int, size: int) -> None:
        self._channels.acknowledge(size)

    def data_to_send(self) -> list[Buffer]:
        return self._channels.data_to_send()

    def receive_data(self, data: Buffer) -> list[PortForwardEvent]:
        events: list[PortForwardEvent] = []
        for event in self._channels.receive_data(data):
            match event:
                case ChannelData(channel, payload):
                    if channel in self._running:
                        events.append(ForwardData(channel, payload))
                    else:
                        self._channels.acknowledge(len(payload))
                case ChannelsEnded(error):
                    events += self._end_session(error)
        return events

    def receive_eof(self) -> list[PortForwardEvent]:
        self._channels.receive_eof()
        return self._end_session(None)

    def send(self, forward: int, data: Buffer) -> None:
        if forward not in self._running:
            raise StreamClosedError("this connection has ended")
        self._channels.send(forward, data)

    def end(self, forward: int, error: str = "") -> None:
        if forward in self._running:
            self._running.discard(forward)
            if self._channels.open:
                if error:
                    self._channels.send(forward + 1, error.encode(errors="replace"))
                if not self._running:
                    self._channels.close()

    def reset(self, forward: int) -> None:
        self.end(forward, "the connection was reset")

    def expire(self, request_id: str) -> None:
        """Nothing waits here: ports are known from the beginning."""

    def close(self) -> None:
        self._channels.close()

    def ping(self) -> None:
        self._channels.ping()

    def _end_session(self, error: ProtocolError | None) -> list[PortForwardEvent]:
        self._running.clear()
        if self._ended:
            return []
        self._ended = True
        return [SessionEnded(error)]

"""SPDY/3.1 inside a WebSocket (``SPDY/3.1+portforward.k8s.io``): messages are pieces of the session's bytes."""

from __future__ import annotations

from typing import Final

from virtual_kubelet.errors import SpdyError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.events import Event, SessionFailed
from virtual_kubelet.streaming.spdy.limits import SpdyLimits
from virtual_kubelet.streaming.websocket.connection import (
    CloseReceived,
    Failed,
    MessagePart,
    WebSocketConnection,
    WebSocketLimits,
)

__all__ = ["TunnelledSpdyConnection"]

#: Pieces smaller than this are sent in one message.
_SMALL: Final = 4096


class TunnelledSpdyConnection(SpdyConnection):
    """A SPDY session whose bytes go through a WebSocket; a Close frame ends it, and closing it says Close."""

    def __init__(
        self,
        *,
        client: bool,
        limits: SpdyLimits | None = None,
        websocket_limits: WebSocketLimits | None = None,
        flow_control: bool = False,
    ) -> None:
        self._websocket = WebSocketConnection(client=client, limits=websocket_limits)
        super().__init__(client=client, limits=limits, flow_control=flow_control)

    def data_to_send(self) -> list[Buffer]:
        """What must be written to the network, in order; each piece is given once."""
        pieces = super().data_to_send()
        if self._websocket.open:
            small: list[Buffer] = []
            for piece in pieces:
                if len(piece) < _SMALL:
                    small.append(piece)
                else:
                    self._send_small(small)
                    self._websocket.send_message(piece)
            self._send_small(small)
            if self.closed:
                self._websocket.close()
        return self._websocket.data_to_send()

    def _send_small(self, pieces: list[Buffer]) -> None:
        if pieces:
            self._websocket.send_message(b"".join(pieces))
            pieces.clear()

    def receive_data(self, data: Buffer) -> list[Event]:
        """What bytes from the network mean, in order. Nothing once the session is closed."""
        events: list[Event] = []
        for event in self._websocket.receive_data(data):
            if isinstance(event, MessagePart):
                events += super().receive_data(event.data)
            elif isinstance(event, Failed):
                if not self.closed:
                    events.append(SessionFailed(SpdyError(str(event.error))))
                super().receive_eof()
            elif isinstance(event, CloseReceived):
                super().receive_eof()
        return events

    def receive_eof(self) -> None:
        """The network connection has ended: the session is over."""
        self._websocket.receive_eof()
        super().receive_eof()

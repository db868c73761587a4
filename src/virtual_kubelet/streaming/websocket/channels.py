"""Kubernetes' channels in a WebSocket: the first byte of each message says which stream it belongs to (wsstream).

In the binary forms it is the channel's number, in the base64 forms its digit, and the rest is base64 in text messages.
From version 5 on, a message of channel 255 and a second byte half-closes the channel that this byte names.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

from virtual_kubelet.errors import WebSocketError
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.websocket.connection import (
    CloseReceived,
    Failed,
    MessagePart,
    WebSocketConnection,
    WebSocketLimits,
)

__all__ = [
    "ChannelClosed",
    "ChannelConnection",
    "ChannelData",
    "ChannelEvent",
    "ChannelProtocol",
    "ChannelsEnded",
]

_CLOSE_CHANNEL: Final = 255
_DIGIT: Final = ord("0")


@dataclass(frozen=True, slots=True)
class ChannelProtocol:
    """A sub-protocol.

    Attributes:
        name: as negotiated; empty if the client offered none.
        version: of remote command; 1 without a number in its name.
        base64: whether payload is text in base64.
    """

    name: str
    version: int
    base64: bool

    @property
    def closes_channels(self) -> bool:
        """Whether a channel can be half-closed."""
        return self.version >= 5

    @classmethod
    def named(cls, name: str) -> ChannelProtocol:
        """Of ``channel.k8s.io``, ``v4.channel.k8s.io``, ``v5.base64.channel.k8s.io``… Raises ``ValueError``."""
        found = _PROTOCOLS.get(name)
        if found is None:
            raise ValueError(f"not a channel protocol: {name!r}")
        return found


_PROTOCOLS: Final = {"": ChannelProtocol("", 1, False)} | {
    name: ChannelProtocol(name, version, encoded)
    for version in range(1, 6)
    for encoded in (False, True)
    for name in [f"{f'v{version}.' if version > 1 else ''}{'base64.' if encoded else ''}channel.k8s.io"]
}


@dataclass(frozen=True, slots=True)
class ChannelData:
    """Bytes of a channel."""

    channel: int
    data: Buffer


@dataclass(frozen=True, slots=True)
class ChannelClosed:
    """The peer sends nothing more on this channel."""

    channel: int


@dataclass(frozen=True, slots=True)
class ChannelsEnded:
    """The peer has closed the connection, or (``error``) broken its protocol. Always the last event."""

    error: WebSocketError | None


ChannelEvent: TypeAlias = ChannelData | ChannelClosed | ChannelsEnded


class ChannelConnection:
    """The channels of one WebSocket. ``receive_data`` gives events; after any call, send what ``data_to_send`` gives.

    What the peer sends on a channel that it may not use is dropped, as Kubernetes does.
    """

    def __init__(
        self,
        protocol: ChannelProtocol,
        channels: int,
        readable: Collection[int],
        *,
        client: bool = False,
        limits: WebSocketLimits | None = None,
    ) -> None:
        """
        Args:
            protocol: what was negotiated.
            channels: how many there are, from 0 on.
            readable: those on which the peer may send.
            client: whether this side opened the connection.
            limits: what the peer may send.
        """
        self._protocol = protocol
        self._channels = channels
        self._readable = frozenset(readable)
        self._websocket = WebSocketConnection(client=client, limits=limits)
        self._channel: int | None = None  # of the message that is coming
        self._closing = b""  # the channel that it closes
        self._closed_channels: set[int] = set()
        self._base64 = b""  # up to three characters that do not yet make a byte
        self._padded = False
        self._unacknowledged = 0
        self._ended = False

    @property
    def open(self) -> bool:
        """Whether anything can be sent."""
        return self._websocket.open

    @property
    def unacknowledged(self) -> int:
        """Bytes received that nobody has acknowledged: stop reading while they are too many."""
        return self._unacknowledged

    def acknowledge(self, size: int) -> None:
        """``size`` bytes are dealt with."""
        if size > self._unacknowledged:
            raise ValueError("more bytes are acknowledged than were received")
        self._unacknowledged -= size

    def send(self, channel: int, data: Buffer) -> None:
        """Send bytes on a channel. Raises ``StreamClosedError`` once the connection is closing."""
        if self._protocol.base64:
            self._websocket.send_message(base64.b64encode(data), prefix=bytes((_DIGIT + channel,)), text=True)
        else:
            self._websocket.send_message(data, prefix=bytes((channel,)))

    def close_channel(self, channel: int) -> None:
        """Half-close a channel; from version 5 on, ``ValueError`` before."""
        if not self._protocol.closes_channels:
            raise ValueError(f"{self._protocol.name or 'this protocol'} cannot close a channel")
        # Also where payload is base64: wsstream looks at the bytes first. 255 is no UTF-8, so the message is no text.
        self._websocket.send_message(bytes((_CLOSE_CHANNEL, channel)))

    def ping(self) -> None:
        """Ask the peer for a sign of life, so that a silent connection is not forgotten on the way."""
        self._websocket.ping()

    def close(self, code: int = 1000, reason: str = "") -> None:
        """End the connection."""
        self._websocket.close(code, reason)

    def data_to_send(self) -> list[Buffer]:
        """What must be written to the network, in order; each piece is given once."""
        return self._websocket.data_to_send()

    def receive_eof(self) -> list[ChannelEvent]:
        """The network connection has ended."""
        self._websocket.receive_eof()
        return self._end(None)

    def receive_data(self, data: Buffer) -> list[ChannelEvent]:
        """What bytes from the network mean, in order. Nothing after ``ChannelsEnded``."""
        events: list[ChannelEvent] = []
        if self._ended:
            return events
        for event in self._websocket.receive_data(data):
            if isinstance(event, MessagePart):
                try:
                    self._receive(event, events)
                except WebSocketError as error:
                    self._websocket.close(error.code, str(error))
                    events += self._end(error)
                    break
            elif isinstance(event, CloseReceived):
                events += self._end(None)
            elif isinstance(event, Failed):
                events += self._end(event.error)
        return events

    def _receive(self, part: MessagePart, events: list[ChannelEvent]) -> None:
        data = part.data
        if part.first:
            self._channel, self._closing, self._base64, self._padded = None, b"", b"", False
        if self._channel is None and data:
            self._channel, data = data[0], data[1:]
            if not (self._channel == _CLOSE_CHANNEL and self._protocol.closes_channels) and self._protocol.base64:
                self._channel -= _DIGIT
        if self._channel is None:
            return
        if self._channel == _CLOSE_CHANNEL and self._protocol.closes_channels:
            self._receive_close(data, part.last, events)
            return
        if self._channel not in self._readable or self._channel in self._closed_channels:
            return
        if self._protocol.base64:
            data = self._decode(data, part.last)
        if data:
            self._unacknowledged += len(data)
            events.append(ChannelData(self._channel, data))

    def _receive_close(self, data: Buffer, last: bool, events: list[ChannelEvent]) -> None:
        self._closing += data[:2]
        if len(data) > 2 or len(self._closing) > 1 or (last and not self._closing):
            raise WebSocketError("a message that closes a channel has not two bytes")
        if not last:
            return
        channel = self._closing[0]
        if channel >= self._channels:
            raise WebSocketError(f"a message closes channel {channel}, which there is not")
        if channel in self._readable and channel not in self._closed_channels:
            self._closed_channels.add(channel)
            events.append(ChannelClosed(channel))

    def _decode(self, data: Buffer, last: bool) -> bytes:
        text = self._base64 + data
        whole = len(text) - len(text) % 4
        self._base64 = text[whole:]
        text = text[:whole]
        if (last and self._base64) or (text and self._padded):
            raise WebSocketError("a message's payload is not base64", code=1007)
        self._padded = text.endswith(b"=")
        try:
            return binascii.a2b_base64(text, strict_mode=True)
        except binascii.Error:
            raise WebSocketError("a message's payload is not base64", code=1007) from None

    def _end(self, error: WebSocketError | None) -> list[ChannelEvent]:
        if self._ended:
            return []
        self._ended = True
        return [ChannelsEnded(error)]

"""Bytes between a real API server and a node, and what they mean: a recording of ../shared as requests, pieces, frames."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.spdy.frame_parser import FrameParser
from virtual_kubelet.streaming.spdy.frames import Data, Frame, GoAway, Ping, RstStream, SynReply, SynStream
from virtual_kubelet.streaming.websocket.connection import (
    CloseReceived,
    Failed,
    MessagePart,
    WebSocketConnection,
)

NODE, API_SERVER = "kubelet", "apiserver"


class Piece(NamedTuple):
    """What one side sent at once."""

    sender: str
    data: bytes


@dataclass
class Head:
    """The first line and the headers of an HTTP message."""

    line: str
    headers: list[tuple[str, str]]

    @classmethod
    def parse(cls, data: bytes) -> Head:
        line, *rest = data.decode().split("\r\n")
        return cls(line, [(name.lower(), value) for name, _, value in (text.partition(": ") for text in rest)])

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def one(self, name: str) -> str:
        (value,) = self.all(name)
        return value


@dataclass
class Recording:
    """One connection."""

    request: Head
    response: Head
    pieces: list[Piece]  # after the heads

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.request.line.split(" ")[1]).query)

    @property
    def is_websocket(self) -> bool:
        return bool(self.request.all("sec-websocket-key"))

    def sent_by(self, sender: str) -> bytes:
        return b"".join(piece.data for piece in self.pieces if piece.sender == sender)


def load(path: Path) -> Recording:
    heads: dict[str, bytes | Head] = {NODE: b"", API_SERVER: b""}
    pieces = []
    for line in path.read_text().splitlines():
        row: dict[str, Any] = json.loads(line)
        if "hex" not in row:
            continue
        sender, data = row["from"], bytes.fromhex(row["hex"])
        head = heads[sender]
        if isinstance(head, bytes):
            head += data
            text, end, data = head.partition(b"\r\n\r\n")
            heads[sender] = Head.parse(text) if end else head
        if data:
            pieces.append(Piece(sender, data))
    request, response = heads[API_SERVER], heads[NODE]
    assert isinstance(request, Head)
    assert isinstance(response, Head)
    return Recording(request, response, pieces)


@dataclass
class SpdyMeaning:
    """What one side of a SPDY session said, without regard to how it cut its data."""

    opened: list[SynStream] = field(default_factory=list)
    replies: list[SynReply] = field(default_factory=list)
    data: dict[int, bytes] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    pings: list[int] = field(default_factory=list)
    goaway: GoAway | None = None

    def add(self, frame: Frame) -> None:
        match frame:
            case SynStream():
                self.opened.append(frame)
            case SynReply():
                self.replies.append(frame)
            case Data(stream_id, data, fin):
                if data:
                    self.data[stream_id] = self.data.get(stream_id, b"") + bytes(data)
                if fin:
                    assert stream_id not in self.ends
                    self.ends[stream_id] = "FIN"
            case RstStream(stream_id, status):
                assert stream_id not in self.ends
                self.ends[stream_id] = f"RST {status}"
            case Ping(number):
                self.pings.append(number)
            case GoAway():
                assert self.goaway is None
                self.goaway = frame
            case _:
                raise AssertionError(f"a frame that no recording has: {frame}")

    def loosely(self) -> SpdyMeaning:
        """Without regard to whether a stream was half-closed or reset when the session ended."""
        return SpdyMeaning(
            self.opened, self.replies, self.data, dict.fromkeys(sorted(self.ends), "ended"), self.pings, self.goaway
        )


class SpdyReader:
    """Reads one side of a session, bare or in a WebSocket."""

    def __init__(self, sender: str, *, tunnelled: bool) -> None:
        self.parser = FrameParser()
        self.websocket = WebSocketConnection(client=sender == NODE) if tunnelled else None
        self.meaning = SpdyMeaning()

    def feed(self, data: Buffer) -> list[Frame]:
        parts: list[Buffer] = [data]
        if self.websocket is not None:
            events = self.websocket.receive_data(data)
            assert not any(isinstance(event, Failed) for event in events)
            parts = [event.data for event in events if isinstance(event, MessagePart)]
        frames = [frame for part in parts for frame in self.parser.feed(part)]
        for frame in frames:
            self.meaning.add(frame)
        return frames


class ChannelReader:
    """Reads the node's side of channels in a WebSocket."""

    def __init__(self) -> None:
        self.websocket = WebSocketConnection(client=True)
        self.messages: list[tuple[int, bytes]] = []  # one after the other of a channel are one
        self.close: CloseReceived | None = None
        self._begun = b""

    def feed(self, data: Buffer) -> list[tuple[int, bytes]]:
        found: list[tuple[int, bytes]] = []
        for event in self.websocket.receive_data(data):
            assert not isinstance(event, Failed)
            if isinstance(event, CloseReceived):
                self.close = event
            elif isinstance(event, MessagePart):
                self._begun += event.data
                if event.last:
                    found.append((self._begun[0], self._begun[1:]))
                    self._begun = b""
        for channel, payload in found:
            if self.messages and self.messages[-1][0] == channel:
                payload = self.messages.pop()[1] + payload
            self.messages.append((channel, payload))
        return found

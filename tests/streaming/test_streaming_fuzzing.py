"""Whatever bytes come, in whatever pieces: events or a documented error, in memory that no claim makes grow."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.streaming.fuzz_targets import TARGETS
from virtual_kubelet.streaming.port_forward.spdy_session import SpdyPortForward
from virtual_kubelet.streaming.remote_command.session import RemoteCommandOptions
from virtual_kubelet.streaming.remote_command.spdy_session import SpdyRemoteCommand
from virtual_kubelet.streaming.remote_command.websocket_session import WebSocketRemoteCommand
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.spdy.frames import (
    FrameType,
    Setting,
    control_frame,
    data_header,
    number_frame,
    pair_frame,
    settings_frame,
    stream_block,
    syn_stream_block,
)
from virtual_kubelet.streaming.spdy.header_block import DICTIONARY, HeaderCompressor
from virtual_kubelet.streaming.websocket.frames import Opcode, apply_mask, frame_header

STREAMS = st.sampled_from([0, 1, 2, 3, 4, 5, 7, 0x7FFFFFFF])
FLAGS = st.integers(0, 3)
TYPES = st.sampled_from(["error", "stdin", "stdout", "stderr", "resize", "data", ""])
PORTS = st.sampled_from(["80", "81", "x"])
KINDS = st.sampled_from(["syn", "reply", "headers", "rst", "ping", "away", "window", "data", "set", "junk"])
MASK = b"\x05\x81\x20\xfe"


@st.composite
def spdy_frames(draw: st.DrawFn) -> bytes:
    """Frames that are right one by one, in an order and of numbers that need not be."""
    compressor, wire = HeaderCompressor(), b""
    for kind in draw(st.lists(KINDS, max_size=14)):
        stream = draw(STREAMS)
        headers = [("streamtype", draw(TYPES)), ("port", draw(PORTS)), ("requestid", draw(st.sampled_from(["0", "1"])))]
        if kind == "syn":
            payload = syn_stream_block(stream, 0, 0, compressor.compress(headers))
            wire += control_frame(FrameType.SYN_STREAM, draw(FLAGS), payload)
        elif kind in ("reply", "headers"):
            frame = FrameType.SYN_REPLY if kind == "reply" else FrameType.HEADERS
            wire += control_frame(frame, draw(FLAGS), stream_block(stream, compressor.compress(headers)))
        elif kind in ("rst", "away", "window"):
            frame = {"rst": FrameType.RST_STREAM, "away": FrameType.GOAWAY, "window": FrameType.WINDOW_UPDATE}[kind]
            wire += pair_frame(frame, stream, draw(st.sampled_from([0, 1, 5, 0x7FFFFFFF])))
        elif kind == "ping":
            wire += number_frame(FrameType.PING, draw(st.integers(0, 5)))
        elif kind == "set":
            wire += settings_frame([Setting(draw(st.integers(0, 8)), draw(st.integers(0, 1 << 32 - 1)))])
        elif kind == "data":
            data = draw(st.binary(max_size=30))
            wire += data_header(stream, len(data), draw(st.booleans())) + data
        else:
            wire += draw(st.binary(max_size=12))
    return wire


@st.composite
def websocket_frames(draw: st.DrawFn, payload: st.SearchStrategy[bytes], masked: bool) -> bytes:
    wire = b""
    for opcode in draw(st.lists(st.sampled_from(list(Opcode)), max_size=8)):
        data = draw(payload)
        if opcode >= Opcode.CLOSE:
            data = data[:125]
        head = frame_header(opcode, len(data), fin=draw(st.booleans()), mask=MASK if masked else None)
        wire += head + (apply_mask(data, MASK) if masked else data)
    return wire


CHANNEL = st.builds(
    lambda channel, data: bytes([channel]) + data,
    st.sampled_from([0, 1, 4, 48, 52, 255, 9]),
    st.binary(max_size=20) | st.sampled_from([b"", b"\0", b"YWJj", b'{"Width":1,"Height":2}', b"}"]),
)


def likely(name: str) -> st.SearchStrategy[bytes]:
    """Bytes that get past a target's first checks."""
    if name == "header-block":
        return st.binary(max_size=60).map(lambda plain: zlib.compressobj(zdict=DICTIONARY).compress(plain))
    if name == "resize":
        return st.lists(st.sampled_from([b'{"Width":', b"1", b"}", b'"Height"', b",", b"x"])).map(b"".join)
    if name == "websocket-client":
        return websocket_frames(st.binary(max_size=30), masked=False)
    if name == "port-forward-tunnelled":
        return websocket_frames(spdy_frames(), masked=True)
    if "websocket" in name or "channels" in name:
        return websocket_frames(CHANNEL, masked=True)
    return spdy_frames()


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_events_or_a_documented_error(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=120)
    @given(
        st.builds(lambda size, data: bytes([size]) + data, st.sampled_from([0, 1, 3, 50]), st.binary() | likely(name))
    )
    def fuzz(data: bytes) -> None:
        target(data)

    fuzz()


# Streams that are made to cost more than they weigh


def syn_streams() -> bytes:
    compressor = HeaderCompressor()
    return b"".join(
        control_frame(
            FrameType.SYN_STREAM,
            0,
            syn_stream_block(
                number,
                0,
                0,
                compressor.compress([("streamtype", "data"), ("port", "80"), ("requestid", str(number))]),
            ),
        )
        for number in range(1, 8001, 2)
    )


def one_stream(*headers: tuple[str, str]) -> bytes:
    block = HeaderCompressor().compress(headers)
    return control_frame(FrameType.SYN_STREAM, 0, syn_stream_block(1, 0, 0, block))


def bomb() -> bytes:
    compressor = zlib.compressobj(9, zdict=DICTIONARY)
    block = compressor.compress(struct.pack(">I", 1) + bytes(60_000_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return control_frame(FrameType.SYN_STREAM, 0, syn_stream_block(1, 0, 0, block))


def masked(opcode: Opcode, payload: bytes, fin: bool = True) -> bytes:
    return frame_header(opcode, len(payload), fin=fin, mask=MASK) + apply_mask(payload, MASK)


OPTIONS = RemoteCommandOptions(stdin=True, stdout=True, tty=True)
HOSTILE: dict[str, tuple[Callable[[], SpdyRemoteCommand | SpdyPortForward | WebSocketRemoteCommand], bytes]] = {
    "thousands of streams": (lambda: SpdyPortForward(SpdyConnection(client=False)), syn_streams()),
    "a header that expands to 60 MB": (lambda: SpdyPortForward(SpdyConnection(client=False)), bomb()),
    "a skipped frame of 16 MB": (
        lambda: SpdyPortForward(SpdyConnection(client=False)),
        struct.pack(">HHI", 0x8003, 77, 0xFFFFFF) + bytes(0xFFFFFF),
    ),
    "sizes before the streams are there": (
        lambda: SpdyRemoteCommand(OPTIONS, "v4.channel.k8s.io"),
        one_stream(("streamtype", "resize")) + (data_header(1, 2, False) + b"{}") * 10_000,
    ),
    "one byte at a time before the streams are there": (
        lambda: SpdyRemoteCommand(OPTIONS, "v4.channel.k8s.io"),
        one_stream(("streamtype", "stdin")) + (data_header(1, 1, False) + b"x") * 30_000,
    ),
    "data that comes before its error stream": (
        lambda: SpdyPortForward(SpdyConnection(client=False)),
        one_stream(("streamtype", "data"), ("port", "80")) + (data_header(1, 1, False) + b"x") * 30_000,
    ),
    "empty data frames": (
        lambda: SpdyRemoteCommand(OPTIONS, "v4.channel.k8s.io"),
        one_stream(("streamtype", "stdin")) + data_header(1, 0, False) * 30_000,
    ),
    "a message without end": (
        lambda: WebSocketRemoteCommand(OPTIONS, "v5.base64.channel.k8s.io"),
        b"\x82\xff" + (1 << 62).to_bytes(8, "big") + MASK + apply_mask(b"0" + b"QUFB" * 250_000, MASK),
    ),
    "a resize without end": (
        lambda: WebSocketRemoteCommand(OPTIONS, "v5.channel.k8s.io"),
        masked(Opcode.BINARY, b"\x04" + b"{" * 2_000_000),
    ),
    "fragments without end": (
        lambda: WebSocketRemoteCommand(OPTIONS, "v5.channel.k8s.io"),
        masked(Opcode.BINARY, b"\x00", fin=False) + masked(Opcode.CONTINUATION, b"", fin=False) * 30_000,
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_memory_is_bounded_whatever_a_peer_sends(name: str) -> None:
    make, received = HOSTILE[name]
    node = make()
    tracemalloc.start()
    try:
        for start in range(0, len(received), 16 * 1024):
            node.receive_data(received[start : start + 16 * 1024])
            node.data_to_send()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000

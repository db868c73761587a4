"""SPDY frames from bytes, in any pieces: the same frames, or a SpdyError; nothing held but what a frame still lacks."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.streaming.pieces import cut, cuts
from virtual_kubelet.errors import SpdyError
from virtual_kubelet.streaming.spdy.frame_parser import FrameParser, ParserLimits
from virtual_kubelet.streaming.spdy.frames import (
    Data,
    Frame,
    FrameType,
    GoAway,
    HeadersFrame,
    Ping,
    RstStream,
    Setting,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
    control_frame,
    data_header,
    number_frame,
    pair_frame,
    settings_frame,
    stream_block,
    syn_stream_block,
)
from virtual_kubelet.streaming.spdy.header_block import HeaderCompressor, Headers

STREAM_IDS = st.integers(1, 0x7FFFFFFF)
NUMBERS = st.integers(0, 0xFFFFFFFF)
HEADERS: st.SearchStrategy[Headers] = st.dictionaries(
    st.sampled_from(["streamtype", "port", "requestid"]), st.sampled_from(["data", "error", "8080", ""])
).map(lambda headers: tuple(headers.items()))
FRAMES: st.SearchStrategy[Frame] = st.one_of(
    st.builds(SynStream, STREAM_IDS, st.integers(0, 9), st.integers(0, 7), st.booleans(), st.booleans(), HEADERS),
    st.builds(SynReply, STREAM_IDS, st.booleans(), HEADERS),
    st.builds(HeadersFrame, STREAM_IDS, st.booleans(), HEADERS),
    st.builds(RstStream, STREAM_IDS, NUMBERS),
    st.builds(
        Settings, st.lists(st.builds(Setting, st.integers(0, 0xFFFFFF), NUMBERS, st.integers(0, 255))).map(tuple)
    ),
    st.builds(Ping, NUMBERS),
    st.builds(GoAway, st.integers(0, 0x7FFFFFFF), NUMBERS),
    st.builds(WindowUpdate, st.integers(0, 0x7FFFFFFF), st.integers(0, 0x7FFFFFFF)),
    st.builds(Data, STREAM_IDS, st.binary(max_size=50).map(memoryview), st.booleans()),
)


def encode(frame: Frame, compressor: HeaderCompressor) -> bytes:
    match frame:
        case SynStream():
            payload = syn_stream_block(
                frame.stream_id, frame.associated, frame.priority, compressor.compress(frame.headers)
            )
            return control_frame(FrameType.SYN_STREAM, frame.fin | frame.unidirectional << 1, payload)
        case SynReply() | HeadersFrame():
            kind = FrameType.SYN_REPLY if isinstance(frame, SynReply) else FrameType.HEADERS
            return control_frame(kind, frame.fin, stream_block(frame.stream_id, compressor.compress(frame.headers)))
        case RstStream(stream_id, status):
            return pair_frame(FrameType.RST_STREAM, stream_id, status)
        case GoAway(stream_id, status):
            return pair_frame(FrameType.GOAWAY, stream_id, status)
        case WindowUpdate(stream_id, delta):
            return pair_frame(FrameType.WINDOW_UPDATE, stream_id, delta)
        case Ping(number):
            return number_frame(FrameType.PING, number)
        case Settings(settings):
            return settings_frame(settings)
        case Data(stream_id, data, fin):
            return data_header(stream_id, len(data), fin) + bytes(data)


def joined(frames: list[Frame]) -> list[Any]:
    """Parts of one DATA frame as one."""
    whole: list[Any] = []
    unfinished = 0
    for frame in frames:
        if not isinstance(frame, Data):
            whole.append(frame)
            unfinished = 0
        elif unfinished == frame.stream_id:
            whole[-1] = Data(unfinished, memoryview(bytes(whole[-1].data) + bytes(frame.data)), frame.fin)
        else:
            whole.append(frame)
        unfinished = frame.stream_id if isinstance(frame, Data) and not frame.fin else 0
    return whole


@given(st.lists(FRAMES, max_size=10), cuts())
def test_frames_in_any_pieces_come_out_as_they_went_in(frames: list[Frame], places: list[int]) -> None:
    compressor, parser = HeaderCompressor(), FrameParser()
    wire = b"".join(encode(frame, compressor) for frame in frames)
    found = [frame for piece in cut(wire, places) for frame in parser.feed(piece)]
    assert joined(found) == joined(frames)
    assert parser.held == 0


def test_payload_is_passed_on_as_it_comes_without_a_copy() -> None:
    parser = FrameParser()
    first = data_header(1, 10, True) + b"01234"
    (part,) = parser.feed(first)
    assert isinstance(part, Data)
    assert part == Data(1, memoryview(b"01234"), False)
    assert part.data.obj is first
    assert list(parser.feed(b"56789")) == [Data(1, memoryview(b"56789"), True)]


def test_an_empty_data_frame_is_a_frame() -> None:
    assert list(FrameParser().feed(data_header(5, 0, True))) == [Data(5, memoryview(b""), True)]


@pytest.mark.parametrize("kind", [0, 5, 10, 11, 0xFFFF])
def test_frames_of_unknown_types_are_skipped_whatever_their_length(kind: int) -> None:
    parser = FrameParser()
    size = 10_000_000
    assert list(parser.feed(struct.pack(">HHI", 0x8003, kind, size))) == []
    for _ in range(size // 100_000):
        assert list(parser.feed(bytes(100_000))) == []
        assert parser.held == 0
    assert list(parser.feed(number_frame(FrameType.PING, 1))) == [Ping(1)]


BAD: list[tuple[str, bytes, str]] = [
    ("data for stream 0", data_header(0, 1, False), "stream 0"),
    ("another version", struct.pack(">HHI", 0x8002, 1, 10), "version 3"),
    ("a short RST_STREAM", struct.pack(">HHI", 0x8003, 3, 7), "RST_STREAM frame has 7"),
    ("a long RST_STREAM", struct.pack(">HHI", 0x8003, 3, 9), "RST_STREAM frame has 9"),
    ("a PING of 8 bytes", struct.pack(">HHI", 0x8003, 6, 8), "PING frame has 8"),
    ("a short GOAWAY", struct.pack(">HHI", 0x8003, 7, 4), "GOAWAY frame has 4"),
    ("a short WINDOW_UPDATE", struct.pack(">HHI", 0x8003, 9, 0), "WINDOW_UPDATE frame has 0"),
    ("a short SYN_STREAM", struct.pack(">HHI", 0x8003, 1, 9), "SYN_STREAM frame has 9"),
    ("a short SYN_REPLY", struct.pack(">HHI", 0x8003, 2, 3), "SYN_REPLY frame has 3"),
    ("a short HEADERS", struct.pack(">HHI", 0x8003, 8, 3), "HEADERS frame has 3"),
    ("SETTINGS without a number", struct.pack(">HHI", 0x8003, 4, 3), "SETTINGS frame has 3"),
    ("SETTINGS of another length", control_frame(FrameType.SETTINGS, 0, b"\0\0\0\2" + bytes(8)), "as long as"),
    ("SYN_STREAM 0", control_frame(FrameType.SYN_STREAM, 0, bytes(10)), "stream 0"),
    ("SYN_REPLY 0", control_frame(FrameType.SYN_REPLY, 0, bytes(4)), "stream 0"),
]


@pytest.mark.parametrize(("data", "message"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_no_frame_is_an_error_after_the_frames_before_it(data: bytes, message: str) -> None:
    frames = FrameParser().feed(number_frame(FrameType.PING, 7) + data)
    assert next(frames) == Ping(7)
    with pytest.raises(SpdyError, match=message) as caught:
        list(frames)
    assert caught.value.goaway == 1


def test_a_control_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    limits = ParserLimits(max_control_bytes=100)
    head = struct.pack(">HHI", 0x8003, 1, 100)
    assert list(FrameParser(limits).feed(head)) == []
    with pytest.raises(SpdyError, match="more than 100 bytes"):
        list(FrameParser(limits).feed(struct.pack(">HHI", 0x8003, 1, 101)))


def test_the_number_of_settings_is_limited() -> None:
    limits = ParserLimits(max_settings=2)
    assert list(FrameParser(limits).feed(settings_frame([Setting(4, 1)] * 2))) == [Settings((Setting(4, 1),) * 2)]
    with pytest.raises(SpdyError, match="more than 2 entries"):
        list(FrameParser(limits).feed(settings_frame([Setting(4, 1)] * 3)))


def test_headers_have_the_parsers_limits() -> None:
    wire = control_frame(FrameType.SYN_REPLY, 0, stream_block(1, HeaderCompressor().compress([("a", "1"), ("b", "2")])))
    assert list(FrameParser().feed(wire)) == [SynReply(1, False, (("a", "1"), ("b", "2")))]
    with pytest.raises(SpdyError, match="more than 1 headers"):
        list(FrameParser(ParserLimits(max_headers=1)).feed(wire))
    with pytest.raises(SpdyError, match="more than 20 bytes"):
        list(FrameParser(ParserLimits(max_header_bytes=20)).feed(wire))

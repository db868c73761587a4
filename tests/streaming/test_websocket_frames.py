"""WebSocket frames from bytes, in any pieces, masked or not; RFC 6455's examples; what is no frame is a WebSocketError."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.streaming.pieces import cut, cuts
from virtual_kubelet.errors import WebSocketError
from virtual_kubelet.streaming.websocket import frames
from virtual_kubelet.streaming.websocket.frames import (
    ControlFrame,
    FrameParser,
    Opcode,
    Payload,
    apply_mask,
    frame_header,
)

MASKS = st.binary(min_size=4, max_size=4)


def slow_mask(data: bytes, mask: bytes, offset: int = 0) -> bytes:
    return bytes(byte ^ mask[(offset + index) % 4] for index, byte in enumerate(data))


@pytest.fixture(params=["in C", "in Python"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in Python":
        monkeypatch.setattr(frames, "_mask_in_place", None)
    else:
        assert frames._mask_in_place is not None, "aiohttp has it no more: look for another one"


@pytest.mark.usefixtures("both_ways")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), MASKS, st.integers(0, 10))
def test_masking_is_xor_with_the_mask_repeated(data: bytes, mask: bytes, offset: int) -> None:
    assert apply_mask(data, mask, offset) == slow_mask(data, mask, offset)
    assert apply_mask(memoryview(data), mask, offset) == slow_mask(data, mask, offset)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("size", [16_383, 16_384, 16_385, 40_001])
def test_masking_of_long_data_has_no_seams(size: int) -> None:
    data = bytes(index % 251 for index in range(size))
    assert apply_mask(data, b"\x01\x02\x03\x84", 3) == slow_mask(data, b"\x01\x02\x03\x84", 3)


class Whole(NamedTuple):
    opcode: Opcode
    payload: bytes
    fin: bool


def whole(frames: list[Payload | ControlFrame]) -> list[Whole]:
    found: list[Whole] = []
    for frame in frames:
        if isinstance(frame, ControlFrame):
            found.append(Whole(frame.opcode, frame.payload, True))
        elif frame.frame_start:
            found.append(Whole(frame.opcode, bytes(frame.data), frame.fin))
        else:
            assert found[-1].opcode is frame.opcode
            found[-1] = Whole(frame.opcode, found[-1].payload + bytes(frame.data), frame.fin)
    return found


FRAMES = st.one_of(
    st.builds(
        Whole,
        st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION]),
        st.integers(0, 300).map(bytes) | st.binary(max_size=20),
        st.booleans(),
    ),
    st.builds(Whole, st.sampled_from([Opcode.PING, Opcode.PONG, Opcode.CLOSE]), st.binary(max_size=125), st.just(True)),
)


@given(st.lists(FRAMES, max_size=6), st.none() | MASKS, cuts())
def test_frames_in_any_pieces_come_out_as_they_went_in(
    frames: list[Whole], mask: bytes | None, places: list[int]
) -> None:
    wire = b"".join(
        frame_header(frame.opcode, len(frame.payload), fin=frame.fin, mask=mask)
        + (frame.payload if mask is None else slow_mask(frame.payload, mask))
        for frame in frames
    )
    parser = FrameParser(masked=mask is not None)
    assert whole([part for piece in cut(wire, places) for part in parser.feed(piece)]) == frames
    assert parser.held == 0


@pytest.mark.parametrize(
    ("wire", "masked", "expected"),
    [
        (b"\x81\x05Hello", False, [Whole(Opcode.TEXT, b"Hello", True)]),
        (b"\x81\x857\xfa!=\x7f\x9fMQX", True, [Whole(Opcode.TEXT, b"Hello", True)]),
        (
            b"\x01\x03Hel\x80\x02lo",
            False,
            [Whole(Opcode.TEXT, b"Hel", False), Whole(Opcode.CONTINUATION, b"lo", True)],
        ),
        (b"\x89\x05Hello", False, [Whole(Opcode.PING, b"Hello", True)]),
        (b"\x8a\x857\xfa!=\x7f\x9fMQX", True, [Whole(Opcode.PONG, b"Hello", True)]),
        (b"\x82\x7e\x01\x00" + bytes(256), False, [Whole(Opcode.BINARY, bytes(256), True)]),
        (b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + bytes(65536), False, [Whole(Opcode.BINARY, bytes(65536), True)]),
    ],
)
def test_the_examples_of_rfc_6455(wire: bytes, masked: bool, expected: list[Whole]) -> None:
    assert whole(list(FrameParser(masked=masked).feed(wire))) == expected
    if not masked:
        assert b"".join(frame_header(f.opcode, len(f.payload), fin=f.fin) + f.payload for f in expected) == wire


def test_payload_is_passed_on_as_it_comes_and_unmasked_payload_is_not_copied() -> None:
    parser = FrameParser(masked=False)
    first = b"\x82\x0a01234"
    (part,) = parser.feed(first)
    assert part == Payload(memoryview(b"01234"), Opcode.BINARY, True, False, True)
    assert isinstance(part, Payload)
    assert isinstance(part.data, memoryview)
    assert part.data.obj is first
    assert list(parser.feed(b"56789")) == [Payload(memoryview(b"56789"), Opcode.BINARY, False, True, True)]


@pytest.mark.parametrize(
    ("wire", "masked", "message"),
    [
        (b"\xc2\x00", False, "reserved bits"),
        (b"\x83\x00", False, "reserved opcode 3"),
        (b"\x8b\x00", False, "reserved opcode 11"),
        (b"\x82\x00", True, "is not masked"),
        (b"\x82\x80", False, "is masked"),
        (b"\x09\x00", False, "control frame is fragmented"),
        (b"\x89\x7e\x00\x7e", False, "more than 125"),
        (b"\x82\x7e\x00\x7d", False, "length is not written"),
        (b"\x82\x7f" + struct.pack(">Q", 65535), False, "length is not written"),
        (b"\x82\x7f" + struct.pack(">Q", 1 << 63), False, "length is not written"),
    ],
)
def test_what_is_no_frame_is_an_error_after_the_frames_before_it(wire: bytes, masked: bool, message: str) -> None:
    before = b"\x8a\x80abcd" if masked else b"\x8a\x00"
    frames = FrameParser(masked=masked).feed(before + wire)
    assert next(frames) == ControlFrame(Opcode.PONG, b"")
    with pytest.raises(WebSocketError, match=message) as caught:
        list(frames)
    assert caught.value.code == 1002


@given(st.binary(max_size=300), st.booleans(), cuts())
def test_any_bytes_are_frames_or_an_error_and_next_to_nothing_is_held(
    wire: bytes, masked: bool, places: list[int]
) -> None:
    parser = FrameParser(masked=masked)
    try:
        for piece in cut(wire, places):
            for _ in parser.feed(piece):
                pass
            assert parser.held <= 14 + 125
    except WebSocketError:
        pass

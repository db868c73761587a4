"""Header blocks: what goes in comes out, what breaks the rules is a SpdyError, whatever it claims to expand to."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtual_kubelet.errors import SpdyError
from virtual_kubelet.streaming.spdy.header_block import (
    DICTIONARY,
    HeaderCompressor,
    HeaderDecompressor,
    Headers,
    first_header,
)

NAMES = st.text(
    st.characters(codec="ascii", exclude_characters="\0", exclude_categories=["Lu"]), min_size=1, max_size=20
)
VALUES = st.text(st.characters(codec="latin-1", exclude_characters="\0"), min_size=1, max_size=40)


def block(*headers: tuple[bytes, bytes], count: int | None = None, tail: bytes = b"") -> bytes:
    plain = struct.pack(">I", len(headers) if count is None else count)
    for name, value in headers:
        plain += struct.pack(">I", len(name)) + name + struct.pack(">I", len(value)) + value
    return compressed(plain + tail)


def compressed(plain: bytes) -> bytes:
    compressor = zlib.compressobj(9, zdict=DICTIONARY)
    return compressor.compress(plain) + compressor.flush(zlib.Z_SYNC_FLUSH)


def decompressor(max_bytes: int = 1000, max_headers: int = 10) -> HeaderDecompressor:
    return HeaderDecompressor(max_bytes=max_bytes, max_headers=max_headers)


def test_the_dictionary_is_the_one_of_spdy_3() -> None:
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2  # the id in the first bytes of every session
    assert len(DICTIONARY) == 1423


@given(st.lists(st.lists(st.tuples(NAMES, VALUES), max_size=8), max_size=5))
def test_blocks_of_one_session_come_out_as_they_went_in(blocks: list[list[tuple[str, str]]]) -> None:
    compressor, reader = HeaderCompressor(), decompressor(100_000, 100)
    for headers in blocks:
        found = reader.decompress(compressor.compress(headers))
        assert sorted(found) == sorted(headers)
        for name, _ in headers:
            assert [v for n, v in found if n == name] == [v for n, v in headers if n == name]


def test_values_of_one_name_are_kept_in_order() -> None:
    headers: Headers = (("a", "1"), ("a", "2"))
    assert decompressor().decompress(HeaderCompressor().compress(headers)) == headers


def test_the_first_value_is_found_by_name() -> None:
    assert first_header((("a", "1"), ("a", "2")), "a") == "1"
    assert first_header((), "a", "none") == "none"


@pytest.mark.parametrize("name", ["", "Upper", "nul\0", "ümlaut"])
def test_names_that_spdy_cannot_carry_are_not_sent(name: str) -> None:
    with pytest.raises(ValueError, match="header name"):
        HeaderCompressor().compress([(name, "x")])


@pytest.mark.parametrize("headers", [[("a", "x\0y")], [("a", "x"), ("a", "")]])
def test_values_that_spdy_cannot_carry_are_not_sent(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match="header 'a'"):
        HeaderCompressor().compress(headers)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x78\x9cnonsense", "cannot be decompressed"),
        (zlib.compress(b"\0\0\0\0"), "ended before the session"),
        (b"", "cut short"),
        (block((b"a", b"b"), count=2), "cut short"),
        (compressed(b"\0\0\0\1\0\0\0\5ab"), "cut short"),
        (compressed(b"\0\0"), "cut short"),
        (block((b"a", b"b"), tail=b"!"), "longer than its headers"),
        (block((b"A", b"b")), "not in lower case"),
        (block((b"", b"b")), "empty"),
        (block((b"a\0b", b"b")), "empty"),
        (block((b"\xff", b"b")), "not ASCII"),
        (block((b"a", b"b"), (b"a", b"c")), "twice"),
        (block((b"a", b"b\0\0c")), "empty value"),
        (block((b"a", b"\0c")), "empty value"),
    ],
)
def test_a_block_that_breaks_the_rules_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(SpdyError, match=message):
        decompressor().decompress(data)


def test_a_block_may_expand_to_the_limit_but_not_beyond() -> None:
    at_limit = block((b"a", b"x" * 987))  # 4 + 4 + 1 + 4 + 987
    assert decompressor(1000).decompress(at_limit) == (("a", "x" * 987),)
    with pytest.raises(SpdyError, match="more than 999 bytes"):
        decompressor(999).decompress(at_limit)


def test_a_bomb_is_not_expanded() -> None:
    bomb = compressed(b"\0" * 50_000_000)
    assert len(bomb) < 60_000
    with pytest.raises(SpdyError, match="more than 1000 bytes"):
        decompressor().decompress(bomb)


def test_the_number_of_headers_is_limited_before_they_are_read() -> None:
    assert len(decompressor(max_headers=2).decompress(block((b"a", b""), (b"b", b"")))) == 2
    with pytest.raises(SpdyError, match="more than 2 headers"):
        decompressor(max_headers=2).decompress(block(count=3))
    with pytest.raises(SpdyError, match="more than 10 headers"):
        decompressor().decompress(block(count=0xFFFFFFFF))


@given(st.binary(max_size=300))
def test_any_bytes_are_headers_or_an_error(data: bytes) -> None:
    for candidate in (data, compressed(data)):
        try:
            headers = decompressor().decompress(candidate)
        except SpdyError:
            continue
        assert sum(len(n) + len(v) for n, v in headers) <= 1000

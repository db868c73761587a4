"""Bytes cut into pieces, for tests that a parser must not see where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hypothesis import strategies as st


def cuts() -> st.SearchStrategy[list[int]]:
    """Lengths of pieces; the rest is the last one."""
    return st.lists(st.integers(0, 40), max_size=60)


def cut(data: bytes, lengths: Sequence[int]) -> Iterator[bytes]:
    position = 0
    for length in lengths:
        yield data[position : position + length]
        position += length
    yield data[position:]

"""A watch's bytes to events, and what cannot be read among them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kube.api_stand_in import config_map, event, status
from virtual_kubelet.errors import ApiConnectionError, ApiError, GoneError
from virtual_kubelet.kube.watch import WatchEvent, decode_events, split_lines
from virtual_kubelet.objects.core_v1 import ConfigMap

DECODER = msgspec.json.Decoder(ConfigMap)


async def chunked(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def lines_of(chunks: Iterable[bytes], limit: int = 1000) -> list[bytes]:
    return [line async for lines in split_lines(chunked(chunks), limit) for line in lines]


def decoded(*lines: bytes) -> list[WatchEvent[ConfigMap]]:
    return list(decode_events(lines, DECODER))


@given(lines=st.lists(st.binary(min_size=1, max_size=20).filter(lambda b: b"\n" not in b)), size=st.integers(1, 30))
async def test_lines_come_out_as_they_went_in_however_they_are_cut(lines: list[bytes], size: int) -> None:
    text = b"".join(line + b"\n" for line in lines)
    assert await lines_of(text[i : i + size] for i in range(0, len(text), size)) == lines


async def test_an_unfinished_last_line_is_not_taken_for_a_line() -> None:
    assert await lines_of([b"one\ntw", b"o"]) == [b"one"]


async def test_empty_lines_are_skipped() -> None:
    assert await lines_of([b"\n\none\n\n"]) == [b"one"]


async def test_a_line_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert await lines_of([b"x" * 6, b"x" * 4, b"\n"], limit=10) == [b"x" * 10]
    for chunks in ([b"x" * 6, b"x" * 5, b"\n"], [b"x" * 11 + b"\n"], [b"a\n" + b"x" * 11]):
        with pytest.raises(ApiConnectionError, match="longer than 10 bytes"):
            await lines_of(chunks, limit=10)


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_an_event_carries_its_object(kind: str) -> None:
    (found,) = decoded(event(kind, config_map("c")))
    assert (found.type, found.object and found.object.metadata.name) == (kind, "c")


def test_a_bookmark_carries_its_version_and_says_if_it_ends_the_initial_events() -> None:
    meta = {"resourceVersion": "7", "creationTimestamp": None}
    end = {"resourceVersion": "8", "annotations": {"k8s.io/initial-events-end": "true"}}
    found = decoded(event("BOOKMARK", {"metadata": meta}), event("BOOKMARK", {"metadata": end}))
    assert found == [WatchEvent("BOOKMARK", None, "7"), WatchEvent("BOOKMARK", None, "8", initial_end=True)]


def test_events_before_an_error_are_delivered() -> None:
    events = decode_events([event("ADDED", config_map("c")), event("ERROR", status(410, "Expired", "old"))], DECODER)
    assert next(events).type == "ADDED"
    with pytest.raises(GoneError, match="old"):
        next(events)


@pytest.mark.parametrize("obj", [3, {"code": "x"}, None])
def test_an_error_that_cannot_be_read_ends_the_watch_too(obj: object) -> None:
    with pytest.raises(ApiError, match="an error that cannot be read"):
        decoded(event("ERROR", obj))


@pytest.mark.parametrize(
    "line", [b"nonsense", b"[]", b'{"type":"\xff"}', b'{"type":"ADDED"}', event("NEW", {}), event("BOOKMARK", 1),
             b'{"type":"ADDED","object":' + b"[" * 100_000],
)  # fmt: skip
def test_a_line_that_is_no_event_is_malformed_and_the_next_one_counts(line: bytes) -> None:
    found = decoded(line, event("ADDED", config_map("c")))
    assert [e.type for e in found] == ["MALFORMED", "ADDED"]
    assert found[0].identity is None


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_a_malformed_object_is_named_if_its_metadata_can_be_read(kind: str) -> None:
    bad = config_map("c", "12")
    bad["data"] = [1]
    not_utf_8 = json.dumps({"type": kind, "object": config_map("c", "12", data={"k": "@"})}).encode()
    for line in (event(kind, bad), not_utf_8.replace(b"@", b"\xff")):
        (found,) = decoded(line)
        assert (found.type, found.object, found.resource_version) == ("MALFORMED", None, "12")
        assert found.identity == ("ns", "c", "12")
        assert found.deleted is (kind == "DELETED")

"""Which lines a caller gets."""

from __future__ import annotations

import re
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.server.http_messages import QueryParameters
from virtual_kubelet.server.log_options import (
    LogFilter,
    TailBudget,
    format_log_time,
    held_bytes,
    parse_log_query,
)

NOW = datetime(2026, 11, 24, 12, 0, 0, 500_000, tzinfo=UTC)
SECOND = 1_000_000_000
#: The n-th line was written n seconds after the epoch.
LINES = [LogLine(n * SECOND, b"line %d\n" % n) for n in range(1, 6)]


def parse(query: str) -> ContainerLogOptions:
    return parse_log_query(QueryParameters(query), NOW)


class Filter(LogFilter):
    """Gives its pieces as one."""

    def fed(self, lines: list[LogLine]) -> bytes:
        return b"".join(self.feed(lines))

    def past(self) -> bytes:
        return b"".join(self.end_past())


def chosen(options: ContainerLogOptions, lines: list[LogLine] = LINES) -> bytes:
    """All that a caller gets of a log that ends."""
    filter_ = Filter(options, started_ns=10 * SECOND)
    return filter_.fed(lines) + filter_.past()


@pytest.mark.parametrize("limit", [None, 1, 9, 1000])
def test_lines_may_come_as_one_piece_where_nobody_looks_at_them(limit: int | None) -> None:
    options = ContainerLogOptions(limit_bytes=limit)
    joined = [LogLine(0, b"".join(line.data for line in LINES))]
    assert not options.lines_matter
    assert chosen(options, joined) == chosen(options) == joined[0].data[:limit]
    for named in (
        ContainerLogOptions(tail_lines=0),
        ContainerLogOptions(since=NOW),
        ContainerLogOptions(timestamps=True),
    ):
        assert named.lines_matter


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", ContainerLogOptions()),
        ("what=1&insecureSkipTLSVerifyBackend=true&stream=All", ContainerLogOptions()),
        ("tailLines=0", ContainerLogOptions(tail_lines=0)),
        ("tailLines=%2B5", ContainerLogOptions(tail_lines=5)),
        ("tailLines=9223372036854775807", ContainerLogOptions(tail_lines=2**63 - 1)),
        ("tailLines=1&tailLines=2", ContainerLogOptions(tail_lines=1)),
        ("tail=7&tailLines=2", ContainerLogOptions(tail_lines=7)),
        ("tail=all&tailLines=2", ContainerLogOptions()),
        ("limitBytes=1", ContainerLogOptions(limit_bytes=1)),
        ("sinceSeconds=90", ContainerLogOptions(since=NOW - timedelta(seconds=90))),
        ("sinceTime=2026-01-02T03:04:05Z", ContainerLogOptions(since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))),
        (
            "sinceTime=2026-01-02T03:04:05.25%2B01:00",
            ContainerLogOptions(since=datetime(2026, 1, 2, 2, 4, 5, 250_000, tzinfo=UTC)),
        ),
        ("sinceTime=", ContainerLogOptions(since=datetime(1970, 1, 1, tzinfo=UTC))),
        ("follow=true&timestamps=1&previous=T", ContainerLogOptions(follow=True, timestamps=True, previous=True)),
        ("follow&timestamps=&previous=yes", ContainerLogOptions(follow=True, timestamps=True, previous=True)),
        ("follow=false&timestamps=0&previous=FALSE", ContainerLogOptions()),
    ],
)
def test_a_query_is_read_as_the_kubelet_does(query: str, options: ContainerLogOptions) -> None:
    assert parse(query) == options


@pytest.mark.parametrize(
    "query",
    [
        "tailLines=x",
        "tailLines=",
        "tailLines=1.5",
        "tailLines=1_000",
        "tailLines=9223372036854775808",
        "tailLines=" + "9" * 5000,
        "limitBytes=x",
        "sinceSeconds=1s",
        "sinceTime=yesterday",
        "sinceTime=2026-13-01T00:00:00Z",
        "tail=some",
    ],
)
def test_what_cannot_be_decoded_is_400(query: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(query)
    assert (caught.value.status, str(caught.value)) == (400, '{"message": "Unable to decode query."}')


@pytest.mark.parametrize(
    "query",
    [
        "tailLines=-1",
        "limitBytes=0",
        "limitBytes=-5",
        "sinceSeconds=0",
        "sinceSeconds=-1",
        "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
        "stream=stdout",
        "stream=Stdout&tailLines=1",
    ],
)
def test_what_makes_no_sense_is_422(query: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(query)
    assert (caught.value.status, str(caught.value)) == (422, '{"message": "Invalid request."}')


@pytest.mark.parametrize("stream", ["Stdout", "Stderr"])
def test_one_stream_alone_cannot_be_had(stream: str) -> None:
    with pytest.raises(ProtocolError, match=f'unable to return the given log stream: "{stream}"') as caught:
        parse(f"stream={stream}")
    assert caught.value.status == 400


def test_since_may_lie_before_all_time() -> None:
    since = parse("sinceSeconds=9223372036854775807").since
    assert since is not None
    assert since <= datetime(1970, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (1_795_474_736_132_205_248, b"2026-11-23T22:58:56.132205248Z"),
        (1_795_474_736_000_000_000, b"2026-11-23T22:58:56.000000000Z"),
        (1, b"1970-01-01T00:00:00.000000001Z"),
        (253_402_300_799_999_999_999, b"9999-12-31T23:59:59.999999999Z"),
    ],
)
def test_times_have_nine_digits(time_ns: int, text: bytes) -> None:
    assert format_log_time(time_ns) == text


def test_without_options_everything_passes_unchanged() -> None:
    assert chosen(ContainerLogOptions(), [*LINES, LogLine(0, b"no newline")]) == b"".join(
        line.data for line in LINES
    ) + (b"no newline")


@pytest.mark.parametrize(
    ("count", "expected"), [(0, b""), (1, b"line 5\n"), (2, b"line 4\nline 5\n"), (99, b"".join(x.data for x in LINES))]
)
def test_the_tail(count: int, expected: bytes) -> None:
    assert chosen(ContainerLogOptions(tail_lines=count)) == expected


def test_since_is_inclusive_and_exact() -> None:
    options = ContainerLogOptions(since=datetime(1970, 1, 1, 0, 0, 4, tzinfo=UTC))
    assert chosen(options) == b"line 4\nline 5\n"
    assert chosen(options, [LogLine(4 * SECOND - 1, b"just before\n"), LogLine(4 * SECOND, b"at\n")]) == b"at\n"


def test_lines_of_unknown_time_pass_since_and_get_no_timestamp() -> None:
    options = ContainerLogOptions(since=datetime(2026, 1, 1, tzinfo=UTC), timestamps=True)
    assert chosen(options, [LogLine(0, b"when?\n")]) == b"when?\n"


def test_since_and_tail_both_count() -> None:
    since = datetime(1970, 1, 1, 0, 0, 4, tzinfo=UTC)
    assert chosen(ContainerLogOptions(since=since, tail_lines=1)) == b"line 5\n"
    assert chosen(ContainerLogOptions(since=since, tail_lines=4)) == b"line 4\nline 5\n"


@pytest.mark.parametrize("limit", range(1, 12))
def test_the_limit_is_exact(limit: int) -> None:
    filter_ = Filter(ContainerLogOptions(limit_bytes=limit), started_ns=0)
    assert filter_.fed(LINES[:1]) + filter_.fed(LINES[1:2]) == b"line 1\nline 2\n"[:limit]
    assert filter_.done


def test_a_limit_that_is_not_reached_does_not_end_anything() -> None:
    filter_ = Filter(ContainerLogOptions(limit_bytes=8), started_ns=0)
    assert filter_.fed(LINES[:1]) == b"line 1\n"
    assert not filter_.done


def test_the_limit_counts_timestamps() -> None:
    options = ContainerLogOptions(limit_bytes=33, timestamps=True)
    assert chosen(options) == b"1970-01-01T00:00:01.000000000Z li"


def test_a_tail_that_would_fill_memory_keeps_the_newest_lines() -> None:
    filter_ = Filter(ContainerLogOptions(tail_lines=1_000_000), started_ns=0, tail_bytes=held_bytes(LINES[0]) * 2)
    assert filter_.fed(LINES) + filter_.past() == b"line 4\nline 5\n"
    assert filter_.shortened


def test_a_tail_of_empty_lines_is_bounded_too() -> None:
    filter_ = Filter(ContainerLogOptions(tail_lines=2**63 - 1), started_ns=0, tail_bytes=1_000_000)
    tracemalloc.start()
    try:
        for number in range(100):
            filter_.fed([LogLine(SECOND + number * 1000 + n, b"\n") for n in range(1000)])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1_500_000
    assert 1000 < len(filter_.past()) < 10_000


def test_a_line_that_no_tail_may_hold_is_left_out() -> None:
    filter_ = Filter(ContainerLogOptions(tail_lines=1), started_ns=0, tail_bytes=200)
    assert filter_.fed([LogLine(SECOND, b"x" * 1000)]) + filter_.past() == b""
    assert filter_.shortened


def test_a_tail_that_is_as_long_as_was_asked_for_is_not_shortened() -> None:
    filter_ = Filter(ContainerLogOptions(tail_lines=2), started_ns=0)
    assert filter_.fed(LINES) + filter_.past() == b"line 4\nline 5\n"
    assert not filter_.shortened


def test_the_tails_of_all_streams_share_one_budget() -> None:
    budget = TailBudget(held_bytes(LINES[0]) * 5)
    first = Filter(ContainerLogOptions(tail_lines=3), started_ns=0, budget=budget)
    second = Filter(ContainerLogOptions(tail_lines=3), started_ns=0, budget=budget)
    assert first.fed(LINES) + second.fed(LINES) == b""
    assert budget.held == budget.limit
    assert second.past() == b"line 4\nline 5\n"
    assert second.shortened
    assert not first.shortened
    first.close()
    assert budget.held == 0


def test_a_large_tail_comes_in_pieces() -> None:
    filter_ = LogFilter(ContainerLogOptions(tail_lines=100), started_ns=0)
    lines = [LogLine(SECOND, b"x" * 9_999 + b"\n") for _ in range(100)]
    assert list(filter_.feed(lines)) == []
    pieces = list(filter_.end_past())
    assert b"".join(pieces) == b"".join(line.data for line in lines)
    assert max(map(len, pieces)) < 80_000


#: A long line comes in parts, of which the last has the newline; the log ends amid a line.
PARTS = [
    LogLine(1 * SECOND, b"short\n"),
    LogLine(2 * SECOND, b"a long "),
    LogLine(3 * SECOND, b"line "),
    LogLine(4 * SECOND, b"in parts\n"),
    LogLine(5 * SECOND, b"no end"),
]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, b""),
        (1, b"no end"),
        (2, b"a long line in parts\nno end"),
        (3, b"short\na long line in parts\nno end"),
        (9, b"short\na long line in parts\nno end"),
    ],
)
def test_a_tail_counts_whole_lines_not_their_parts(count: int, expected: bytes) -> None:
    assert chosen(ContainerLogOptions(tail_lines=count), PARTS) == expected


def test_a_line_in_parts_has_one_timestamp_where_it_begins() -> None:
    assert chosen(ContainerLogOptions(timestamps=True), PARTS) == (
        b"1970-01-01T00:00:01.000000000Z short\n"
        b"1970-01-01T00:00:02.000000000Z a long line in parts\n"
        b"1970-01-01T00:00:05.000000000Z no end"
    )


def test_following_holds_the_past_back_until_it_is_over() -> None:
    filter_ = Filter(ContainerLogOptions(follow=True, tail_lines=1), started_ns=10 * SECOND)
    assert not filter_.seen
    assert filter_.fed(LINES) == b""
    assert filter_.seen
    assert filter_.in_past
    assert filter_.past() == b"line 5\n"
    assert not filter_.in_past
    assert filter_.fed([LogLine(6 * SECOND, b"late\n")]) == b"late\n"


def test_a_line_written_since_the_request_ends_the_past() -> None:
    filter_ = Filter(ContainerLogOptions(follow=True, tail_lines=1), started_ns=10 * SECOND)
    new = [LogLine(10 * SECOND, b"new 1\n"), LogLine(11 * SECOND, b"new 2\n")]
    assert filter_.fed([*LINES, *new]) == b"line 5\nnew 1\nnew 2\n"
    assert not filter_.in_past
    assert filter_.past() == b""


def test_following_with_tail_0_gives_only_what_is_new() -> None:
    filter_ = Filter(ContainerLogOptions(follow=True, tail_lines=0), started_ns=10 * SECOND)
    assert filter_.fed([*LINES, LogLine(10 * SECOND, b"new\n")]) == b"new\n"


@given(
    lines=st.lists(
        st.builds(
            lambda text, end: text.replace(b"\n", b"") + end, st.binary(max_size=8), st.sampled_from([b"\n", b""])
        ),
        max_size=12,
    ),
    tail=st.none() | st.integers(0, 14),
    limit=st.none() | st.integers(1, 60),
    since=st.none() | st.integers(0, 14),
    cut=st.integers(0, 12),
)
def test_however_lines_arrive_the_caller_gets_the_same(
    lines: list[bytes], tail: int | None, limit: int | None, since: int | None, cut: int
) -> None:
    log = [LogLine(n * SECOND, data) for n, data in enumerate(lines, 1)]
    options = ContainerLogOptions(
        tail_lines=tail,
        limit_bytes=limit,
        since=None if since is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=since),
    )
    kept = [data for n, data in enumerate(lines, 1) if since is None or n >= since]
    whole = re.findall(rb"[^\n]*\n|[^\n]+", b"".join(kept))  # however many parts each came in
    if tail is not None:
        whole = whole[-tail:] if tail else []
    expected = b"".join(whole)[:limit]
    assert chosen(options, log) == expected
    filter_ = Filter(options, started_ns=0)
    assert filter_.fed(log[:cut]) + filter_.fed(log[cut:]) + filter_.past() == expected

"""Which lines of a container's log a caller wants, by the kubelet's rules, and how they are written. Pure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.objects.times import parse_time
from virtual_kubelet.server.http_messages import QueryParameters

__all__ = ["LogFilter", "TailBudget", "format_log_time", "held_bytes", "parse_log_query"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}\Z")
_GREATEST: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STREAMS: Final = ("All", "Stdout", "Stderr")
#: A tuple, an integer, the head of a bytes object and a place in a queue.
_LINE_OVERHEAD: Final = 136
#: Lines are joined up to so many bytes: a large tail does not need its memory twice.
_PIECE: Final = 64 * 1024


def parse_log_query(query: QueryParameters, now: datetime) -> ContainerLogOptions:
    """The options in a query, by the kubelet's rules (getContainerLogs, ValidatePodLogOptions, runtime's converters).

    Unknown parameters do not count. Raises ``ProtocolError`` with the kubelet's texts: 400 for what cannot be decoded
    or served, 422 for values that make no sense.
    """
    try:
        tail = None if query.get("tail") == "all" else _integer(query, "tail" if query.get("tail") else "tailLines")
        limit = _integer(query, "limitBytes")
        seconds = _integer(query, "sinceSeconds")
        since = _time(query, "sinceTime")
    except ValueError:
        raise ProtocolError('{"message": "Unable to decode query."}', status=400) from None
    stream = query.get("stream", "All")
    if (
        (tail is not None and tail < 0)
        or (limit is not None and limit < 1)
        or (seconds is not None and (seconds < 1 or since is not None))
        or stream not in _STREAMS
        or (stream != "All" and tail is not None)
    ):
        raise ProtocolError('{"message": "Invalid request."}', status=422)
    if stream != "All":
        # Our lines do not say which of the two streams they came from; these are a kubelet's words where it cannot.
        raise ProtocolError(
            f'unable to return the given log stream: "{stream}". '
            "Please enable PodLogsQuerySplitStreams feature gate in kubelet",
            status=400,
        )
    if seconds is not None:
        since = now - timedelta(seconds=min(seconds, int((now - _EPOCH).total_seconds())))
    return ContainerLogOptions(
        tail_lines=tail,
        since=since,
        limit_bytes=limit,
        follow=_boolean(query, "follow"),
        timestamps=_boolean(query, "timestamps"),
        previous=_boolean(query, "previous"),
    )


def _integer(query: QueryParameters, name: str) -> int | None:
    if name not in query:
        return None
    text = query.get(name)
    if not _INTEGER.match(text):
        raise ValueError(name)
    number = int(text)
    if not -_GREATEST - 1 <= number <= _GREATEST:
        raise ValueError(name)
    return number


def _time(query: QueryParameters, name: str) -> datetime | None:
    if name not in query:
        return None
    text = query.get(name)
    # metav1.Time reads both as its zero value.
    return _EPOCH if text in ("", "null") else parse_time(text)


def _boolean(query: QueryParameters, name: str) -> bool:
    """As apimachinery's converter: there, and neither ``false`` nor ``0``."""
    return name in query and query.get(name).lower() not in ("false", "0")


def format_log_time(time_ns: int) -> bytes:
    """RFC 3339 with nine digits, in UTC: how the kubelet writes ``timestamps``."""
    seconds, nanoseconds = divmod(time_ns, 1_000_000_000)
    return b"%s.%09dZ" % ((_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").encode(), nanoseconds)


def held_bytes(line: LogLine) -> int:
    """What a line costs as long as it is kept: a log of empty lines fills memory, too."""
    return len(line.data) + _LINE_OVERHEAD


class TailBudget:
    """What the tails of all streams together may hold.

    Attributes:
        limit: bytes, as ``held_bytes`` counts.
        held: at this moment.
    """

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0


class LogFilter:
    """Turns lines into the bytes that a caller gets: ``since``, the tail, timestamps, and the limit to the byte.

    It does not matter which of the options the lines' source has applied already. Lines whose time is unknown (0) pass
    ``since`` and get no timestamp.

    A tail needs to know where the past ends. Without ``follow`` that is the end of the log. With it, a line written
    since the request came (``started_ns``) ends it, and so does whoever feeds this, by ``end_past`` when the log has
    been silent for a while. ``feed`` and ``end_past`` give pieces, which must all be taken; ``close`` must be called.

    Attributes:
        in_past: lines are held back for the tail.
        seen: at least one line has been fed.
        done: the limit is reached; nothing more will come.
        shortened: lines of the tail were left out, because it was too large to be held.
    """

    def __init__(
        self,
        options: ContainerLogOptions,
        *,
        started_ns: int,
        tail_bytes: int = 32 * 1024 * 1024,
        budget: TailBudget | None = None,
    ) -> None:
        """
        Args:
            options: what the caller wants.
            started_ns: when the request came.
            tail_bytes: most that the tail may hold in memory: of a larger one the oldest lines are left out.
            budget: shared with other streams; what does not fit is left out, too.
        """
        self.in_past = options.tail_lines is not None
        self.seen = False
        self.done = False
        self.shortened = False
        self._since_ns = 0 if options.since is None else _nanoseconds(options.since)
        self._tail_lines = options.tail_lines or 0
        self._tail_bytes = tail_bytes
        self._tail: deque[LogLine] = deque()
        self._held = 0
        self._held_ends = 0  # a long line comes in parts, of which the last has the newline
        self._mid_line = False  # whether what was written last ended amid a line
        self._budget = budget or TailBudget(tail_bytes)
        self._started_ns = started_ns if options.follow else 0
        self._timestamps = options.timestamps
        self._remaining = options.limit_bytes

    def feed(self, lines: Iterable[LogLine]) -> Iterator[bytes]:
        """What these lines give now."""
        if not (self.in_past or self._since_ns or self._timestamps) and self._remaining is None:
            self.seen = True
            return iter([b"".join([line.data for line in lines])])
        return self._write(self._choose(lines))

    def end_past(self) -> Iterator[bytes]:
        """The past has been read, or the log has ended: the tail."""
        return self._write(self._release())

    def close(self) -> None:
        """Give up the tail, if there is one."""
        self._budget.held -= self._held
        self._held = 0
        self._tail.clear()

    def _choose(self, lines: Iterable[LogLine]) -> Iterator[LogLine]:
        for line in lines:
            self.seen = True
            if 0 < line.time_ns < self._since_ns:
                continue
            if self.in_past:
                if not self._started_ns or line.time_ns < self._started_ns:
                    self._hold(line)
                    continue
                yield from self._release()
            yield line

    def _hold(self, line: LogLine) -> None:
        if not line.data:
            return
        ends = line.data.endswith(b"\n")
        self._tail.append(line)
        self._count(held_bytes(line))
        self._held_ends += ends
        while self._tail:
            too_many = self._held_ends + (not ends) > self._tail_lines
            if not too_many and self._held <= self._tail_bytes and self._budget.held <= self._budget.limit:
                return
            self.shortened = self.shortened or not too_many
            dropped = self._tail.popleft()
            self._count(-held_bytes(dropped))
            self._held_ends -= dropped.data.endswith(b"\n")

    def _count(self, size: int) -> None:
        self._held += size
        self._budget.held += size

    def _release(self) -> Iterator[LogLine]:
        self.in_past = False
        while self._tail:
            line = self._tail.popleft()
            self._count(-held_bytes(line))
            yield line

    def _write(self, lines: Iterable[LogLine]) -> Iterator[bytes]:
        parts: list[bytes] = []
        size = 0
        for line in lines:
            part = self._stamped(line) if self._timestamps else line.data
            if self._remaining is not None:
                part = part[: self._remaining]
                self._remaining -= len(part)
                self.done = self._remaining == 0
            parts.append(part)
            size += len(part)
            if self.done:
                break
            if size >= _PIECE:
                yield b"".join(parts)
                parts.clear()
                size = 0
        if size:
            yield b"".join(parts)

    def _stamped(self, line: LogLine) -> bytes:
        begins, self._mid_line = not self._mid_line, not line.data.endswith(b"\n")
        return b"%s %s" % (format_log_time(line.time_ns), line.data) if begins and line.time_ns else line.data


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000

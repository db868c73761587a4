"""A container's log files, as the supervisor writes them: CRI lines, rotated; read forward, or from the end. Blocking.

``log.1``, ``log.2`` … in the order in which they were written: a file never changes its name, and once there is a later
one nothing is added to it. So a reader that is any number of rotations behind just goes on with the next number.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

from virtual_kubelet import LogLine
from virtual_kubelet.providers.process.supervised_container import log_numbers, log_path

__all__ = ["LogReader", "parse_line", "parse_lines", "text_of"]

_CHUNK: Final = 128 * 1024
#: Before each line's text, as the supervisor writes nearly all of them.
_HEADS: Final = re.compile(rb"\n.{29}Z .{6} F ")


def parse_line(line: bytes) -> LogLine:
    """``time stream F|P text\\n``: a part of a line (P) has no newline in its text."""
    if line[29:31] == b"Z " and line[37:40] == b" F ":  # as the supervisor writes nearly all of them
        try:
            return LogLine(_seconds(line[:19]) * 1_000_000_000 + int(line[20:29]), line[40:])
        except ValueError:
            pass  # it only looks so
    stamp, _, kind, text = [*line.split(b" ", 3), b"", b"", b""][:4]
    return LogLine(_nanoseconds(stamp), text if kind == b"F" else text.removesuffix(b"\n"))


def parse_lines(block: bytes) -> Iterator[LogLine]:
    """Whole lines."""
    for line in block[:-1].split(b"\n"):
        yield parse_line(line + b"\n")


def text_of(block: bytes) -> bytes:
    """What whole lines say, without their times: a tenth of the work of ``parse_lines``."""
    texts = _HEADS.split(b"\n" + block)
    if len(texts) > block.count(b"\n"):  # each line has a head
        return b"\n".join(texts)[1:]
    return b"".join([line.data for line in parse_lines(block)])


def _nanoseconds(stamp: bytes) -> int:
    seconds, _, fraction = stamp.removesuffix(b"Z").partition(b".")
    try:
        return _seconds(seconds) * 1_000_000_000 + int(fraction.ljust(9, b"0")[:9] or 0)
    except ValueError:
        return 0


@lru_cache(maxsize=256)
def _seconds(text: bytes) -> int:
    """Remembered: to read a time takes longer than all else about a line, and a busy log has thousands a second."""
    moment = datetime.strptime(text.decode("ascii", "replace"), "%Y-%m-%dT%H:%M:%S")
    return int(moment.replace(tzinfo=UTC).timestamp())


class LogReader:
    """Reads on from where it is, across rotations. ``blocks`` gives what is there now; call it again for more.

    Args:
        directory: the container's.
        tail: begin with the last so many lines; None: with the first.
    """

    def __init__(self, directory: Path, tail: int | None = None) -> None:
        self._directory = str(directory)
        self._number, self._offset, self._rest = 0, 0, b""
        if tail is not None:
            self._begin_at_tail(tail)

    def lines(self) -> Iterator[LogLine]:
        """All whole lines that have been written since the last call."""
        for block in self.blocks():
            yield from parse_lines(block)

    def texts(self) -> Iterator[bytes]:
        """What ``lines`` gives, without its times, in large pieces."""
        return map(text_of, self.blocks())

    def blocks(self) -> Iterator[bytes]:
        """The same, as ``parse_lines`` takes them: reading may wait for a disk, parsing only computes."""
        while True:
            yield from self._read()
            later = [number for number in log_numbers(self._directory) if number > self._number]
            if not later:
                return
            # What was added between the reading and the look is the end of this file.
            yield from self._read()
            self._number, self._offset, self._rest = later[0], 0, b""

    def _read(self) -> Iterator[bytes]:
        try:
            with open(log_path(self._directory, self._number), "rb") as file:
                file.seek(self._offset)
                while chunk := file.read(_CHUNK):
                    self._offset += len(chunk)
                    cut = chunk.rfind(b"\n") + 1
                    if cut:
                        block, self._rest = self._rest + chunk[:cut], chunk[cut:]
                        yield block
                    else:
                        self._rest += chunk
        except FileNotFoundError:  # dropped meanwhile: there are more of them than are kept
            return

    def _begin_at_tail(self, lines: int) -> None:
        newest = True
        for number in reversed(log_numbers(self._directory)):
            try:
                offset, found = _tail_offset(log_path(self._directory, number), lines, newest=newest)
            except FileNotFoundError:
                return
            self._number, self._offset = number, offset or 0
            if offset is not None:
                return
            lines -= found
            newest = False


def _tail_offset(path: str, lines: int, *, newest: bool) -> tuple[int | None, int]:
    """Where the last ``lines`` lines begin in this file, None if all of it is theirs; and how many of them it has.

    A line that is kept in parts ends with an F; the newest file may end with parts of one that has not ended.
    """
    found = 0
    for end, whole in _entries_from_the_end(path):
        if whole or newest:
            found += 1
            if found > lines:
                return end, lines
        newest = False
    return None, found


def _entries_from_the_end(path: str) -> Iterator[tuple[int, bool]]:
    """(offset of its end, whether it is an F) of each entry, newest first; one that is still being written is left out."""
    with open(path, "rb") as file:
        position = file.seek(0, os.SEEK_END)
        block, end = b"", -1  # what has been read and not given; the offset after its newline
        while position > 0:
            size = min(_CHUNK, position)
            position -= size
            file.seek(position)
            block = file.read(size) + block
            if end < 0:
                cut = block.rfind(b"\n") + 1
                if not cut:
                    continue
                block, end = block[:cut], position + cut
            while (at := block.rfind(b"\n", 0, len(block) - 1)) >= 0:
                yield end, _is_whole(block[at + 1 :])
                block, end = block[: at + 1], position + at + 1
        if block and end >= 0:
            yield end, _is_whole(block)


def _is_whole(entry: bytes) -> bool:
    return entry.split(b" ", 3)[2:3] != [b"P"]

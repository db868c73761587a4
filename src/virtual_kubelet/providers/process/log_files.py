"""A container's log files, as the supervisor writes them: CRI lines, rotated; read forward, or from the end. Blocking."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from virtual_kubelet import LogLine

__all__ = ["LogReader", "parse_line", "rotated_files", "tail_position"]

_CHUNK: Final = 64 * 1024


def parse_line(line: bytes) -> LogLine:
    """``time stream F|P text\\n``: a part of a line (P) has no newline in its text."""
    stamp, _, rest = line.partition(b" ")
    _, _, rest = rest.partition(b" ")
    kind, _, text = rest.partition(b" ")
    return LogLine(_nanoseconds(stamp.decode("ascii", "replace")), text if kind == b"F" else text.removesuffix(b"\n"))


def _nanoseconds(stamp: str) -> int:
    seconds, _, fraction = stamp.removesuffix("Z").partition(".")
    try:
        whole = int(datetime.strptime(seconds, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())
        return whole * 1_000_000_000 + int(fraction.ljust(9, "0")[:9] or 0)
    except ValueError:
        return 0


def rotated_files(directory: Path) -> list[Path]:
    """The log files, oldest first."""
    older = sorted(directory.glob("log.*"), key=lambda path: -int(path.suffix[1:]))
    current = directory / "log"
    return [*older, current] if current.exists() else older


def tail_position(path: Path, lines: int) -> tuple[int, int]:
    """Where the last ``lines`` lines begin, found from the end; and how many there are (fewer, if the file has fewer)."""
    with path.open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        found, end = 0, position
        while position > 0:
            size = min(_CHUNK, position)
            position -= size
            file.seek(position)
            block = file.read(size)
            at = len(block)
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                if position + at + 1 == end:
                    continue
                found += 1
                if found == lines:
                    return position + at + 1, found
        return 0, found + (1 if end else 0)


class LogReader:
    """Reads on from where it is, across rotations. ``lines`` gives what is there now; call it again for more."""

    def __init__(self, directory: Path, tail: int | None = None) -> None:
        self._directory = directory
        self._rest = b""
        files = rotated_files(directory)
        self._pending: list[tuple[Path, int]] = [(path, 0) for path in files]
        self._inode = -1
        self._offset = 0
        if tail is not None:
            wanted, start = tail, []
            for path in reversed(files):
                if wanted <= 0:
                    start.append((path, path.stat().st_size))
                    break
                offset, found = tail_position(path, wanted)
                start.append((path, offset))
                wanted -= found
                if offset > 0:
                    break
            self._pending = start[::-1]

    def lines(self) -> Iterator[LogLine]:
        """All whole lines that have been written since the last call."""
        for path, offset in self._pending:
            yield from self._read(path, offset)
        if not self._pending:
            # The file read last may have been renamed meanwhile: finish it, then those that came after it.
            files = rotated_files(self._directory)
            known = next((i for i, path in enumerate(files) if _inode(path) == self._inode), None)
            if known is None:
                if self._inode != -1:
                    self._rest = b""
                for path in files:
                    yield from self._read(path, 0)
            else:
                yield from self._read(files[known], self._offset)
                for path in files[known + 1 :]:
                    yield from self._read(path, 0)
        self._pending = []

    def _read(self, path: Path, offset: int) -> Iterator[LogLine]:
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
        with file:
            self._inode = os.fstat(file.fileno()).st_ino
            file.seek(offset)
            self._offset = offset
            while chunk := file.read(_CHUNK):
                self._offset += len(chunk)
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                for line in lines:
                    yield parse_line(line + b"\n")


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return -2

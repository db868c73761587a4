"""The supervisor's log files: a writer that rotates them and readers that are anywhere behind it. No process, no clock."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtual_kubelet import LogLine
from virtual_kubelet.providers.process.log_files import LogReader
from virtual_kubelet.providers.process.supervised_container import Container


def container(folder: Path, max_log_bytes: int = 300, max_log_files: int = 50) -> Container:
    record = {"id": "c", "exit": None, "max_log_bytes": max_log_bytes, "max_log_files": max_log_files}
    return Container(str(folder), record)


def text_of(lines: Iterator[LogLine]) -> bytes:
    return b"".join(line.data for line in lines)


@pytest.mark.parametrize("seed", range(8))
def test_a_reader_that_is_any_number_of_rotations_behind_misses_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    writer, reader = container(tmp_path), LogReader(tmp_path)
    wrote: list[bytes] = []
    read: list[bytes] = []
    lines = reader.lines()
    while len(wrote) < 400:
        for _ in range(chance.randrange(40)):  # ten lines fill a file: this may be four rotations
            wrote.append(b"line %d\n" % len(wrote))
            writer.write("stdout", wrote[-1])
        for _ in range(chance.randrange(40)):
            line = next(lines, None)
            if line is None:
                lines = reader.lines()
                break
            read.append(line.data)
    read += [line.data for line in lines]
    read += [line.data for line in reader.lines()]
    assert len(list(tmp_path.glob("log.*"))) > 20
    assert read == wrote


def test_a_reader_whose_file_was_dropped_goes_on_with_the_oldest_that_is_left(tmp_path: Path) -> None:
    writer, reader = container(tmp_path, max_log_files=2), LogReader(tmp_path)
    writer.write("stdout", b"first\n")
    assert text_of(reader.lines()) == b"first\n"
    for number in range(100):
        writer.write("stdout", b"line %d\n" % number)
    left = sorted(tmp_path.glob("log.*"))
    assert len(left) == 2
    last = text_of(reader.lines()).splitlines()
    assert last[-1] == b"line 99"
    assert last == [b"line %d" % number for number in range(100 - len(last), 100)]


def test_a_folder_that_is_gone_has_no_lines(tmp_path: Path) -> None:
    assert list(LogReader(tmp_path / "gone").lines()) == []
    assert list(LogReader(tmp_path / "gone", tail=3).lines()) == []


@pytest.mark.parametrize("tail", [0, 1, 2, 7, 99, 100, 101])
def test_a_tail_goes_across_files(tmp_path: Path, tail: int) -> None:
    writer = container(tmp_path)
    for number in range(100):
        writer.write("stdout", b"line %d\n" % number)
    wanted = [b"line %d\n" % number for number in range(100)][100 - min(tail, 100) :]
    assert [line.data for line in LogReader(tmp_path, tail).lines()] == wanted


def test_a_tail_counts_whole_lines_not_the_parts_that_long_ones_are_kept_in(tmp_path: Path) -> None:
    writer = container(tmp_path, max_log_bytes=40_000)
    long = b"x" * 100_000
    writer.write("stdout", b"short\n")
    for at in range(0, len(long), 5000):
        writer.write("stdout", long[at : at + 5000])
    writer.write("stdout", b"\nlast")
    writer.finish_logs()
    assert len(list(tmp_path.glob("log.*"))) > 2
    assert text_of(LogReader(tmp_path, 0).lines()) == b""
    assert text_of(LogReader(tmp_path, 1).lines()) == b"last"
    assert text_of(LogReader(tmp_path, 2).lines()) == long + b"\nlast"
    assert text_of(LogReader(tmp_path, 3).lines()) == b"short\n" + long + b"\nlast"


def test_a_follower_that_begins_at_the_end_sees_only_what_comes(tmp_path: Path) -> None:
    writer = container(tmp_path)
    writer.write("stdout", b"old\n")
    reader = LogReader(tmp_path, tail=0)
    assert list(reader.lines()) == []
    writer.write("stdout", b"new\n")
    assert text_of(reader.lines()) == b"new\n"


@pytest.mark.parametrize("seed", range(4))
def test_text_without_times_is_that_of_the_lines_long_ones_and_torn_ones_too(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    writer, reader = container(tmp_path, 20_000, max_log_files=1000), LogReader(tmp_path)
    wrote = read = b""
    for _ in range(300):
        line = chance.choice([b"", b"x", b"a F b", b"2026-01-01T00:00:00.000000000Z stdout P ", b"y" * 20_000]) + b"\n"
        cut = chance.randrange(len(line) + 1)
        for part in (line[:cut], line[cut:]):
            writer.write("stdout", part)
            wrote += part
        if chance.random() < 0.1:
            read += b"".join(reader.texts())
    writer.finish_logs()
    read += b"".join(reader.texts())
    assert read == wrote
    newest = max(tmp_path.glob("log.*"), key=lambda path: int(path.suffix[1:]))
    with newest.open("ab") as file:
        file.write(b"2026-01-01T00:00:00.000000000Z stdout F to")  # killed amid a write
        file.write(b"2026-01-01T00:00:00.000000000Z stdout F after\nnot even a line\n\n")
    rest = b"".join(reader.texts())
    assert b"stdout F after\n" in rest
    assert text_of(LogReader(tmp_path).lines()) == b"".join(LogReader(tmp_path).texts()) == wrote + rest


def test_a_new_supervisor_writes_on_after_a_line_that_was_torn(tmp_path: Path) -> None:
    writer = container(tmp_path)
    writer.write("stdout", b"whole\n")
    (newest,) = tmp_path.glob("log.*")
    with newest.open("ab") as file:
        file.write(b"2026-01-01T00:00:00.000000000Z stdout F to")  # killed amid a write
    other = container(tmp_path)
    other.write("stdout", b"after\n")
    lines = text_of(LogReader(tmp_path).lines()).splitlines()
    assert (lines[0], lines[-1]) == (b"whole", b"after")


def test_a_full_disk_costs_lines_says_so_once_and_leaves_the_others_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = container(tmp_path)
    writer.write("stdout", b"before\n")
    real = os.write
    room = [60]

    def write(descriptor: int, data: bytes) -> int:
        part = data[: room[0]]
        room[0] -= len(part)
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, part)

    monkeypatch.setattr(os, "write", write)
    for _ in range(3):
        writer.write("stdout", b"lost or torn\n")
    room[0] = 10_000
    writer.write("stdout", b"after\n")
    lines = text_of(LogReader(tmp_path).lines()).splitlines()
    assert (lines[0], lines[1], lines[-1]) == (b"before", b"lost or torn", b"after")
    assert all(line == b"lost or torn"[: len(line)] for line in lines[2:-1])
    assert capsys.readouterr().err == "output of container c is lost: No space left on device\n"

"""The database of a cluster's folder."""

from __future__ import annotations

import os
import sqlite3
import stat
from pathlib import Path

import pytest

from virtual_kubelet.devcluster.data_directory import DataDirectory, NotStored, Write
from virtual_kubelet.errors import ConfigurationError

ROW = ("", "pods", "default", "p")


def test_what_was_written_last_is_found_again(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "a" / "b")
    assert directory.open().objects == []
    other = ("apps", "x", "", "y")
    directory.write([Write(ROW, b"1"), Write(other, b"2"), Write(ROW, b"3")], {"revision": b"7"})
    directory.write([Write(other, None)], {"revision": b"8"})
    directory.close()
    saved = directory.open()
    assert saved.objects == [(ROW, b"3")]
    assert saved.values == {"revision": b"8"}
    directory.close()


def test_an_object_that_is_deleted_and_made_again_in_one_batch_is_there(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.open()
    directory.write([Write(ROW, b"1"), Write(ROW, None), Write(ROW, b"2")], {})
    directory.close()
    assert directory.open().objects == [(ROW, b"2")]
    directory.close()


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "new")
    directory.open()
    directory.write([Write(ROW, b"1")], {"key": b"secret"})
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    for file in (tmp_path / "new").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file
    directory.close()


def test_a_second_one_is_told_that_it_is_in_use(tmp_path: Path) -> None:
    first, second = DataDirectory(tmp_path), DataDirectory(tmp_path)
    first.open()
    with pytest.raises(ConfigurationError, match="is in use by another process"):
        second.open()
    first.close()
    second.open()
    second.close()


def test_beyond_the_quota_nothing_of_a_transaction_is_written_and_smaller_ones_go_on(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path, quota_bytes=200_000)
    directory.open()
    directory.write([Write(ROW, b"x")], {"revision": b"1"})
    with pytest.raises(NotStored, match="full"):
        directory.write([Write(("", "pods", "default", "small"), b"y"), Write(ROW, b"z" * 300_000)], {"revision": b"2"})
    directory.write([Write(("", "pods", "default", "q"), b"w")], {"revision": b"3"})
    directory.close()
    saved = directory.open()
    assert sorted(raw for _, raw in saved.objects) == [b"w", b"x"]
    directory.close()


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "cluster.db").write_bytes(b"no database at all" * 1000)
    with pytest.raises(ConfigurationError, match=r"cannot read .*cluster\.db"):
        DataDirectory(tmp_path).open()


def test_the_state_of_another_version_is_left_alone(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path)
    directory.open()
    directory.close()
    with sqlite3.connect(tmp_path / "cluster.db") as connection:
        connection.execute("UPDATE settings SET value = x'3939' WHERE name = 'format'")
    connection.close()
    with pytest.raises(ConfigurationError, match="another version of virtual-kubelet"):
        directory.open()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"cannot use .*file"):
        DataDirectory(tmp_path / "file").open()
    os.symlink(tmp_path / "file", tmp_path / "cluster.db")
    with pytest.raises(ConfigurationError, match=r"cannot use"):
        DataDirectory(tmp_path).open()

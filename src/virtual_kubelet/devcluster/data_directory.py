"""A cluster's state in a folder: one SQLite database. Blocking; all calls come from one thread at a time.

What a transaction has written survives a SIGKILL of this process at any moment (the write-ahead log is the kernel's by
then), and a crash of the machine but for the last moments. The database is locked against other processes.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from virtual_kubelet.errors import ConfigurationError

__all__ = ["QUOTA_BYTES", "DataDirectory", "NotStored", "Row", "Saved", "Write", "damaged"]

#: As etcd's default.
QUOTA_BYTES: Final = 2 * 1024**3
_FORMAT: Final = "1"
_NAME: Final = "cluster.db"
_PAGE: Final = 4096
_HINT: Final = "name another folder with --data-dir"

#: Group, plural, namespace, name.
Row: TypeAlias = tuple[str, str, str, str]


class Write(NamedTuple):
    """The newest version of an object; ``raw`` is None if it is gone."""

    row: Row
    raw: bytes | None


class Saved(NamedTuple):
    """What an earlier run has left: small values (keys, the revision), and objects."""

    values: dict[str, bytes]
    objects: list[tuple[Row, bytes]]


def damaged(path: Path, what: str) -> ConfigurationError:
    """What was found in the database cannot be what was written."""
    return ConfigurationError(f"the state in {path} is damaged: {what}", hint=_HINT)


class NotStored(Exception):
    """The disk, or the quota, is full, or the disk is broken. Nothing of the transaction was written."""


class DataDirectory:
    """The database of one cluster."""

    def __init__(self, path: Path, *, quota_bytes: int = QUOTA_BYTES) -> None:
        """``path``: a folder, made if need be. ``quota_bytes``: what the database may grow to."""
        self.path = path
        self._quota_bytes = quota_bytes
        self._connection: sqlite3.Connection | None = None

    def open(self) -> Saved:
        """Raises ``ConfigurationError`` if the folder cannot be used, or is in use."""
        file = self.path / _NAME
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Keys are in it.
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            file.chmod(0o600)
        except OSError as error:
            raise ConfigurationError(f"cannot use {self.path}: {error.strerror}", hint=_HINT) from None
        connection = sqlite3.connect(file, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(connection)
            saved = self._load(connection)
        except sqlite3.Error as error:
            connection.close()
            if "locked" in str(error):
                why = f"{self.path} is in use by another process"
            else:
                why = f"cannot read {file}: {error}"
            raise ConfigurationError(why, hint=_HINT) from None
        except ConfigurationError:
            connection.close()
            raise
        self._connection = connection
        return saved

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute(f"PRAGMA page_size = {_PAGE}")
        # Held until the connection is closed, or its process has died.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value BLOB NOT NULL)")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS objects (grp TEXT, plural TEXT, namespace TEXT, name TEXT, raw BLOB NOT NULL, "
            "PRIMARY KEY (grp, plural, namespace, name))"
        )
        connection.execute("INSERT OR IGNORE INTO settings VALUES ('format', ?)", (_FORMAT.encode(),))
        connection.execute("COMMIT")
        connection.execute(f"PRAGMA max_page_count = {max(16, self._quota_bytes // _PAGE)}")

    def _load(self, connection: sqlite3.Connection) -> Saved:
        values: dict[str, bytes] = dict(connection.execute("SELECT name, value FROM settings"))
        found = values.pop("format", b"").decode(errors="replace")
        if found != _FORMAT:
            raise ConfigurationError(
                f"{self.path} holds the state of another version of virtual-kubelet (format {found!r})", hint=_HINT
            )
        rows = connection.execute("SELECT grp, plural, namespace, name, raw FROM objects")
        return Saved(values, [((group, plural, namespace, name), raw) for group, plural, namespace, name, raw in rows])

    def write(self, writes: Iterable[Write], values: dict[str, bytes]) -> None:
        """One transaction. Raises ``NotStored``, and has then changed nothing."""
        connection = self._connection
        assert connection is not None
        try:
            connection.execute("BEGIN")
            for kept, batch in _runs(writes):
                if kept:
                    rows = [(*write.row, write.raw) for write in batch]
                    connection.executemany("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", rows)
                else:
                    connection.executemany(
                        "DELETE FROM objects WHERE grp = ? AND plural = ? AND namespace = ? AND name = ?",
                        [write.row for write in batch],
                    )
            connection.executemany("INSERT OR REPLACE INTO settings VALUES (?, ?)", values.items())
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise NotStored(str(error)) from None

    def close(self) -> None:
        """Nothing happens if it is closed already."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _runs(writes: Iterable[Write]) -> Iterator[tuple[bool, list[Write]]]:
    """The newest write of each row, kept ones and deletions apart."""
    newest = {write.row: write for write in writes}
    for kept in (False, True):
        batch = [write for write in newest.values() if (write.raw is not None) is kept]
        if batch:
            yield kept, batch

"""Where a node keeps what must outlive its process: private to the user, and one process at a time."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from virtual_kubelet.errors import ConfigurationError

__all__ = ["default_state_directory", "held"]


def default_state_directory(server: str, node_name: str) -> Path:
    """``$XDG_STATE_HOME/virtual-kubelet/SERVER/NODE``: nodes of one name in two clusters must not share pods.

    The default of ``$XDG_STATE_HOME`` is ``~/.local/state``. Raises ``ConfigurationError`` if there is no home.
    """
    given = os.environ.get("XDG_STATE_HOME", "")
    try:
        home = Path(given) if given.startswith("/") else Path.home() / ".local" / "state"
    except RuntimeError:  # no HOME, and no entry for this user
        raise ConfigurationError(
            "this user has no home directory to keep the node's state in", hint="name a directory with --state-dir"
        ) from None
    place = re.sub(r"[^A-Za-z0-9.-]+", "_", urlsplit(server).netloc.rpartition("@")[2]) or "server"
    return home / "virtual-kubelet" / place / node_name


@contextmanager
def held(path: Path) -> Iterator[Path]:
    """The directory, made if need be with mode 0700, and locked while the block runs.

    Raises ``ConfigurationError`` if it cannot be used, is open to others, or another process holds it: two processes
    that act as one node would undo each other's work. The kernel releases the lock of a process that died.
    """
    path = path.absolute()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"cannot use the state directory {path}: {error.strerror}", hint="choose another one with --state-dir"
        ) from None
    try:
        if found.st_uid != os.getuid():
            raise ConfigurationError(
                f"the state directory {path} belongs to another user", hint="choose another one with --state-dir"
            )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
            raise ConfigurationError(
                f"the state directory {path} is in use by the node process {holder or 'of another user'}",
                hint="end that process, or choose another directory with --state-dir",
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield path
    finally:
        os.close(descriptor)

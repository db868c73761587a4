"""The terminal of a container's main process (``tty: true``), which outlives supervisors. Standard library only.

A terminal whose master nobody holds hangs up on its processes. So a keeper, a process of its own (``terminal_keeper``),
holds it until the container ends, and hands it to a new supervisor and to the node through a socket in the container's
directory, which only their user may open.
"""

from __future__ import annotations

import os
import socket
import sys

from virtual_kubelet.providers.process.small_program import small_program

__all__ = ["fetch_terminal", "open_terminal", "start_keeper"]

_SOCKET = "terminal.sock"
#: Seconds for the keeper to hand it over: all it does is that.
_PATIENCE = 10.0


def open_terminal(uid: int | None) -> tuple[int, int]:
    """A new terminal's master and slave, closed on exec; the slave is the user's who will have it."""
    master, slave = os.openpty()
    if uid is not None and os.getuid() == 0:
        os.fchown(slave, uid, -1)
    os.set_blocking(master, False)
    return master, slave


def start_keeper(directory: str, master: int, slave: int, pid: int) -> int:
    """Start who keeps the terminal while ``pid``, a child of ours, runs; the keeper's own pid."""
    # By way of the open directory: a socket's own path may have 107 bytes only, a state directory's may have more.
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    process = os.pidfd_open(pid)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
            listener.bind(f"/proc/self/fd/{folder}/{_SOCKET}")
            listener.listen(8)
            given = [master, slave, listener.fileno(), process]
            arguments = small_program("terminal_keeper", "main(*map(int, sys.argv[3:]))", directory, *map(str, given))
            for number in given:
                os.set_inheritable(number, True)
            try:
                return os.posix_spawn(sys.executable, arguments, {}, setsid=True)
            finally:
                for number in given:
                    os.set_inheritable(number, False)
    finally:
        os.close(process)
        os.close(folder)


def fetch_terminal(directory: str) -> int:
    """The master, from its keeper; non-blocking. Raises ``OSError`` if there is none any more."""
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(f"/proc/self/fd/{folder}/{_SOCKET}")
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    finally:
        os.close(folder)
    if not descriptors:
        raise ConnectionResetError("the keeper of the terminal has gone")
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]

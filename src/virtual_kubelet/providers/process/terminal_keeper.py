"""Keeps one container's terminal open, whoever else comes and goes. Run with ``python -I -S``; standard library only."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time

__all__ = ["main"]

#: Seconds after the process's end in which a new supervisor may still fetch what it had written.
_LINGER = 60.0


def main(master: int, slave: int, listener: int, process: int) -> None:
    """Hand the master to whoever connects, until the process behind the pidfd has ended.

    The slave is held too: without it the terminal would be at its end whenever the container's processes have it closed.
    """
    os.chdir("/")
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(process, select.POLLIN)
    deadline: float | None = None
    with socket.socket(fileno=listener) as server:
        while deadline is None or time.monotonic() < deadline:
            for number, _ in poll.poll(None if deadline is None else 1000):
                if number == process:
                    poll.unregister(process)
                    deadline = time.monotonic() + _LINGER
                    continue
                with contextlib.suppress(OSError):  # who asked has gone again
                    connection, _ = server.accept()
                    with connection:
                        socket.send_fds(connection, [b"t"], [master])

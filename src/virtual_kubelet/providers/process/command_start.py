"""A command in a container: this program becomes it. Run with ``python -I -S``; standard library only.

The socket whose descriptor is the argument first brings one line of JSON, what to become. It answers ``m`` when it has the
container's mark, begins when it is told ``!``, and says in JSON what went wrong; without that exec closes the socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import termios

from virtual_kubelet.providers.process.becoming import become, execute
from virtual_kubelet.providers.process.cgroups import enter_groups
from virtual_kubelet.providers.process.mount_calls import join
from virtual_kubelet.providers.process.process_tree import set_mark

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main(descriptor: int) -> None:
    node = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    stage = "start"

    def at(field: str) -> None:
        nonlocal stage
        stage = field

    try:
        with node.makefile("rb") as lines:
            wanted = json.loads(lines.readline())
        set_mark(wanted["mark"], wanted["command_mark"])
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
        os.setsid()
        if wanted["tty"]:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        enter_groups(wanted["cgroups"] or {}, os.getpid())
        if wanted["namespaces"]:
            # Its container still runs when this is over, or it is not told to begin: so this pid was the container's.
            try:
                join(wanted["pid"], wanted["namespaces"])
            except FileNotFoundError:
                at("container")
                raise
        node.sendall(b"m")
        if node.recv(1) != b"!":
            return
        become(wanted, at)
        # Who would take its output, and end it, is gone with the node. A change of user would have undone this.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        execute(wanted["argv"], wanted["env"])
    except OSError as error:
        node.sendall(json.dumps({"error": stage, "errno": error.errno, "message": error.strerror}).encode())
    except (ValueError, TypeError, KeyError, UnicodeError) as error:
        node.sendall(json.dumps({"error": stage, "errno": 0, "message": type(error).__name__}).encode())

"""A command in a container: this program becomes it. Run by ``small_program``; standard library only, and little of that.

Probes start one a second: ``json``, ``socket``, ``signal`` and what they import would cost more than all the rest.

The socket whose descriptor is the argument first brings four bytes, a length, and so much that ``marshal`` can read (at both
ends is the same interpreter): what to become. It answers ``m`` when it has the container's mark, and begins when it is told
``!``. What goes wrong it says as ``f``, the field, the number and the message, NUL between them; without that exec closes
the socket.
"""

from __future__ import annotations

import ctypes
import fcntl
import marshal
import os
import termios

from virtual_kubelet.providers.process.becoming import become, execute
from virtual_kubelet.providers.process.cgroup_entry import enter_groups
from virtual_kubelet.providers.process.marks import set_mark
from virtual_kubelet.providers.process.mount_calls import join

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9
#: One more than the highest signal, and the two that stay as they are.
_NSIG = 65
_FIXED = (_SIGKILL, 19)
_SIG_DFL = 0


def main(descriptor: int) -> None:
    os.set_inheritable(descriptor, False)
    stage = "start"

    def at(field: str) -> None:
        nonlocal stage
        stage = field

    try:
        wanted = marshal.loads(_read(descriptor, int.from_bytes(_read(descriptor, 4), "big")))
        set_mark(wanted["mark"], wanted["command_mark"])
        libc = ctypes.CDLL(None, use_errno=True)
        for number in range(1, _NSIG):
            if number not in _FIXED:
                libc.signal(number, ctypes.c_void_p(_SIG_DFL))  # refused for the C library's own, which no harm is in
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
        os.write(descriptor, b"m")
        if os.read(descriptor, 1) != b"!":
            return
        become(wanted, at)
        # Who would take its output, and end it, is gone with the node. A change of user would have undone this.
        libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
        execute(wanted["argv"], wanted["env"])
    except OSError as error:
        _fail(descriptor, stage, error.errno, error.strerror)
    except (ValueError, TypeError, KeyError, EOFError, UnicodeError) as error:
        _fail(descriptor, stage, 0, type(error).__name__)


def _read(descriptor: int, size: int) -> bytes:
    """Exactly so much. Raises ``EOFError`` if the node is gone."""
    data = b""
    while len(data) < size:
        piece = os.read(descriptor, size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _fail(descriptor: int, field: str, number: int | None, message: str | None) -> None:
    try:
        os.write(descriptor, b"f" + "\0".join((field, str(number or 0), message or "")).encode())
    except BrokenPipeError:  # the node is gone, and nobody else asks
        pass

"""A command in a container: this program becomes it. Run with ``python -I -S``; standard library only.

The socket whose descriptor is the argument first brings one line of JSON, what to become. It answers ``m`` when it has the
container's mark, begins when it is told ``!``, and says in JSON what went wrong; without that exec closes the socket.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import termios

from virtual_kubelet.providers.process.process_start import become_user, execute
from virtual_kubelet.providers.process.process_tree import set_mark

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def main(descriptor: int) -> None:
    node = socket.socket(fileno=descriptor)
    os.set_inheritable(descriptor, False)
    stage = "start"
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
        node.sendall(b"m")
        if node.recv(1) != b"!":
            return
        os.umask(0o022)
        stage = "runAsUser/runAsGroup"
        become_user(wanted["uid"], wanted["gid"])
        stage = "workingDir"
        os.chdir(wanted["cwd"])
        libc = ctypes.CDLL(None)
        stage = "allowPrivilegeEscalation"
        if wanted["no_new_privileges"] and libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise OSError(errno.EPERM, "PR_SET_NO_NEW_PRIVS failed")
        # Who would take its output, and end it, is gone with the node. A change of user would have undone this.
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        stage = "command"
        environment = wanted["env"]
        execute(wanted["argv"], environment, environment.get("PATH", _PATH))
    except OSError as error:
        node.sendall(json.dumps({"error": stage, "errno": error.errno, "message": error.strerror}).encode())
    except (ValueError, TypeError, KeyError, UnicodeError) as error:
        node.sendall(json.dumps({"error": stage, "errno": 0, "message": type(error).__name__}).encode())

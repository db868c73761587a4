"""A container's process: fork, become who it is to be, exec; with nothing of ours but FIFOs or a terminal.

Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import select
import signal
import termios

from virtual_kubelet.providers.process.becoming import become, execute
from virtual_kubelet.providers.process.marks import set_mark
from virtual_kubelet.providers.process.mount_namespace import make_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = ["raise_open_files", "spawn"]

_open_files: tuple[int, int] | None = None


def raise_open_files() -> None:
    """As many open files as this process may have: each container needs three. Its children get what we were given."""
    global _open_files
    _open_files = soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def spawn(
    directory: str,
    request: dict[str, Any],
    mark: int,
    on_forked: Callable[[int], None],
    terminal: int | None = None,
    patience: float = 30.0,
) -> int | dict[str, Any]:
    """Fork and exec; gives the pid, or what went wrong. ``terminal`` takes the place of the FIFOs in the directory.

    A child that is not over with all that after ``patience`` seconds (a volume of a server that does not answer, say) is
    given up: everything else waits for it meanwhile.

    The child waits until ``on_forked(pid)`` has returned, that is, until it is written down, and ends if we do not live
    to say so: nothing ever runs that nobody knows of. What goes wrong later it tells through a pipe that exec closes.
    """
    told, tell = os.pipe2(os.O_CLOEXEC)
    may_go, go = os.pipe2(os.O_CLOEXEC)
    descriptors = [] if terminal is not None else open_fifos(directory, request)
    pid = os.fork()
    if pid == 0:
        _begin(directory, request, mark, descriptors, terminal, may_go, go, tell)  # does not return
    for descriptor in (tell, may_go, *descriptors):
        os.close(descriptor)
    try:
        on_forked(pid)
        os.write(go, b"!")
    except BaseException:
        os.close(go)
        os.close(told)
        os.waitpid(pid, 0)
        raise
    os.close(go)
    with os.fdopen(told, "rb") as file:
        poll = select.poll()
        poll.register(file, select.POLLIN)
        if not poll.poll(patience * 1000):
            os.kill(pid, signal.SIGKILL)  # whoever has it for a child collects it when it ends, if it ever does
            why = f"it has not begun within {patience:g} s: a file or a mount of the machine does not answer"
            return {"error": "start", "errno": errno.ETIMEDOUT, "message": why}
        failure = file.read()
    if failure:
        os.waitpid(pid, 0)
        told_us: dict[str, Any] = json.loads(failure)
        return told_us
    return pid


def open_fifos(directory: str, request: dict[str, Any]) -> list[int]:
    """Its standard input, output and error output."""
    outputs = [os.open(os.path.join(directory, s), os.O_RDWR | os.O_CLOEXEC) for s in ("stdout", "stderr")]
    if not request.get("stdin"):
        return [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), *outputs]
    # With a writing end of its own it never sees an end, whatever becomes of us.
    how = os.O_RDONLY if request.get("stdin_once") else os.O_RDWR
    return [os.open(os.path.join(directory, "stdin"), how | os.O_CLOEXEC), *outputs]


def _begin(
    directory: str,
    request: dict[str, Any],
    mark: int,
    descriptors: list[int],
    terminal: int | None,
    may_go: int,
    go: int,
    tell: int,
) -> NoReturn:
    stage = "start"

    def at(field: str) -> None:
        nonlocal stage
        stage = field

    try:
        os.close(go)
        signal.set_wakeup_fd(-1)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
        os.setsid()
        set_mark(mark)
        if os.read(may_go, 1) != b"!":
            os._exit(127)
        if terminal is not None:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
            descriptors = [terminal] * 3
        for target, source in enumerate(descriptors):
            os.dup2(source, target)
        if _open_files is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, _open_files)
        at("volumeMounts")
        if request.get("namespaces"):
            make_namespace(request, directory)
        become(request, at)
        os.closerange(3, tell)
        os.closerange(tell + 1, 1 << 20)
        execute(request["argv"], request["env"])
    except OSError as error:
        failure = {"error": stage, "errno": error.errno, "message": error.strerror, "path": error.filename}
        os.write(tell, json.dumps(failure).encode())
    except (ValueError, TypeError, KeyError, UnicodeError) as error:
        os.write(tell, json.dumps({"error": stage, "errno": 0, "message": type(error).__name__}).encode())
    finally:
        os._exit(127)

"""A container's process: fork, become who it is to be, exec; with nothing of ours but two FIFOs. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal

from virtual_kubelet.providers.process.process_tree import MARKER

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is not worth its memory in a process that has to stay small
    from typing import Any, NoReturn

__all__ = ["spawn"]


def spawn(directory: str, request: dict[str, Any]) -> int | dict[str, Any]:
    """Fork and exec; gives the pid, or what went wrong, told by the child through a pipe that exec closes."""
    told, tell = os.pipe2(os.O_CLOEXEC)
    descriptors = [os.open(os.path.join(directory, s), os.O_RDWR | os.O_CLOEXEC) for s in ("stdout", "stderr")]
    pid = os.fork()
    if pid == 0:
        become(request, descriptors, tell)  # does not return
    os.close(tell)
    for descriptor in descriptors:
        os.close(descriptor)
    with os.fdopen(told, "rb") as file:
        failure = file.read()
    if failure:
        os.waitpid(pid, 0)
        told_us: dict[str, Any] = json.loads(failure)
        return told_us
    return pid


def become(request: dict[str, Any], descriptors: list[int], tell: int) -> NoReturn:
    stage = "start"
    try:
        signal.set_wakeup_fd(-1)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        for target, source in ((0, null), (1, descriptors[0]), (2, descriptors[1])):
            os.dup2(source, target)
        os.umask(0o022)
        stage = "runAsUser/runAsGroup"
        if request.get("gid") is not None:
            os.setgroups([])
            os.setgid(request["gid"])
        if request.get("uid") is not None:
            if request.get("gid") is None:
                os.setgroups([])
            os.setuid(request["uid"])
        stage = "workingDir"
        os.chdir(request["cwd"])
        stage = "command"
        os.closerange(3, tell)
        os.closerange(tell + 1, 4096)
        environment = {**request["env"], MARKER: request["id"]}
        path = environment.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        execute(request["argv"], environment, path)
    except OSError as error:
        os.write(tell, json.dumps({"error": stage, "errno": error.errno, "message": error.strerror}).encode())
    except (ValueError, TypeError, KeyError, UnicodeError) as error:
        os.write(tell, json.dumps({"error": stage, "errno": 0, "message": type(error).__name__}).encode())
    finally:
        os._exit(127)


def execute(argv: list[str], environment: dict[str, str], path: str) -> NoReturn:
    if "/" in argv[0]:
        os.execve(argv[0], argv, environment)
    last = OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    for folder in path.split(":"):
        try:
            os.execve(os.path.join(folder or ".", argv[0]), argv, environment)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                last = error
    raise last

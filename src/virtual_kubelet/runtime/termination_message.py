"""Termination messages: what a container leaves in a file, or in its log, for its status.

Numbers of the kubelet (pkg/kubelet/container/runtime.go, kuberuntime_container.go, status/status_manager.go).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from virtual_kubelet.contracts.logs import ContainerLogOptions, LogLine
from virtual_kubelet.contracts.runtime import Mount
from virtual_kubelet.objects.core_v1 import Container

__all__ = ["TAIL", "cut", "fallback_message", "limit_of_each", "make_message_file", "read_message", "tail_of_log"]

#: Bytes of a file, and of a log, that are read; lines of a log.
_MOST_OF_FILE: Final = 4096
_MOST_OF_LOG: Final = 2048
_FALLBACK_LINES: Final = 80
#: Bytes that all containers of a pod may say together.
_MOST_OF_POD: Final = 12 * 1024
_DEFAULT_PATH: Final = "/dev/termination-log"


def limit_of_each(containers: int) -> int:
    """Bytes that each of so many containers may say."""
    return _MOST_OF_POD // max(1, containers)


def cut(message: str, limit: int) -> str:
    """The first bytes, as whole characters."""
    data = message.encode()
    return message if len(data) <= limit else data[:limit].decode(errors="ignore")


def make_message_file(path: Path, container: Container) -> Mount:
    """An empty file that the container may write, whatever its user. Blocking. Raises ``OSError``."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        os.fchmod(handle, 0o666)
    finally:
        os.close(handle)
    return Mount(path, container.termination_message_path or _DEFAULT_PATH)


def read_message(path: Path) -> str:
    """What the container has written; empty if nothing. Blocking. It is the container's file: no link is followed."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(handle, _MOST_OF_FILE).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(handle)


def fallback_message(container: Container, exit_code: int, message: str) -> bool:
    """Whether the log's end stands in for a message (``FallbackToLogsOnError``)."""
    return not message and exit_code != 0 and container.termination_message_policy == "FallbackToLogsOnError"


async def tail_of_log(lines: AsyncIterator[LogLine]) -> str:
    """The last lines of a log, as many as a message may have. Raises what reading raises."""
    data = b""
    async for line in lines:
        data = (data + line.data)[-_MOST_OF_LOG:]
    return data.decode(errors="replace")


#: How the end of a log is asked for.
TAIL: Final = ContainerLogOptions(tail_lines=_FALLBACK_LINES)

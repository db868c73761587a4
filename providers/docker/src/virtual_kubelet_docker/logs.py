"""Logs of containers, read from the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from virtual_kubelet import ContainerLogOptions, LogLine, NotFoundError
from virtual_kubelet_docker.daemon import Daemon, DaemonError
from virtual_kubelet_docker.log_stream import LogStream

__all__ = ["read_log"]

#: More of the last lines than that are not looked at twice.
_SHORT_TAIL: Final = 10_000


async def read_log(daemon: Daemon, container_id: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
    """Lines, oldest first; with ``follow`` until the container ends. Raises ``NotFoundError`` if there is none."""
    try:
        tty = bool((await daemon.get(f"containers/{container_id}/json"))["Config"].get("Tty"))
        params: dict[str, Any] = {"stdout": True, "stderr": True, "timestamps": True}
        if options.since is not None:
            params["since"] = int(options.since.timestamp())  # what is finer is the framework's to cut
        if options.tail_lines == 0 or await _tail_can_be_asked_for(
            daemon, container_id, params, options.tail_lines, tty
        ):
            params["tail"] = options.tail_lines
        async for line in _lines(daemon, container_id, {**params, "follow": options.follow}, LogStream(tty=tty)):
            yield line
    except DaemonError as error:
        if error.status in (404, 409):
            raise NotFoundError(f"the container engine does not know container {container_id[:12]} any more") from None
        raise


async def _tail_can_be_asked_for(
    daemon: Daemon, container_id: str, params: dict[str, Any], tail: int | None, tty: bool
) -> bool:
    """Whether the engine's last messages are as many lines: Docker counts the parts of a long line one by one.

    Of each stream the first message that is seen may be the rest of a longer line; all after it are looked at.
    """
    if tail is None or tail > _SHORT_TAIL or tty or daemon.is_podman:  # which joins lines that are none
        return False
    streams: set[int] = set()
    sure = 0
    stream = LogStream(tty=tty)
    query = {**params, "tail": tail + 2, "follow": False}
    async with daemon.open("GET", f"containers/{container_id}/logs", params=query) as response:
        async for chunk in response.content.iter_any():
            for output, text in stream.messages(chunk):
                if not text.endswith(b"\n"):
                    return False
                sure = sure + 1 if output in streams else 0
                streams.add(output)
    return sure >= tail


async def _lines(
    daemon: Daemon, container_id: str, params: dict[str, Any], stream: LogStream
) -> AsyncIterator[LogLine]:
    async with daemon.open("GET", f"containers/{container_id}/logs", params=params) as response:
        async for chunk in response.content.iter_any():
            for line in stream.feed(chunk):
                yield line
        for line in stream.rest():
            yield line

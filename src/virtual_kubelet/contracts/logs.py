"""The log contract: lines with times out of a container, and which of them a caller asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol, runtime_checkable

from virtual_kubelet.contracts.pods import PodKey

__all__ = ["ContainerLogOptions", "ContainerLogs", "LogLine"]


class LogLine(NamedTuple):
    """One line of output; or several as one piece, for who asks for nothing that needs them apart (``lines_matter``).

    Attributes:
        time_ns: when it was written, nanoseconds since the epoch; 0 if the backend does not know.
        data: its bytes, with the newline if it had one.
    """

    time_ns: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ContainerLogOptions:
    """The kubelet's PodLogOptions.

    Attributes:
        tail_lines: only the last lines (0: none of the past ones); None: all.
        since: only lines not older than this.
        limit_bytes: end after so many bytes; None: no limit.
        follow: go on with new lines until the container ends.
        timestamps: put RFC 3339 time and a space before each line.
        previous: of the instance before the last restart.
    """

    tail_lines: int | None = None
    since: datetime | None = None
    limit_bytes: int | None = None
    follow: bool = False
    timestamps: bool = False
    previous: bool = False

    @property
    def lines_matter(self) -> bool:
        """Whether anybody looks at single lines. If not, a ``LogLine`` may have many of them, which is far cheaper."""
        return self.timestamps or self.since is not None or self.tail_lines is not None


@runtime_checkable
class ContainerLogs(Protocol):
    """A provider whose containers have logs."""

    def get_container_logs(self, key: PodKey, container: str, options: ContainerLogOptions) -> AsyncIterator[LogLine]:
        """The container's lines, oldest first.

        Only ``follow`` and ``previous`` must be honoured: with ``follow`` the iterator ends when the container does.
        The rest the framework applies to whatever comes; a provider may use it to read less. Raises ``NotFoundError``
        if there is no such container, ``InvalidInputError`` (with the kubelet's sentence) if it has not started.
        The iterator is closed (``aclose``) when the caller goes away.
        """
        ...

"""What a connection needs of its server."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol

from virtual_kubelet.server.http_messages import Handler, PromptHandler
from virtual_kubelet.server.limits import ServerLimits

if TYPE_CHECKING:
    from virtual_kubelet.server.http_connection import HttpConnection

__all__ = ["ConnectionOwner"]


class ConnectionOwner(Protocol):
    """What a connection needs of its server."""

    @property
    def limits(self) -> ServerLimits: ...

    @property
    def handler(self) -> Handler: ...

    @property
    def at_once(self) -> PromptHandler | None:
        """Asked before ``handler`` about requests that came whole; None: there is none."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the server is stopping: each answer is a connection's last."""
        ...

    def date(self) -> str:
        """The ``Date`` header of now."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...

    def idle(self, connection: HttpConnection) -> None:
        """It is open, and between two requests."""
        ...

    def waits(self, connection: HttpConnection) -> None:
        """From now on nothing but its client holds it up: cutting it costs that client no more than another try."""
        ...

    def busy(self, connection: HttpConnection) -> None:
        """From now on it is at work."""
        ...

    def closed(self, connection: HttpConnection) -> None: ...

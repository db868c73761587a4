"""What a client sends before all its streams are there: held, but never more of it than its bytes."""

from __future__ import annotations

from virtual_kubelet.streaming.remote_command.resize import TerminalSize
from virtual_kubelet.streaming.remote_command.session import RemoteCommandEvent, Resized, StdinClosed, StdinData

__all__ = ["EarlyInput"]


class EarlyInput:
    """Input in one piece, whether it has ended, and the newest size: thousands of tiny frames cost what they say."""

    def __init__(self) -> None:
        self._stdin = bytearray()
        self._stdin_closed = False
        self._size: TerminalSize | None = None

    def add(self, event: RemoteCommandEvent) -> None:
        """Hold an event."""
        match event:
            case StdinData(data):
                self._stdin += data
            case StdinClosed():
                self._stdin_closed = True
            case Resized(size):
                self._size = size

    def take(self) -> list[RemoteCommandEvent]:
        """All that was held."""
        events: list[RemoteCommandEvent] = []
        if self._size is not None:
            events.append(Resized(self._size))
        if self._stdin:
            events.append(StdinData(bytes(self._stdin)))
        if self._stdin_closed:
            events.append(StdinClosed())
        return events

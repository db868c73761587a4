"""Windows of SPDY/3.1: how much may be sent, and how much room the peer is given. Pure bookkeeping."""

from __future__ import annotations

from typing import Final

from virtual_kubelet.streaming.spdy.frames import MAX_WINDOW

__all__ = ["DEFAULT_WINDOW", "ReceiveWindow", "SendWindow"]

#: Of every stream and of the session, until SETTINGS or WINDOW_UPDATE say otherwise.
DEFAULT_WINDOW: Final = 64 * 1024


class SendWindow:
    """What the peer lets us send. Negative after it has made its initial window smaller."""

    __slots__ = ("left",)

    def __init__(self, size: int = DEFAULT_WINDOW) -> None:
        self.left = size

    def widen(self, delta: int) -> bool:
        """False if the window would be larger than the protocol allows."""
        self.left += delta
        return self.left <= MAX_WINDOW


class ReceiveWindow:
    """What we let the peer send."""

    __slots__ = ("_given_back", "_size", "left")

    def __init__(self, size: int = DEFAULT_WINDOW) -> None:
        self._size = size
        self._given_back = 0
        self.left = size

    def take(self, size: int) -> bool:
        """False if the peer has sent more than it may."""
        self.left -= size
        return self.left >= 0

    def give_back(self, size: int) -> int:
        """What a WINDOW_UPDATE must now say; 0 while it is not worth a frame (less than half of the window)."""
        self._given_back += size
        if 2 * self._given_back < self._size:
            return 0
        delta, self._given_back = self._given_back, 0
        self.left += delta
        return delta

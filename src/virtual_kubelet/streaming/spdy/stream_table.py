"""The streams of one SPDY session: their numbers, and how far each is. No frames, no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from virtual_kubelet.errors import SpdyError, StreamClosedError
from virtual_kubelet.streaming.spdy.flow_control import DEFAULT_WINDOW, ReceiveWindow, SendWindow
from virtual_kubelet.streaming.spdy.frames import MAX_STREAM_ID

__all__ = ["FIRST_OWN", "Stream", "StreamTable"]

#: The first number of who has opened the connection, and of who has not; each goes on in steps of two.
FIRST_OWN: Final = {True: 1, False: 2}


class Stream:
    """One stream. Each side ends it for itself: ``ended`` by us, ``peer_ended`` by the peer."""

    __slots__ = ("ended", "ours", "peer_ended", "receive_window", "replied", "send_window", "unacknowledged")

    def __init__(self, *, ours: bool, send_window: int, receive_window: int) -> None:
        self.ours = ours
        self.replied = False
        self.ended = False
        self.peer_ended = False
        self.send_window = SendWindow(send_window)
        self.receive_window = ReceiveWindow(receive_window)
        self.unacknowledged = 0


class StreamTable:
    """Open streams by their numbers.

    Attributes:
        last_taken: the peer's newest stream that was taken.
        of_peer: how many of those that are open the peer has opened.
        peer_window: what the peer takes of a new stream.
    """

    def __init__(self, *, client: bool, window: int) -> None:
        self._streams: dict[int, Stream] = {}
        self._next_own = FIRST_OWN[client]
        self._last_seen = 0  # of the peer's streams, those not taken included
        self.last_taken = 0
        self.of_peer = 0
        self.peer_window = DEFAULT_WINDOW
        self._window = window

    def __len__(self) -> int:
        return len(self._streams)

    def __contains__(self, stream_id: int) -> bool:
        return stream_id in self._streams

    def __iter__(self) -> Iterator[tuple[int, Stream]]:
        return iter(self._streams.items())

    def get(self, stream_id: int) -> Stream | None:
        return self._streams.get(stream_id)

    def writable(self, stream_id: int) -> Stream:
        """Raises ``StreamClosedError`` if it is gone, or we have ended it."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.ended:
            raise StreamClosedError(f"stream {stream_id} takes no more data")
        return stream

    def is_own_number(self, number: int) -> bool:
        """Whether it is one that we use, for streams and pings, and the peer does not."""
        return number % 2 == self._next_own % 2

    def next_own(self) -> int:
        """Raises ``StreamClosedError`` if there is none left."""
        if self._next_own > MAX_STREAM_ID:
            raise StreamClosedError("the session has no stream numbers left")
        return self._next_own

    def open_own(self, stream_id: int, *, fin: bool, unidirectional: bool) -> None:
        """A stream of ours, with the number from ``next_own``."""
        self._next_own = stream_id + 2
        stream = self._new(ours=True)
        stream.ended, stream.peer_ended = fin, unidirectional
        if not (fin and unidirectional):
            self._streams[stream_id] = stream

    def see(self, stream_id: int) -> None:
        """The peer opens a stream with this number. Raises ``SpdyError`` if it may not."""
        if self.is_own_number(stream_id):
            raise SpdyError("the peer opened a stream with a number of ours")
        if stream_id <= self._last_seen:
            raise SpdyError("the peer opened a stream with a number that it has used or passed")
        self._last_seen = stream_id

    def take(self, stream_id: int, *, unidirectional: bool) -> Stream:
        """The stream that the peer has opened."""
        self.last_taken = stream_id
        stream = self._streams[stream_id] = self._new(ours=False)
        stream.ended = unidirectional
        self.of_peer += 1
        return stream

    def check_opened(self, stream_id: int, kind: str) -> None:
        """Raises ``SpdyError`` if there never was such a stream."""
        if not stream_id or stream_id > (self._next_own - 2 if self.is_own_number(stream_id) else self._last_seen):
            raise SpdyError(f"a {kind} frame is for a stream that was never opened")

    def end(self, stream_id: int, stream: Stream, *, fin: bool) -> None:
        """With ``fin`` we send nothing more in it."""
        if fin:
            stream.ended = True
            if stream.peer_ended:
                self.forget(stream_id)

    def peer_end(self, stream_id: int, stream: Stream) -> None:
        """The peer sends nothing more in it."""
        stream.peer_ended = True
        if stream.ended:
            self.forget(stream_id)

    def forget(self, stream_id: int) -> None:
        if not self._streams.pop(stream_id).ours:
            self.of_peer -= 1

    def unseen(self, last_seen: int) -> list[int]:
        """Those of ours after the last one that the peer has seen."""
        return [number for number, stream in self._streams.items() if stream.ours and number > last_seen]

    def clear(self) -> None:
        self._streams.clear()
        self.of_peer = 0

    def _new(self, *, ours: bool) -> Stream:
        return Stream(ours=ours, send_window=self.peer_window, receive_window=self._window)

"""The body of one request: taken from the wire only as far as its handler wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from virtual_kubelet.errors import ProtocolError

__all__ = ["RequestBody"]


class RequestBody:
    """Collects chunks until the end, a limit or an error.

    Until somebody reads, ``ahead`` bytes at most are held (and the client is made to wait): who is not authorised
    cannot fill our memory.
    """

    __slots__ = ("_ahead", "_data", "_error", "_limit", "_waiter", "complete")

    def __init__(self, ahead: int) -> None:
        self._ahead = ahead
        self._data = bytearray()  # one buffer: a list of one-byte chunks would take forty times the memory
        self._limit: int | None = None
        self._error: ProtocolError | None = None
        self._waiter: asyncio.Future[None] | None = None
        #: Whether the end has been received.
        self.complete = False

    @classmethod
    def received(cls, data: bytes) -> RequestBody:
        """One that came whole."""
        body = cls(0)
        body._data += data
        body.complete = True
        return body

    def feed(self, data: bytes) -> bool:
        """Take a chunk; False: enough for now, stop reading."""
        if self._error is not None:
            return False
        self._data += data
        if self._limit is None:
            return len(self._data) <= self._ahead
        if len(self._data) > self._limit:
            self.fail(_too_large())
            return False
        return True

    def finish(self) -> None:
        """The end of the body."""
        self.complete = True
        self._wake()

    def fail(self, error: ProtocolError) -> None:
        """The framing is broken, or the body too large: readers get ``error``."""
        self._error = self._error or error
        self._data.clear()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read(self, limit: int, declared: int, timeout: float, resume: Callable[[], None]) -> bytes:
        """All of it, as ``Request.body`` says. ``resume`` makes the client send; ``declared``: Content-Length or 0."""
        if max(len(self._data), declared) > limit:
            raise _too_large()
        self._limit = limit
        if not self.complete and self._error is None:
            resume()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout):
                    await self._waiter
            except TimeoutError:
                self.fail(ProtocolError("the request's body did not come in time", status=408))
            finally:
                self._waiter = None
        if self._error is not None:
            raise self._error
        return bytes(self._data)


def _too_large() -> ProtocolError:
    return ProtocolError("the request's body is too large", status=413)

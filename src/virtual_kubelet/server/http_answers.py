"""What a connection answers: what its owner's handler says or, if that fails, why; and what stands before it."""

from __future__ import annotations

from typing import Final, TypeAlias

import h11

from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.server.connection_owner import ConnectionOwner
from virtual_kubelet.server.http_heads import response_head, whole_answer
from virtual_kubelet.server.http_messages import Request, Response, text_response
from virtual_kubelet.server.request_reader import ServerConnection
from virtual_kubelet.server.streaming_body import close_iterator
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["Answers", "Head"]

log = get_logger(__name__)

#: As h11 is to send it; or the whole of an answer.
Head: TypeAlias = h11.Response | h11.InformationalResponse | bytes
_INTERNAL_ERROR: Final = "Internal Error: the server failed to answer this request; its log says why.\n"


class Answers:
    """Of one connection.

    Attributes:
        retired: whether the next answer is the last one.
    """

    def __init__(self, owner: ConnectionOwner, http: ServerConnection) -> None:
        self._owner = owner
        self._http = http
        self.retired = False

    @property
    def last(self) -> bool:
        """Whether the connection ends with this answer."""
        return self.retired or self._owner.draining

    def at_once(self, request: Request) -> Response | None:
        """What is said without waiting for anything, to a request that came whole."""
        ask = self._owner.at_once
        if ask is None:
            return None
        try:
            return ask(request)
        except ProtocolError as error:
            return _refused(error)
        except Exception:
            log.exception("a request failed", extra=request.log_fields)
            return _failed()

    def whole(self, response: Response) -> bytes | None:
        """All of a small answer of the usual kind; None: it takes ``awaited``."""
        if self.last:
            return None
        try:
            return whole_answer(self._http, response, self._owner.date())
        except h11.LocalProtocolError:
            return None  # found again, and said, there

    async def awaited(self, request: Request, ready: Response | None) -> tuple[Response, Head]:
        """``ready``, or what the handler says, and its head, which h11 has found fit to be sent."""
        try:
            response = ready or await self._owner.handler(request)
            if not isinstance(response, Response):
                raise TypeError(f"the handler returned a {type(response).__name__}, not a Response")
            try:
                return response, self._head(response)
            except h11.LocalProtocolError:
                if not isinstance(response.body, bytes):
                    await close_iterator(response.body, self._owner.limits.close_timeout)
                raise
        except ProtocolError as error:
            response = _refused(error)
        except Exception:
            log.exception("a request failed", extra=request.log_fields)
            response = _failed()
        return response, self._head(response)

    def _head(self, response: Response) -> Head:
        date = self._owner.date()
        if not self.last and (whole := whole_answer(self._http, response, date)) is not None:
            return whole
        # Whether a client that waits for "100 Continue" still sends its body after this answer cannot be known.
        return response_head(response, date, close=self.last or self._http.they_are_waiting_for_100_continue)


def _refused(error: ProtocolError) -> Response:
    return text_response(error.status, f"{error}\n")


def _failed() -> Response:
    return text_response(500, _INTERNAL_ERROR)

"""One HTTP/1.1 connection: an ``asyncio.Protocol`` that moves bytes between a transport, h11 and a handler."""

from __future__ import annotations

import asyncio
from typing import cast

import h11

from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.server.closed_transport import CLOSED
from virtual_kubelet.server.connection_owner import ConnectionOwner
from virtual_kubelet.server.deadline import Deadline
from virtual_kubelet.server.http_answers import Answers, Head
from virtual_kubelet.server.http_heads import NO_BODY, SLICE, misread, plain_request, refusal, request_of
from virtual_kubelet.server.http_messages import (
    PeerIdentity,
    Request,
    Response,
    ResponseBroken,
    UpgradeHandler,
    peer_identity,
    reason,
)
from virtual_kubelet.server.request_body import RequestBody
from virtual_kubelet.server.request_reader import PlainRequest, ServerConnection
from virtual_kubelet.server.streaming_body import close_iterator, pump
from virtual_kubelet.server.transports import abort
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["HttpConnection"]

log = get_logger(__name__)


class _ClientGone(Exception):
    """The client left, or was cut, while a response was being sent."""


class HttpConnection(asyncio.Protocol):
    """Serves one request after the other, each in a task; a pipelined one waits until the answer before it is sent."""

    _transport: asyncio.Transport

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._limits = owner.limits
        self._loop = asyncio.get_running_loop()
        self._http = ServerConnection(self._limits.max_header_bytes)
        self._peer: PeerIdentity | None = None
        self._remote = ""
        self._task: asyncio.Task[None] | None = None
        self._body: RequestBody | None = None  # of the request that is served or discarded
        self._declared = 0  # its Content-Length
        self._successor: asyncio.Protocol | None = None  # after an upgrade
        self._reading = True
        self._in_headers = False
        self._streaming = False
        self._discarded: int | None = None  # bytes of a body nobody wants, once its answer is sent
        self._lingering = False
        self._answers = Answers(owner, self._http)
        self._ahead = 0  # bytes of pipelined requests
        self._paused = False
        self._drain_waiter: asyncio.Future[None] | None = None
        self._deadline = Deadline(self._loop, self._on_deadline)

    # Callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass
        transport.set_write_buffer_limits(self._limits.write_buffer_bytes)
        tls = transport.get_extra_info("ssl_object")
        der = tls.getpeercert(True) if tls is not None else None
        self._peer = peer_identity(transport.get_extra_info("peercert"), der)
        address = transport.get_extra_info("peername")
        self._remote = f"{address[0]}:{address[1]}" if address else ""
        self._deadline.set(self._limits.header_timeout)
        self._owner.idle(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.close()
        if self._task is not None:
            self._task.cancel()
        self._owner.closed(self)
        if self._successor is not None:
            self._successor.connection_lost(exc)
        self._transport = CLOSED

    def eof_received(self) -> bool | None:
        # The client will send nothing more: like Go's server we take it as leaving, so nobody follows a log for nobody.
        return None if self._successor is None else self._successor.eof_received()

    def pause_writing(self) -> None:
        self._paused = True
        if self._successor is not None:
            self._successor.pause_writing()

    def resume_writing(self) -> None:
        self._paused = False
        if self._drain_waiter is not None and not self._drain_waiter.done():
            self._drain_waiter.set_result(None)
        if self._task is None and self._body is None:
            self._resume_reading()
        if self._successor is not None:
            self._successor.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._successor is not None:
            self._successor.data_received(data)
        elif not self._lingering and not self._transport.is_closing():
            self._http.receive_data(data)
            if self._task is not None and self._body is not None and self._body.complete:
                self._hold_pipelined(len(data))
            else:
                self._advance()

    def close_if_idle(self) -> None:
        """Close between requests; a request under way is answered first (the owner is draining)."""
        if self._task is None and self._successor is None:
            self._transport.close()

    def retire(self) -> None:
        """Serve no further request; the one under way is answered."""
        self._answers.retired = True
        self.close_if_idle()

    def abort(self) -> None:
        """Cut the connection and cancel what it does."""
        abort(self._transport)

    # Reading

    def _advance(self) -> None:
        """Act on what has been received: a whole request, or a request's head, parts of its body."""
        plain = self._http.take_plain()
        if plain is not None:
            self._begin_plain(plain)
            return
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(misread(error))
                return
            if isinstance(event, h11.Request):
                if not self._begin(event):
                    return
            elif isinstance(event, h11.Data):
                if not self._take(event.data):
                    return
            elif isinstance(event, h11.EndOfMessage):
                assert self._body is not None
                self._body.finish()
                if self._discarded is not None:
                    self._end_cycle()
                    return
            else:  # NEED_DATA, PAUSED, ConnectionClosed
                if self._body is None and not self._in_headers and self._http.trailing_data[0]:
                    self._in_headers = True
                    self._deadline.set(self._limits.header_timeout)
                return

    def _begin(self, event: h11.Request) -> bool:
        self._in_headers = False
        self._deadline.clear()
        self._owner.busy(self)
        self._body = RequestBody(self._limits.write_buffer_bytes)
        try:
            request = request_of(event, self._limits, peer=self._peer, remote=self._remote, read_body=self._read_body)
        except ProtocolError as error:
            self._refuse(error, bodiless=event.method == b"HEAD")
            return False
        self._declared = int(request.headers.get("content-length", "0"))
        self._task = self._owner.spawn(self._serve(request))
        return True

    def _begin_plain(self, plain: PlainRequest) -> None:
        """The same for a request that came whole, which is answered here and now if that can be."""
        self._in_headers = False
        try:
            request = plain_request(
                plain, self._limits, peer=self._peer, remote=self._remote, read_body=self._read_body
            )
        except ProtocolError as error:
            self._refuse(error)
            return
        ready = self._answers.at_once(request) if request.content is not None else None
        if ready is None or not self._send_at_once(ready):
            self._body, self._declared = RequestBody.received(plain.body), len(plain.body)
            self._deadline.clear()
            self._owner.busy(self)
            self._task = self._owner.spawn(self._serve(request, ready))

    def _send_at_once(self, response: Response) -> bool:
        """Whether the answer is on its way: it is small, of the usual kind, and its client has taken those before."""
        whole = None if self._paused or self._transport.is_closing() else self._answers.whole(response)
        if whole is None:
            return False
        self._transport.write(whole)
        self._http.start_next_cycle()
        self._deadline.set(self._limits.idle_timeout)
        self._owner.waits(self)
        if self._paused:
            self._pause_reading()  # until it has taken this one
        return True

    def _take(self, data: bytes) -> bool:
        assert self._body is not None
        if self._discarded is None:
            if not self._body.feed(data):
                self._pause_reading()
            return True
        self._discarded += len(data)
        if self._discarded > self._limits.max_body_bytes:
            self._transport.close()
            return False
        return True

    def _hold_pipelined(self, size: int) -> None:
        self._ahead += size
        if self._ahead > self._limits.max_header_bytes:
            if self._streaming:
                # If we stopped reading, we could not see the client leave, and would follow a silent log for ever.
                abort(self._transport)
            else:
                self._pause_reading()

    async def _read_body(self, limit: int | None) -> bytes:
        body = self._body
        assert body is not None
        return await body.read(
            self._limits.max_body_bytes if limit is None else limit,
            self._declared,
            self._limits.body_timeout,
            self._ask_for_body,
        )

    def _ask_for_body(self) -> None:
        if self._http.they_are_waiting_for_100_continue and not self._transport.is_closing():
            self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[], reason=reason(100))))
        self._resume_reading()

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if not self._reading and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    # Serving

    async def _serve(self, request: Request, ready: Response | None = None) -> None:
        """``ready``: its answer, which is only to be sent."""
        served = False
        try:
            response, head = await self._answers.awaited(request, ready)
            await self._send(request, response, head)
            self._task = None
            if self._successor is None:
                self._end_cycle()
            served = True
        except (_ClientGone, ResponseBroken):
            pass  # the connection is cut below
        except Exception:
            log.exception("sending a response failed", extra=request.log_fields)
        finally:
            if not served:
                self._task = None
                abort(self._transport)

    async def _send(self, request: Request, response: Response, start: Head) -> None:
        body = response.body
        if isinstance(start, bytes):
            self._write(start)
            await self._drain()
            return
        try:
            head = self._http.send(start) or b""
            if response.upgrade is not None:
                self._write(head)
                self._switch(response.upgrade)
                return
            if request.method == "HEAD" or response.status in NO_BODY:
                self._write(head + (self._http.send(h11.EndOfMessage()) or b""))
            elif isinstance(body, bytes):
                await self._send_bytes(head, body)
            else:
                self._write(head)
                self._streaming = True
                limits = self._limits
                await pump(
                    body,
                    self._write_chunk,
                    self._drain,
                    limits.write_buffer_bytes,
                    close_timeout=limits.close_timeout,
                )
                self._write(self._http.send(h11.EndOfMessage()))
            await self._drain()
        finally:
            self._streaming = False
            if not isinstance(body, bytes):
                await close_iterator(body, self._limits.close_timeout)

    async def _send_bytes(self, head: bytes, body: bytes) -> None:
        if len(body) <= SLICE:
            parts = (head, self._http.send(h11.Data(data=body)), self._http.send(h11.EndOfMessage()))
            self._write(b"".join(part for part in parts if part))
            return
        self._write(head)
        for start in range(0, len(body), SLICE):
            self._write_chunk(body[start : start + SLICE])
            await self._drain()
        self._write(self._http.send(h11.EndOfMessage()))

    def _switch(self, upgrade: UpgradeHandler) -> None:
        self._successor = upgrade(self._transport, self._http.trailing_data[0])
        self._resume_reading()
        if self._paused:
            self._successor.pause_writing()

    def _write(self, data: bytes | None) -> None:
        if self._transport.is_closing():
            raise _ClientGone
        if data:
            self._transport.write(data)

    def _write_chunk(self, data: bytes) -> None:
        if data:  # an empty chunk would end a chunked body
            self._write(self._http.send(h11.Data(data=data)))

    async def _drain(self) -> None:
        if not self._paused:
            return
        if not self._streaming:
            self._owner.waits(self)
        while self._paused:
            self._drain_waiter = self._loop.create_future()
            try:
                async with asyncio.timeout(self._limits.write_timeout):
                    await self._drain_waiter
            except TimeoutError:
                raise _ClientGone from None
            finally:
                self._drain_waiter = None
        self._owner.busy(self)

    # Between requests

    def _end_cycle(self) -> None:
        """The answer is sent: go on with the next request, or close."""
        assert self._body is not None
        if self._transport.is_closing():
            return
        states = {self._http.our_state, self._http.their_state}
        if self._answers.last or states & {h11.MUST_CLOSE, h11.CLOSED, h11.ERROR}:
            if self._body.complete:
                self._transport.close()
            else:
                self._linger()
        elif not self._body.complete:
            self._discarded = 0
            self._owner.waits(self)
            self._deadline.set(self._limits.header_timeout)
            self._resume_reading()
            self._advance()
        else:
            self._http.start_next_cycle()
            self._body = self._discarded = None
            self._ahead = 0
            self._deadline.set(self._limits.idle_timeout)
            self._owner.idle(self)
            self._resume_reading()
            self._advance()

    def _refuse(self, error: ProtocolError, *, bodiless: bool = False) -> None:
        """What the client sent cannot be understood: say so if an answer can still be sent, and close."""
        if self._task is not None:
            # Its handler may be waiting for the body; after the answer h11's state closes the connection.
            assert self._body is not None
            self._body.fail(error)
            self._pause_reading()
            return
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            events = refusal(error, self._owner.date(), bodiless=bodiless)
            self._transport.write(b"".join(self._http.send(event) or b"" for event in events))
        self._linger()

    def _linger(self) -> None:
        self._lingering = True
        self._owner.waits(self)
        self._deadline.set(self._limits.linger_timeout)
        self._resume_reading()

    def _on_deadline(self) -> None:
        if self._in_headers and not self._lingering:
            self._refuse(ProtocolError("the request's headers did not come in time", status=408))
        else:
            self._transport.close()

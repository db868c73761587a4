"""The HTTP/1.1 server: listens, hands each connection to ``HttpConnection``, stops in order.

The node's HTTPS API and the dev cluster stand on it. All names that its users need are importable from here.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections.abc import Callable, Coroutine, Sequence
from email.utils import formatdate
from typing import Any, Final

from virtual_kubelet.errors import ConfigurationError
from virtual_kubelet.server.http_connection import HttpConnection
from virtual_kubelet.server.http_messages import (
    Handler,
    Headers,
    PeerIdentity,
    PromptHandler,
    QueryParameters,
    Request,
    Response,
    ResponseBroken,
    UpgradeHandler,
    text_response,
)
from virtual_kubelet.server.limits import ServerLimits
from virtual_kubelet.telemetry.logs import get_logger

__all__ = [
    "Handler",
    "Headers",
    "HttpServer",
    "PeerIdentity",
    "PromptHandler",
    "QueryParameters",
    "Request",
    "Response",
    "ResponseBroken",
    "ServerLimits",
    "UpgradeHandler",
    "open_listeners",
    "text_response",
]

log = get_logger(__name__)

#: The machine is short of something: accepting goes on after a pause, as in asyncio's own server.
_SHORTAGE: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_SHORTAGE_PAUSE: Final = 1.0
#: Clean-ups of one request come one inside the other: of its body, and of what that reads from.
_CLEAN_UPS: Final = 2
#: Seconds that connections have which were told that the server stops.
_LAST_WORDS: Final = 1.0
#: Refused connections are logged once in so many seconds: a flood must not fill the log, too.
_REFUSAL_LOG_SECONDS: Final = 60.0
_BACKLOG: Final = 512
#: Probes without an answer after which a silent client is taken to have vanished.
_KEEP_ALIVE_PROBES: Final = 3


class HttpServer:
    """An HTTP/1.1 server over TLS.

    ``start`` returns once it listens; ``wait`` ends when it stops and raises what broke it; ``aclose`` stops it.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        ssl_context: ssl.SSLContext | None,
        limits: ServerLimits | None = None,
        at_once: PromptHandler | None = None,
    ) -> None:
        """
        Args:
            ssl_context: None means plain TCP: for tests only, no client can be authenticated then.
            at_once: is asked first about a request that has come whole; what it answers costs no task.
        """
        self.handler = handler
        self.at_once = at_once
        self.limits = limits or ServerLimits()
        self.draining = False
        self._ssl_context = ssl_context
        self._connections: set[HttpConnection] = set()
        self._waiting: dict[HttpConnection, None] = {}  # for their clients; who waits for longest first
        self._greeting: dict[HttpConnection, asyncio.Task[None]] = {}  # in their handshake
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._runner: asyncio.Task[None] | None = None
        self._group: asyncio.TaskGroup | None = None
        self._empty: asyncio.Future[None] | None = None
        self._date = (0, "")
        self._refused = 0
        self._next_refusal_log = 0.0

    async def start(
        self, host: str, port: int, *, listeners: Sequence[socket.socket] | None = None
    ) -> list[tuple[str, int]]:
        """Listen on all addresses of ``host`` (empty: all of this machine, IPv6 and IPv4). Returns the addresses.

        With port 0 the system chooses one, the same for all addresses. Raises ``ConfigurationError`` if it cannot.
        Cancelled, it does not listen any more.
        ``listeners``, from ``open_listeners``, take the place of host and port; the server closes them.
        """
        if self._runner is not None:
            raise RuntimeError("this server has been started already")
        self._listeners = await open_listeners(host, port) if listeners is None else list(listeners)
        addresses = [listener.getsockname()[:2] for listener in self._listeners]
        started = asyncio.get_running_loop().create_future()
        self._runner = asyncio.create_task(self._run(started), name="http server")
        try:
            await asyncio.shield(started)
        except asyncio.CancelledError:
            self._runner.cancel()
            await asyncio.wait({self._runner})
            raise
        return addresses

    async def wait(self) -> None:
        """Until the server has stopped. Raises what made it stop, if that was not ``aclose``."""
        if self._runner is None:
            raise RuntimeError("this server has not been started")
        await asyncio.shield(self._runner)

    async def aclose(self, grace: float = 5.0, *, last_words: Callable[[], None] = lambda: None) -> None:
        """Stop: no new connections, idle ones closed, the others have ``grace`` seconds to finish, then are cut.

        ``last_words`` is called before that if there are any: what it has connections say, and how they end of themselves,
        has a second more.

        Returns when everything has ended, or would not end (logged). Cancelling it cuts at once. What broke the server
        earlier is only logged: ``wait`` raises it.
        """
        self.draining = True
        if self._runner is None:
            return
        for task in self._accepting:
            task.cancel()
        for connection in list(self._connections):
            connection.close_if_idle()
        try:
            if self._connections or self._greeting:
                self._empty = asyncio.get_running_loop().create_future()
                try:
                    async with asyncio.timeout(grace):
                        await asyncio.shield(self._empty)
                except TimeoutError:
                    last_words()
                    async with asyncio.timeout(_LAST_WORDS):
                        await self._empty
        except TimeoutError:
            log.info("cutting connections", extra={"connections": str(len(self._connections))})
        finally:
            for greeting in self._greeting.values():
                greeting.cancel()
            for connection in list(self._connections):
                connection.abort()
            await asyncio.wait({self._runner}, timeout=_CLEAN_UPS * self.limits.close_timeout)
        if not self._runner.done():
            log.error("requests that were cancelled go on; leaving them behind")
        elif not self._runner.cancelled() and (error := self._runner.exception()) is not None:
            log.error("the server had broken down before it was stopped", exc_info=error)

    def replace_context(self, ssl_context: ssl.SSLContext, *, retire: bool = False) -> None:
        """New connections are made with this one.

        With ``retire``, those that are open end with their present request, or now if they have none: who they are was
        found out with the old one, and counts no more.
        """
        self._ssl_context = ssl_context
        if not retire:
            return
        while self._greeting:
            self._greeting.popitem()[1].cancel()
        for connection in list(self._connections):
            connection.retire()

    @property
    def connections(self) -> int:
        """Number of open connections, those in their TLS handshake included."""
        return len(self._connections) + len(self._greeting)

    async def _run(self, started: asyncio.Future[None]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._accepting = [group.create_task(self._accept(listener)) for listener in self._listeners]
                started.set_result(None)
        finally:
            for listener in self._listeners:
                listener.close()
            for connection in list(self._connections):
                connection.abort()

    async def _accept(self, listener: socket.socket) -> None:
        assert self._group is not None
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except ConnectionError:  # gone again before we looked
                    continue
                except OSError as error:
                    if error.errno not in _SHORTAGE:
                        raise
                    log.error("cannot accept connections: %s", error.strerror)
                    await asyncio.sleep(_SHORTAGE_PAUSE)
                    continue
                if self._make_room():
                    self._welcome(connection)
                else:
                    connection.close()
                    self._log_refusal()
        finally:
            listener.close()

    def _log_refusal(self) -> None:
        self._refused += 1
        now = asyncio.get_running_loop().time()
        if now >= self._next_refusal_log:
            log.warning("%d connections refused: %d are open and each is being served", self._refused, self.connections)
            self._refused = 0
            self._next_refusal_log = now + _REFUSAL_LOG_SECONDS

    def _make_room(self) -> bool:
        """Whether one more fits in. Who waits for his client for longest gives way: no slow client shuts others out."""
        if self.connections < self.limits.max_connections:
            return True
        longest = next(iter(self._waiting), None)
        if longest is None:
            return False
        greeting = self._greeting.pop(longest, None)
        if greeting is not None:
            greeting.cancel()
        else:
            longest.abort()
        self.closed(longest)  # its connection_lost comes with the next round of the loop
        return True

    def _welcome(self, accepted: socket.socket) -> None:
        assert self._group is not None
        connection = HttpConnection(self)
        self.waits(connection)
        task = self._greeting[connection] = self._group.create_task(self._greet(accepted, connection))

        def done(task: asyncio.Task[None]) -> None:
            if task.cancelled() and connection not in self._connections:  # perhaps before it began
                accepted.close()
            if connection not in self._connections:
                self._greeting.pop(connection, None)
                self.closed(connection)

        task.add_done_callback(done)

    async def _greet(self, accepted: socket.socket, connection: HttpConnection) -> None:
        """The handshake; the connection says ``idle`` when it has been made."""
        try:
            _keep_alive(accepted, self.limits.keep_alive)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._ssl_context,
                ssl_handshake_timeout=self.limits.header_timeout if self._ssl_context else None,
                ssl_shutdown_timeout=self.limits.close_timeout if self._ssl_context else None,
            )
        except OSError as error:  # ssl.SSLError, TimeoutError and ConnectionError are among them
            accepted.close()
            log.debug("handshake failed: %s", type(error).__name__)

    # What connections call

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        assert self._group is not None
        return self._group.create_task(work)

    def idle(self, connection: HttpConnection) -> None:
        if connection not in self._connections and self._greeting.pop(connection, None) is None:
            connection.abort()  # it had to make room in the moment in which its handshake ended
            return
        self._connections.add(connection)
        self.waits(connection)
        if self.draining:
            connection.close_if_idle()

    def waits(self, connection: HttpConnection) -> None:
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def busy(self, connection: HttpConnection) -> None:
        self._waiting.pop(connection, None)

    def closed(self, connection: HttpConnection) -> None:
        self._connections.discard(connection)
        self._waiting.pop(connection, None)
        self._check_empty()

    def _check_empty(self) -> None:
        if self._empty is not None and not self._empty.done() and not self._connections and not self._greeting:
            self._empty.set_result(None)

    def date(self) -> str:
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True))
        return self._date[1]


async def open_listeners(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen as ``HttpServer.start`` says: for who must know the port before there is a server."""
    sockets: list[socket.socket] = []
    try:
        if not host and socket.has_dualstack_ipv6():
            sockets.append(
                socket.create_server(("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
            )
            return sockets
        found = await asyncio.get_running_loop().getaddrinfo(
            host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, address in dict.fromkeys(found):
            place = (address[0], port, *address[2:])
            sockets.append(socket.create_server(place, family=family, backlog=_BACKLOG))
            port = port or sockets[0].getsockname()[1]
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise ConfigurationError(
            f"cannot listen on {host or 'any address'} port {port}: {error.strerror}",
            hint="choose another address or port; 0 lets the system choose a port",
        ) from error
    finally:
        for listener in sockets:
            listener.setblocking(False)
    return sockets


def _keep_alive(connection: socket.socket, seconds: int) -> None:
    """Have TCP ask a silent client whether it is still there: it may be at the end of a silent stream."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, seconds // _KEEP_ALIVE_PROBES))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _KEEP_ALIVE_PROBES)

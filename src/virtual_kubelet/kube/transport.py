"""HTTP to one API server: connections, credentials, time-outs, retries, metrics. Knows no resources and no objects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

import aiohttp
from yarl import URL

from virtual_kubelet.errors import ApiConnectionError, ApiError, ApiTimeoutError, UnauthorizedError
from virtual_kubelet.kube.budget import RequestBudget
from virtual_kubelet.kube.client_certificate import RENEWAL_HINT
from virtual_kubelet.kube.config import ClientConfig
from virtual_kubelet.kube.responses import error_from, explain, is_distrust, refused_in_tls
from virtual_kubelet.telemetry.metrics import Metrics
from virtual_kubelet.telemetry.tracing import span

__all__ = ["ApiResponse", "Transport"]

_JSON: Final = "application/json"


class ApiResponse(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Connections:
    """A pool of connections. Entered by each who uses it; once retired, the last one to leave closes it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self._users = 0
        self._retired = False

    async def __aenter__(self) -> aiohttp.ClientSession:
        self._users += 1
        return self.session

    async def __aexit__(self, *exc_info: object) -> None:
        self._users -= 1
        await self._close_if_done()

    async def retire(self) -> None:
        self._retired = True
        await self._close_if_done()

    async def _close_if_done(self) -> None:
        if self._retired and not self._users:
            await self.session.close()


class Transport:
    """Sends requests and opens streams; its arguments are ``ApiClient``'s, which see."""

    def __init__(
        self,
        config: ClientConfig,
        *,
        metrics: Metrics | None,
        qps: float,
        burst: int,
        connections: int,
        request_timeout: float,
        user_agent: str,
        retries: int,
        longest_retry_after: float,
    ) -> None:
        self.config = config
        self.request_timeout = request_timeout
        self._metrics = metrics
        self._budget = RequestBudget(qps, burst)
        self._connections = connections
        self._user_agent = user_agent
        self._retries = retries
        self._longest_retry_after = longest_retry_after
        self._base = config.server.rstrip("/")
        self._for_requests: _Connections | None = None
        self._for_streams: _Connections | None = None
        self._certificate_changes = 0
        self._ssl_context = config.ssl_context
        self._retired: list[_Connections] = []
        self._counters: dict[tuple[str, str, str], Any] = {}
        self._timers: dict[tuple[str, str], Any] = {}
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    async def aclose(self) -> None:
        """Close all connections; requests and streams under way fail."""
        pools = [*self._retired, self._for_requests, self._for_streams]
        self._for_requests = self._for_streams = None
        self._retired = []
        for pool in pools:
            if pool is not None:
                await pool.session.close()

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        timeout: float | None,
        *,
        verb: str,
        resource: str,
        repeatable: bool,
    ) -> ApiResponse:
        """One request, tried again where that is safe. ``headers`` are changed.

        ``repeatable``: may be sent twice, if a connection breaks before an answer. What the server refuses with a
        Retry-After it has not done, so that is always tried again.
        """
        with span("api " + verb, resource=resource):
            return await self._send(method, path, body, headers, timeout, verb, resource, repeatable)

    async def _send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        timeout: float | None,
        verb: str,
        resource: str,
        repeatable: bool,
    ) -> ApiResponse:
        refreshed = broken = False
        refused = 0
        url = URL(self._base + path, encoded=True)
        while True:
            if self._budget.limited:
                await self._budget.take()
            try:
                answer = await self._once(method, url, body, headers, timeout, verb, resource)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._count(verb, resource, "error")
                # Such as a pooled connection that had been closed under us: a fresh one may well work.
                if repeatable and not broken and _broke_off(error):
                    broken = True
                    continue
                raise self._broken(error) from error
            if answer.status < 300:
                return answer
            failure = self._failure(answer.status, answer.headers, answer.body)
            if answer.status == 401 and not refreshed:
                refreshed = True
                self._reject(headers.get("Authorization"))
            elif answer.status in (429, 503) and failure.retry_after is not None and refused < self._retries:
                refused += 1
                await asyncio.sleep(min(failure.retry_after, self._longest_retry_after))
            else:
                raise failure

    async def _once(
        self,
        method: str,
        url: URL,
        body: bytes | None,
        headers: dict[str, str],
        timeout: float | None,
        verb: str,
        resource: str,
    ) -> ApiResponse:
        headers.pop("Authorization", None)
        authorization = await self.config.credentials.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        seconds = timeout or self.request_timeout
        limit = self._timeouts.get(seconds)
        if limit is None:
            limit = self._timeouts[seconds] = aiohttp.ClientTimeout(total=seconds)
        await self._check_tls()
        if self._for_requests is None:
            self._for_requests = _Connections(self._new_session(self._connections))
        started = time.perf_counter()
        async with (
            self._for_requests as session,
            session.request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=limit,
                allow_redirects=False,
                server_hostname=self.config.tls_server_name,
            ) as answer,
        ):
            content = await answer.read()
        self._count(verb, resource, str(answer.status), time.perf_counter() - started)
        return ApiResponse(answer.status, answer.headers, content)

    @asynccontextmanager
    async def stream(self, path: str, resource: str, inactivity: float | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """A GET whose answer is read as it comes; ``inactivity`` seconds without a byte raise ``ApiTimeoutError``."""
        url = URL(self._base + path, encoded=True)
        for last_try in (False, True):
            authorization = await self.config.credentials.authorization()
            await self._check_tls()
            if self._for_streams is None:
                self._for_streams = _Connections(self._new_session(0))
            async with self._for_streams as session:
                try:
                    answer = await self._open(session, url, authorization, resource, inactivity)
                    async with answer:
                        if answer.status < 300:
                            yield answer.content.iter_any()
                            return
                        async with asyncio.timeout(self.request_timeout):
                            body = await answer.read()
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    raise self._broken(error) from error
            failure = self._failure(answer.status, answer.headers, body)
            if answer.status == 401:
                self._reject(authorization)
            if answer.status != 401 or last_try:
                raise failure

    async def _open(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        authorization: str | None,
        resource: str,
        inactivity: float | None,
    ) -> aiohttp.ClientResponse:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self.request_timeout):
                answer = await session.get(
                    url,
                    headers={} if authorization is None else {"Authorization": authorization},
                    timeout=aiohttp.ClientTimeout(total=None, sock_read=inactivity),
                    allow_redirects=False,
                    server_hostname=self.config.tls_server_name,
                )
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._count("watch", resource, "error")
            raise
        self._count("watch", resource, str(answer.status), time.perf_counter() - started)
        return answer

    def _new_session(self, connections: int) -> aiohttp.ClientSession:
        config = self.config
        # Each new connection looks the server up: its address, or that of the load balancer before it, may be another now.
        connector = aiohttp.TCPConnector(limit=connections, ssl=config.ssl_context or True, use_dns_cache=False)
        session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent, "Accept": _JSON},
            proxy=config.proxy,
            auto_decompress=True,
            trust_env=False,
        )
        # aiohttp would repeat a DELETE, which could then hit a successor of the same name; we know better what may be
        # repeated. There is no public switch; tests/kube/test_client.py counts what reaches the server.
        session._retry_connection = False
        return session

    async def _check_tls(self) -> None:
        """Certificates are shown and checked when a connection begins: new ones, of either side, need new connections."""
        config = self.config
        if config.authority_file is not None and config.authority_file.due:
            authority = await config.authority_file.refresh()
            if authority is not None:
                await asyncio.to_thread(config.trust, authority)
        certificate = config.client_certificate
        if certificate is not None and certificate.due:
            await certificate.refresh()
        changes = 0 if certificate is None else certificate.changes
        if changes == self._certificate_changes and config.ssl_context is self._ssl_context:
            return
        self._certificate_changes, self._ssl_context = changes, config.ssl_context
        # What is under way may end on its old connection.
        old = [pool for pool in (self._for_requests, self._for_streams) if pool is not None]
        self._for_requests = self._for_streams = None
        self._retired = [pool for pool in (*self._retired, *old) if not pool.session.closed]
        for pool in old:
            await pool.retire()

    def _reject(self, authorization: str | None) -> None:
        """The server did not accept what we are: have it renewed before the next request."""
        self.config.credentials.reject(authorization)
        if self.config.client_certificate is not None:
            self.config.client_certificate.reject()

    def _failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
        failure = error_from(status, headers, body)
        why = self._expired() if status == 401 else ""
        if why:
            failure = UnauthorizedError(status, failure.reason, f"{failure}: {why}", retry_after=failure.retry_after)
            failure.add_note(RENEWAL_HINT)
        return failure

    def _broken(self, error: BaseException) -> ApiConnectionError:
        if isinstance(error, TimeoutError):
            return ApiTimeoutError(f"the API server at {self._base} did not answer in time")
        if self.config.authority_file is not None and is_distrust(error):
            self.config.authority_file.reject()
        what = f"cannot talk to the API server at {self._base}: {explain(error)}"
        # A server that refuses it in TLS says so with an alert, which the end of the connection may overtake.
        why = self._expired() if refused_in_tls(error) else ""
        if not why:
            return ApiConnectionError(what)
        self._reject(None)
        broken = ApiConnectionError(f"{what}: {why}")
        broken.add_note(RENEWAL_HINT)
        return broken

    def _expired(self) -> str:
        certificate = self.config.client_certificate
        return "" if certificate is None else certificate.problem

    def _count(self, verb: str, resource: str, code: str, seconds: float | None = None) -> None:
        if self._metrics is None:
            return
        counter = self._counters.get((verb, resource, code))
        if counter is None:
            counter = self._metrics.api_requests.labels(verb, resource, code)
            self._counters[verb, resource, code] = counter
        counter.inc()
        if seconds is None:
            return
        timer = self._timers.get((verb, resource))
        if timer is None:
            timer = self._timers[verb, resource] = self._metrics.api_request_seconds.labels(verb, resource)
        timer.observe(seconds)


def _broke_off(error: BaseException) -> bool:
    """Whether there was a connection, and it is gone."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return False
    gone = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError, ConnectionResetError)
    return isinstance(error, gone)

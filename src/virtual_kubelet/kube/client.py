"""Requests to the API server: verbs, typed errors, time-outs, retries, a request budget."""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from virtual_kubelet.errors import ApiConnectionError, ApiError, ApiTimeoutError
from virtual_kubelet.kube.budget import RequestBudget
from virtual_kubelet.kube.config import ClientConfig
from virtual_kubelet.kube.resources import Resource
from virtual_kubelet.kube.responses import error_from, explain
from virtual_kubelet.kube.watch import WatchEvent, decode_events, split_lines
from virtual_kubelet.objects.meta_v1 import DeleteOptions, ListMeta, Preconditions
from virtual_kubelet.objects.serialization import encode
from virtual_kubelet.telemetry.metrics import Metrics

__all__ = ["ApiClient", "ApiResponse", "ObjectList", "PatchType", "ServerVersion"]

T = TypeVar("T", bound=msgspec.Struct)

_JSON: Final = "application/json"
#: 429 and 503 are tried again this often, after what Retry-After says (client-go: 10), but at most this long.
_RETRIES: Final = 5
_LONGEST_RETRY_AFTER: Final = 30.0


class PatchType(enum.Enum):
    """Kinds of patch; the value is the media type."""

    STRATEGIC_MERGE = "application/strategic-merge-patch+json"
    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"


class ApiResponse(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class ServerVersion(NamedTuple):
    major: int
    minor: int
    git_version: str


@dataclass(slots=True)
class ObjectList(Generic[T]):
    """One page of a list. ``malformed`` counts the items that could not be decoded and are left out."""

    items: list[T]
    resource_version: str
    continue_: str
    remaining: int | None
    malformed: int = 0


class _RawList(msgspec.Struct):
    metadata: ListMeta
    items: list[msgspec.Raw] | None = None


class _Version(msgspec.Struct, rename={"git_version": "gitVersion"}):
    major: str
    minor: str
    git_version: str = ""


class ApiClient:
    """A client of one API server. Use as an async context manager, or call ``aclose``.

    Errors: the ``ApiError`` tree for answers, ``ApiConnectionError`` and ``ApiTimeoutError`` for the network. Cancelling
    a call drops its connection; whether the server did it is then unknown.

    Args:
        config: where and who.
        metrics: counts requests and their time.
        qps, burst: a budget for requests (0: none), as client-go's.
        connections: at most so many at once for requests; each idle TLS connection holds some 0.3 MB. Watches have
            connections of their own.
        request_timeout: seconds for one try of one request.
        max_line: longest watch line in bytes; one object is at most 1.5 MB in etcd.
    """

    def __init__(
        self,
        config: ClientConfig,
        *,
        metrics: Metrics | None = None,
        qps: float = 0,
        burst: int = 0,
        connections: int = 32,
        request_timeout: float = 30.0,
        user_agent: str = "virtual-kubelet/0.1.0",
        max_line: int = 16 * 1024 * 1024,
    ) -> None:
        self.config = config
        self.request_timeout = request_timeout
        self._metrics = metrics
        self._budget = RequestBudget(qps, burst)
        self._connections = connections
        self._user_agent = user_agent
        self._max_line = max_line
        self._base = config.server.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._watch_session: aiohttp.ClientSession | None = None
        self._decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}
        self._counters: dict[tuple[str, str, int], Any] = {}
        self._timers: dict[tuple[str, str], Any] = {}
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    async def __aenter__(self) -> ApiClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; calls and watches under way fail."""
        for session in (self._session, self._watch_session):
            if session is not None:
                await session.close()
        self._session = self._watch_session = None

    # Verbs

    async def get(
        self, resource: Resource[T], name: str, namespace: str | None = None, *, timeout: float | None = None
    ) -> T:
        """One object. Raises ``ApiNotFoundError``."""
        body = await self._send("GET", resource.path(name, namespace), resource, "get", timeout=timeout)
        return self._decode(body, resource.object_type)

    async def list(
        self,
        resource: Resource[T],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_: str = "",
        resource_version: str = "",
        resource_version_match: str = "",
        timeout: float | None = None,
    ) -> ObjectList[T]:
        """One page of objects; all of them without ``limit``. A malformed item is left out and counted, not fatal."""
        query = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "limit": str(limit or ""),
            "continue": continue_,
            "resourceVersion": resource_version,
            "resourceVersionMatch": resource_version_match,
        }
        path = _with_query(resource.path(None, namespace), query)
        raw = self._decode(await self._send("GET", path, resource, "list", timeout=timeout), _RawList)
        decoder = self._decoder(resource.object_type)
        items: list[T] = []
        malformed = 0
        for item in raw.items or ():
            try:
                items.append(decoder.decode(item))
            except msgspec.DecodeError:
                malformed += 1
        meta = raw.metadata
        return ObjectList(
            items, meta.resource_version or "", meta.continue_ or "", meta.remaining_item_count, malformed
        )

    async def create(
        self,
        resource: Resource[T],
        obj: msgspec.Struct,
        namespace: str | None = None,
        *,
        name: str | None = None,
        subresource: str | None = None,
        timeout: float | None = None,
    ) -> T:
        """Create; the answer is the object as stored. Raises ``AlreadyExistsError``, ``InvalidObjectError``, …"""
        path = resource.path(name, namespace, subresource)
        body = await self._send("POST", path, resource, "create", encode(obj), _JSON, timeout=timeout)
        return self._decode(body, resource.object_type)

    async def send_create(self, resource: Resource[Any], obj: msgspec.Struct, namespace: str | None = None) -> None:
        """Create without decoding the answer."""
        await self._send("POST", resource.path(None, namespace), resource, "create", encode(obj), _JSON, timeout=None)

    async def patch(
        self,
        resource: Resource[T],
        name: str,
        patch: bytes | Mapping[str, Any] | Sequence[Any],
        namespace: str | None = None,
        *,
        patch_type: PatchType = PatchType.STRATEGIC_MERGE,
        subresource: str | None = None,
        timeout: float | None = None,
    ) -> T:
        """Patch; the answer is the object as stored."""
        body = await self._patch(resource, name, patch, namespace, patch_type, subresource, timeout)
        return self._decode(body, resource.object_type)

    async def send_patch(
        self,
        resource: Resource[Any],
        name: str,
        patch: bytes | Mapping[str, Any] | Sequence[Any],
        namespace: str | None = None,
        *,
        patch_type: PatchType = PatchType.STRATEGIC_MERGE,
        subresource: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Patch without decoding the answer: for writes whose echo comes by a watch anyway."""
        await self._patch(resource, name, patch, namespace, patch_type, subresource, timeout)

    async def delete(
        self,
        resource: Resource[Any],
        name: str,
        namespace: str | None = None,
        *,
        grace_period_seconds: int | None = None,
        uid: str | None = None,
        propagation_policy: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Delete; with ``uid`` only that incarnation (``ConflictError`` if another has its name)."""
        options = DeleteOptions(
            grace_period_seconds=grace_period_seconds,
            preconditions=Preconditions(uid=uid) if uid else None,
            propagation_policy=propagation_policy,
        )
        body = msgspec.json.encode(options)
        await self._send("DELETE", resource.path(name, namespace), resource, "delete", body, _JSON, timeout=timeout)

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> ApiResponse:
        """Any request. Raises ``ApiError`` for a status of 400 and more."""
        return await self._try(method, _with_query(path, query or {}), body, dict(headers or {}), timeout)

    async def server_version(self) -> ServerVersion:
        """What ``/version`` says."""
        found = self._decode((await self.request("GET", "/version")).body, _Version)
        return ServerVersion(_leading_digits(found.major), _leading_digits(found.minor), found.git_version)

    async def watch(
        self,
        resource: Resource[T],
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
        allow_bookmarks: bool = True,
        send_initial_events: bool = False,
        timeout_seconds: int = 0,
        inactivity: float | None = None,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Events until the server ends the watch. Close it (``aclosing``) to end it earlier.

        An ``ERROR`` event raises its ``ApiError`` (``GoneError`` for 410). ``inactivity`` seconds without a byte raise
        ``ApiTimeoutError``. A malformed object is yielded as an event of type ``MALFORMED`` without an object.
        """
        query = {
            "watch": "1",
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true" if allow_bookmarks or send_initial_events else "",
            "sendInitialEvents": "true" if send_initial_events else "",
            "resourceVersionMatch": "NotOlderThan" if send_initial_events else "",
            "timeoutSeconds": str(timeout_seconds or ""),
        }
        url = URL(self._base + _with_query(resource.path(None, namespace), query), encoded=True)
        decoder = self._decoder(resource.object_type)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self.request_timeout, sock_read=inactivity)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self.request_timeout) as limit:
                headers = await self._headers(_JSON)
                async with self._watches().get(url, headers=headers, timeout=timeout) as answer:
                    self._count("watch", resource.plural, answer.status, time.perf_counter() - started)
                    if answer.status >= 400:
                        if answer.status == 401:
                            self.config.credentials.reject()
                        raise error_from(answer.status, answer.headers, await answer.read())
                    limit.reschedule(None)
                    async for lines in split_lines(answer.content.iter_any(), self._max_line):
                        for event in decode_events(lines, decoder):
                            yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._broken(error) from error

    # One request

    async def _patch(
        self,
        resource: Resource[Any],
        name: str,
        patch: bytes | Mapping[str, Any] | Sequence[Any],
        namespace: str | None,
        patch_type: PatchType,
        subresource: str | None,
        timeout: float | None,
    ) -> bytes:
        body = patch if isinstance(patch, bytes) else msgspec.json.encode(patch)
        path = resource.path(name, namespace, subresource)
        return await self._send("PATCH", path, resource, "patch", body, patch_type.value, timeout=timeout)

    async def _send(
        self,
        method: str,
        path: str,
        resource: Resource[Any],
        verb: str,
        body: bytes | None = None,
        media_type: str | None = None,
        *,
        timeout: float | None,
    ) -> bytes:
        headers = {"Content-Type": media_type} if media_type else {}
        answer = await self._try(method, path, body, headers, timeout, verb, resource.plural)
        return answer.body

    async def _try(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: dict[str, str],
        timeout: float | None,
        verb: str = "raw",
        resource: str = "",
    ) -> ApiResponse:
        refreshed = broken = False
        refused = 0
        url = URL(self._base + path, encoded=True)
        while True:
            if self._budget.limited:
                await self._budget.take()
            try:
                answer = await self._once(method, url, body, headers, timeout, verb, resource)
            except aiohttp.ServerDisconnectedError as error:
                # The pooled connection had been closed under us. What is safe to send twice is sent once more: reads,
                # and writes that name what they change (patches and deletions of one object are idempotent).
                if broken or method == "POST":
                    raise self._broken(error) from error
                broken = True
                continue
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise self._broken(error) from error
            if answer.status < 400:
                return answer
            failure = error_from(answer.status, answer.headers, answer.body)
            if answer.status == 401 and not refreshed:
                refreshed = True
                self.config.credentials.reject()
            elif answer.status in (429, 503) and failure.retry_after is not None and refused < _RETRIES:
                refused += 1
                await asyncio.sleep(min(failure.retry_after, _LONGEST_RETRY_AFTER))
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
        authorization = await self.config.credentials.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        seconds = timeout or self.request_timeout
        limit = self._timeouts.get(seconds)
        if limit is None:
            limit = self._timeouts[seconds] = aiohttp.ClientTimeout(total=seconds)
        started = time.perf_counter()
        async with self._requests().request(
            method, url, data=body, headers=headers, timeout=limit, allow_redirects=False
        ) as answer:
            content = await answer.read()
        self._count(verb, resource, answer.status, time.perf_counter() - started)
        return ApiResponse(answer.status, answer.headers, content)

    async def _headers(self, accept: str) -> dict[str, str]:
        authorization = await self.config.credentials.authorization()
        return {"Accept": accept} if authorization is None else {"Accept": accept, "Authorization": authorization}

    def _requests(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = self._new_session(self._connections)
        return self._session

    def _watches(self) -> aiohttp.ClientSession:
        if self._watch_session is None:
            self._watch_session = self._new_session(0)
        return self._watch_session

    def _new_session(self, connections: int) -> aiohttp.ClientSession:
        config = self.config
        connector = aiohttp.TCPConnector(limit=connections, ssl=config.ssl_context or True)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self._user_agent, "Accept": _JSON},
            proxy=config.proxy,
            auto_decompress=True,
            trust_env=False,
        )

    def _broken(self, error: BaseException) -> ApiConnectionError:
        if isinstance(error, TimeoutError):
            return ApiTimeoutError(f"the API server at {self._base} did not answer in time")
        return ApiConnectionError(f"cannot talk to the API server at {self._base}: {explain(error)}")

    def _count(self, verb: str, resource: str, code: int, seconds: float) -> None:
        if self._metrics is None:
            return
        counter = self._counters.get((verb, resource, code))
        if counter is None:
            counter = self._metrics.api_requests.labels(verb, resource, str(code))
            self._counters[verb, resource, code] = counter
        counter.inc()
        timer = self._timers.get((verb, resource))
        if timer is None:
            timer = self._timers[verb, resource] = self._metrics.api_request_seconds.labels(verb, resource)
        timer.observe(seconds)

    def _decoder(self, kind: type[T]) -> msgspec.json.Decoder[T]:
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.json.Decoder(kind)
        return decoder

    def _decode(self, body: bytes, kind: type[T]) -> T:
        try:
            return self._decoder(kind).decode(body)
        except msgspec.DecodeError as error:
            raise ApiError(200, "", f"the API server's answer is not a {kind.__name__}: {error}") from error


def _with_query(path: str, query: Mapping[str, str]) -> str:
    given = {key: value for key, value in query.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


def _leading_digits(text: str) -> int:
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    return int(digits or 0)

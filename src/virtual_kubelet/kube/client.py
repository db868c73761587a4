"""Requests to the API server: verbs, typed errors, time-outs, retries, a request budget."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, NamedTuple, TypeVar
from urllib.parse import urlencode

import msgspec

from virtual_kubelet.errors import ApiError
from virtual_kubelet.kube.config import ClientConfig
from virtual_kubelet.kube.resources import Resource
from virtual_kubelet.kube.transport import ApiResponse, Transport
from virtual_kubelet.kube.watch import UNREADABLE, Identity, WatchEvent, decode_events, identity_of, split_lines
from virtual_kubelet.objects.meta_v1 import DeleteOptions, ListMeta, Preconditions
from virtual_kubelet.objects.serialization import encode
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.telemetry.metrics import Metrics

__all__ = ["ApiClient", "ApiResponse", "ObjectList", "PatchType", "ServerVersion"]

log = get_logger(__name__)

T = TypeVar("T", bound=msgspec.Struct)

_JSON: Final = "application/json"


class PatchType(enum.Enum):
    """Kinds of patch; the value is the media type."""

    STRATEGIC_MERGE = "application/strategic-merge-patch+json"
    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"


class ServerVersion(NamedTuple):
    major: int
    minor: int
    git_version: str


@dataclass(slots=True)
class ObjectList(Generic[T]):
    """One page of a list. ``malformed`` names the items that could not be decoded and are left out (None: not even that)."""

    items: list[T]
    resource_version: str
    continue_: str
    remaining: int | None
    malformed: Sequence[Identity | None] = ()


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
        retries, longest_retry_after: 429 and 503 are tried again this often after what their Retry-After says, but at
            most this long (client-go: 10 times).
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
        retries: int = 5,
        longest_retry_after: float = 30.0,
    ) -> None:
        self.config = config
        self.request_timeout = request_timeout
        self._max_line = max_line
        self._transport = Transport(
            config,
            metrics=metrics,
            qps=qps,
            burst=burst,
            connections=connections,
            request_timeout=request_timeout,
            user_agent=user_agent,
            retries=retries,
            longest_retry_after=longest_retry_after,
        )
        self._decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {}
        #: What this server is known not to have.
        self.lacking: set[str] = set()

    def do_without(self, feature: str, why: str) -> None:
        """This server, an old one, does not have ``feature``: say so once, and let nobody try again."""
        if feature not in self.lacking:
            self.lacking.add(feature)
            log.info("the API server has no %s, doing without them (%s)", feature, why)

    async def __aenter__(self) -> ApiClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections; calls and watches under way fail."""
        await self._transport.aclose()

    # Verbs

    async def get(
        self, resource: Resource[T], name: str, namespace: str | None = None, *, timeout: float | None = None
    ) -> T:
        """One object. Raises ``ApiNotFoundError``."""
        body = await self._send(
            "GET", resource.path(name, namespace), resource, "get", timeout=timeout, repeatable=True
        )
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
        """One page of objects; all of them without ``limit``. A malformed item is left out and named, not fatal."""
        query = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "limit": str(limit or ""),
            "continue": continue_,
            "resourceVersion": resource_version,
            "resourceVersionMatch": resource_version_match,
        }
        path = _with_query(resource.path(None, namespace), query)
        raw = self._decode(await self._send("GET", path, resource, "list", timeout=timeout, repeatable=True), _RawList)
        decoder = self._decoder(resource.object_type)
        items: list[T] = []
        malformed: list[Identity | None] = []
        for item in raw.items or ():
            try:
                items.append(decoder.decode(item))
            except UNREADABLE:
                malformed.append(identity_of(item))
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
        body = await self._send("POST", path, resource, "create", encode(obj), _JSON, timeout=timeout, repeatable=False)
        return self._decode(body, resource.object_type)

    async def send_create(self, resource: Resource[Any], obj: msgspec.Struct, namespace: str | None = None) -> None:
        """Create without decoding the answer."""
        await self._send(
            "POST",
            resource.path(None, namespace),
            resource,
            "create",
            encode(obj),
            _JSON,
            timeout=None,
            repeatable=False,
        )

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
        await self._send(
            "DELETE",
            resource.path(name, namespace),
            resource,
            "delete",
            body,
            _JSON,
            timeout=timeout,
            repeatable=bool(uid),
        )

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
        """Any request. Raises ``ApiError`` for a status of 300 and more (redirects are not followed)."""
        return await self._transport.send(
            method,
            _with_query(path, query or {}),
            body,
            dict(headers or {}),
            timeout,
            verb="raw",
            resource="",
            repeatable=method in ("GET", "HEAD"),
        )

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
        path = _with_query(resource.path(None, namespace), query)
        decoder = self._decoder(resource.object_type)
        async with self._transport.stream(path, resource.plural, inactivity) as chunks:
            async for lines in split_lines(chunks, self._max_line):
                for event in decode_events(lines, decoder):
                    yield event

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
        repeatable = patch_type is not PatchType.JSON  # whose additions to a list would add twice
        return await self._send(
            "PATCH", path, resource, "patch", body, patch_type.value, timeout=timeout, repeatable=repeatable
        )

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
        repeatable: bool,
    ) -> bytes:
        headers = {"Content-Type": media_type} if media_type else {}
        answer = await self._transport.send(
            method, path, body, headers, timeout, verb=verb, resource=resource.plural, repeatable=repeatable
        )
        return answer.body

    def _decoder(self, kind: type[T]) -> msgspec.json.Decoder[T]:
        decoder = self._decoders.get(kind)
        if decoder is None:
            decoder = self._decoders[kind] = msgspec.json.Decoder(kind)
        return decoder

    def _decode(self, body: bytes, kind: type[T]) -> T:
        try:
            return self._decoder(kind).decode(body)
        except UNREADABLE as error:
            # A UnicodeDecodeError holds the body, which may be a Secret.
            why = str(error) if isinstance(error, msgspec.DecodeError) else type(error).__name__
        raise ApiError(200, "", f"the API server's answer is not a {kind.__name__}: {why}")


def _with_query(path: str, query: Mapping[str, str]) -> str:
    given = {key: value for key, value in query.items() if value}
    return f"{path}?{urlencode(given)}" if given else path


def _leading_digits(text: str) -> int:
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    return int(digits or 0)

"""The way of a request: who is it, what is meant, is it allowed, is a fault in the way, who answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final, TypeVar

from virtual_kubelet.devcluster.authentication import Authenticator
from virtual_kubelet.devcluster.authorization import Authorizer, denial
from virtual_kubelet.devcluster.call import Call, json_response
from virtual_kubelet.devcluster.described_lists import DescribedLists
from virtual_kubelet.devcluster.discovery import Discovery
from virtual_kubelet.devcluster.durability import Durability
from virtual_kubelet.devcluster.faults import Fault, FaultKind, Faults
from virtual_kubelet.devcluster.generic_registry import Preparation
from virtual_kubelet.devcluster.metrics_api import MetricsApi
from virtual_kubelet.devcluster.node_proxy import NodeProxy
from virtual_kubelet.devcluster.openapi import OpenApi
from virtual_kubelet.devcluster.reading import Reader
from virtual_kubelet.devcluster.registry.metrics import METRICS
from virtual_kubelet.devcluster.registry.pod_resize import prepare_resize
from virtual_kubelet.devcluster.registry.resource import Resource
from virtual_kubelet.devcluster.request_info import PAGE_NOT_FOUND, RequestInfo, ResourceTable, UnknownPath
from virtual_kubelet.devcluster.request_options import is_true
from virtual_kubelet.devcluster.reviews import Reviews
from virtual_kubelet.devcluster.selectors import FieldSelector, parse_field_selector
from virtual_kubelet.devcluster.statuses import (
    StatusError,
    bad_request,
    forbidden,
    method_not_allowed,
    resource_not_found,
    too_large,
    unauthorized,
)
from virtual_kubelet.devcluster.storage import TooLarge
from virtual_kubelet.devcluster.stream_proxy import STREAMS, StreamProxy
from virtual_kubelet.devcluster.subresources import Subresources
from virtual_kubelet.devcluster.users import Attributes, User
from virtual_kubelet.devcluster.watch import Watcher, error_line
from virtual_kubelet.devcluster.writing import Writer
from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.server.connection import Request, Response, ResponseBroken

__all__ = ["ApiServer"]

T = TypeVar("T")

_HEALTH: Final = frozenset({"/healthz", "/livez", "/readyz", "/healthz/ping", "/livez/ping", "/readyz/ping"})
_TEXT: Final = (
    ("Cache-Control", "no-cache, private"),
    ("Content-Type", "text/plain; charset=utf-8"),
    ("X-Content-Type-Options", "nosniff"),
)
_SELECTED: Final = frozenset({"list", "watch", "deletecollection"})
#: What becomes an answer.
_ANSWERED: Final = (StatusError, UnknownPath, ProtocolError, TooLarge, RecursionError)


class ApiServer:
    """A handler for ``HttpServer``."""

    def __init__(
        self,
        *,
        table: ResourceTable,
        authenticator: Authenticator,
        authorizer: Authorizer,
        discovery: Discovery,
        openapi: OpenApi,
        reader: Reader,
        writer: Writer,
        subresources: Subresources,
        reviews: Reviews,
        proxy: NodeProxy,
        streams: StreamProxy,
        metrics: MetricsApi,
        described: DescribedLists,
        faults: Faults,
        durability: Durability | None = None,
    ) -> None:
        self._table = table
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._discovery = discovery
        self._openapi = openapi
        self._reader = reader
        self._writer = writer
        self._subresources = subresources
        self._reviews = reviews
        self._proxy = proxy
        self._streams = streams
        self._metrics = metrics
        self._described = described
        self._faults = faults
        self._durability = durability

    async def handle(self, request: Request) -> Response:
        """Answer one request. Whatever is wrong with it becomes a ``Status``."""
        response = await self._answer(request)
        durability = self._durability
        if durability is None or not isinstance(response.body, bytes):
            return response
        while durability.behind:
            # What the answer says may be of a write that is not on disk.
            try:
                await durability.settled()
                break
            except StatusError as error:
                if request.method not in ("GET", "HEAD"):
                    return _status_response(error)
                response = await self._answer(request)
        return response

    def at_once(self, request: Request) -> Response | None:
        """The answer to a request that came whole, if nothing is to be waited for; None: ask ``handle``."""
        if self._durability is not None or self._faults.active:
            return None
        try:
            met = self._meet(request)
            if isinstance(met, Response):
                return met
            info = met.info
            if info.verb == "watch" or info.subresource not in ("", "status") or not self._is_stored(info.resource):
                return None
            return _finished(self._dispatch(met))
        except _ANSWERED as error:
            return _error_response(error)

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._serve(request)
        except _ANSWERED as error:
            return _error_response(error)

    async def _serve(self, request: Request) -> Response:
        met = self._meet(request)
        if isinstance(met, Response):
            return met
        fault = self._faults.meet(met.info, met.user.name)
        if fault is None:
            return await self._dispatch(met)
        return await self._with_fault(met, fault)

    def _meet(self, request: Request) -> Call | Response:
        """Who asks for what, which is allowed; or the answer, if it is no resource. Raises ``_ANSWERED``."""
        path = request.path
        if path in _HEALTH:
            return Response(200, _TEXT, _health(path, request))
        user = self._authenticator.authenticate(request)
        if user is None:
            if path == "/version":
                return self._document(request)
            raise unauthorized()
        try:
            info = self._table.find(request.method, path, watch=is_true(request.query.get("watch")))
        except UnknownPath:
            self._allow(user, Attributes(request.method.lower(), path=path))
            return self._document(request)
        self._allow(user, _attributes(info, request))
        return Call(request, info, user)

    def _allow(self, user: User, attributes: Attributes) -> None:
        decision = self._authorizer.authorize(user, attributes)
        if decision.allowed:
            return
        why = denial(user, attributes, decision.reason)
        if attributes.path:
            raise StatusError(403, "Forbidden", f"forbidden: {why}", {})
        raise forbidden(attributes.resource, attributes.name, why, attributes.group)

    def _document(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            if self._discovery.answer(request) is not None:
                raise method_not_allowed()
            raise UnknownPath
        found = self._discovery.answer(request) or self._openapi.answer(request)
        if found is None:
            raise UnknownPath
        return found

    async def _dispatch(self, call: Call) -> Response:
        info = call.info
        if info.subresource:
            return await self._subresource(call)
        if not info.resource.in_discovery:
            return self._described.answer(call)
        if not self._is_stored(info.resource):
            answers = self._metrics if info.resource in METRICS else self._reviews
            return await answers.answer(call)
        match info.verb:
            case "get":
                return self._reader.get(call)
            case "list":
                return self._reader.list_objects(call)
            case "watch":
                return self._reader.watch(call)[0]
            case "create":
                return await self._writer.create(call)
            case "update":
                return await self._writer.update(call, self._writer.whole(call))
            case "patch":
                return await self._writer.patch(call, self._writer.whole(call))
            case "delete":
                return await self._writer.delete(call)
            case _:
                return await self._writer.delete_collection(call)

    @staticmethod
    def _is_stored(resource: Resource) -> bool:
        """Others are only answered."""
        return resource.in_discovery and resource.verbs != ("create",) and resource not in METRICS

    async def _subresource(self, call: Call) -> Response:
        info = call.info
        name = info.subresource
        if name in STREAMS:
            return await self._streams.answer(call)
        if name == "status" and info.verb != "get":
            return await self._changed(call, self._writer.status(call))
        match name:
            case "log":
                return await self._proxy.logs(call)
            case "proxy":
                return await self._proxy.node(call)
            case "binding":
                return await self._subresources.binding(call)
            case "eviction":
                return await self._subresources.eviction(call)
            case "token":
                return await self._subresources.token(call)
        if info.verb == "get":
            return self._reader.get(call)
        match name:
            case "ephemeralcontainers":
                change = self._subresources.ephemeral_containers()
            case "resize":
                change = prepare_resize
            case "approval":
                change = self._subresources.approval()
            case "finalize":
                change = self._subresources.finalize()
            case _:
                raise resource_not_found()
        return await self._changed(call, change)

    async def _changed(self, call: Call, change: Preparation) -> Response:
        if call.info.verb == "update":
            return await self._writer.update(call, change)
        return await self._writer.patch(call, change)

    async def _with_fault(self, call: Call, fault: Fault) -> Response:
        kind = fault.kind
        if kind is FaultKind.STATUS:
            assert fault.error is not None
            raise fault.error
        if kind is FaultKind.DELAY:
            await asyncio.sleep(fault.seconds)
            return await self._dispatch(call)
        if call.info.verb == "watch":
            return self._watch_with_fault(call, fault)
        if kind is FaultKind.STALL:
            await asyncio.get_running_loop().create_future()
        if kind is FaultKind.EXPIRE:
            assert fault.error is not None
            raise fault.error
        if kind is FaultKind.MALFORMED:
            return call.respond(fault.body)
        if kind is FaultKind.LOSE_ANSWER:
            await self._dispatch(call)
        # Cut before the head of an answer would be for the connection to do: the first chunk does not come.
        return Response(200, [("Content-Type", "application/json")], _broken())

    def _watch_with_fault(self, call: Call, fault: Fault) -> Response:
        response, watcher = self._reader.watch(call)
        if watcher is not None:
            apply_to_watch(watcher, fault)
        return response


def apply_to_watch(watcher: Watcher, fault: Fault) -> None:
    """Let ``fault`` happen to an open watch."""
    if fault.kind is FaultKind.STALL:
        watcher.stall()
    elif fault.kind is FaultKind.EXPIRE:
        assert fault.error is not None
        watcher.send(error_line(fault.error.to_object()))
        watcher.end()
    elif fault.kind is FaultKind.MALFORMED:
        watcher.send(fault.body + b"\n")
    else:
        watcher.cut()


def _health(path: str, request: Request) -> bytes:
    if "verbose" not in request.query or path.endswith("/ping"):
        return b"ok"
    return f"[+]ping ok\n{path.removeprefix('/')} check passed\n".encode()


async def _broken() -> AsyncIterator[bytes]:
    raise ResponseBroken
    yield b""


def _attributes(info: RequestInfo, request: Request) -> Attributes:
    """What is to be authorized: a list or watch of one name counts as that name."""
    name, node = info.name, ""
    if info.verb in _SELECTED and not name and (text := request.query.get("fieldSelector")):
        try:
            selector = parse_field_selector(text)
        except StatusError:  # in its turn it will be refused
            selector = FieldSelector()
        name = selector.exactly("metadata.name") or ""
        node = selector.exactly("spec.nodeName") or ""
    resource = info.resource
    # A namespace is in itself.
    namespace = info.name if resource.plural == "namespaces" else info.namespace
    return Attributes(info.verb, resource.group, resource.plural, info.subresource, namespace, name, node_selector=node)


def _finished(work: Coroutine[Any, Any, T]) -> T:
    """What comes of ``work``, which has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as finished:
        result: T = finished.value
        return result
    work.close()
    raise RuntimeError("the answer to a request that came whole waits for something")


def _error_response(error: Exception) -> Response:
    """The answer to one of ``_ANSWERED``. Raises what is for the connection to say."""
    if isinstance(error, StatusError):
        return _status_response(error)
    if isinstance(error, UnknownPath):
        return Response(404, _TEXT, PAGE_NOT_FOUND.encode())
    if isinstance(error, TooLarge):
        return _status_response(StatusError(500, "", "etcdserver: request is too large"))
    if isinstance(error, RecursionError):
        return _status_response(bad_request("the object is nested too deep"))
    if isinstance(error, ProtocolError) and error.status == 413:
        return _status_response(too_large("Request entity too large: limit is 3145728"))
    raise error


def _status_response(error: StatusError) -> Response:
    response = json_response(error.to_object(), error.code)
    if error.headers:
        response.headers = [*response.headers, *error.headers]
    return response

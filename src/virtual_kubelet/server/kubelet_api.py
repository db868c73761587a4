"""The node's HTTPS API: requests are authenticated, authorised, routed, answered as a kubelet would, and counted."""

from __future__ import annotations

import inspect
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

import msgspec

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.contracts.context import PodReader
from virtual_kubelet.contracts.logs import ContainerLogs
from virtual_kubelet.contracts.pods import PodKey, PodLifecycleHandler
from virtual_kubelet.errors import (
    InvalidInputError,
    NotFoundError,
    ProtocolError,
    ProviderError,
    UnsupportedError,
)
from virtual_kubelet.objects.core_v1 import PodStatus
from virtual_kubelet.server.authentication import Authenticator, User
from virtual_kubelet.server.authorization import AuthorizationError, Authorizer, request_attributes
from virtual_kubelet.server.connection import HttpServer, Request, Response, ServerLimits, text_response
from virtual_kubelet.server.container_logs import LogLimits, choose_instance, has_container, send_lines
from virtual_kubelet.server.health import HealthCheck, healthz
from virtual_kubelet.server.log_options import TailBudget, parse_log_query
from virtual_kubelet.server.pod_lists import bound_pods, running_pods
from virtual_kubelet.server.provider_calls import ProviderCalls
from virtual_kubelet.server.routes import Match, debugging_disabled, find_route, method_label, not_found
from virtual_kubelet.server.statistics import Statistics
from virtual_kubelet.server.stream_limits import StreamLimits
from virtual_kubelet.server.stream_requests import check_stream_request
from virtual_kubelet.server.stream_sessions import StreamSessions
from virtual_kubelet.telemetry.logs import bind, get_logger
from virtual_kubelet.telemetry.metrics import Metrics
from virtual_kubelet.telemetry.tracing import span

__all__ = ["KubeletServer"]

log = get_logger(__name__)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_JSON: Final = ("Content-Type", "application/json")
_METRICS: Final = ("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
_UNSUPPORTED: Final = "the provider of this node does not offer this"
_INTERNAL_ERROR: Final = "Internal Error: the node failed to answer this request; its log says why."


class KubeletServer:
    """What a kubelet serves on port 10250, as far as this node has it; the rest says 501 and why.

    ``start``, ``wait`` (raises what broke it), ``aclose``; ``handle`` answers one request and needs no network.
    """

    def __init__(
        self,
        node_name: str,
        provider: PodLifecycleHandler,
        pods: PodReader,
        *,
        authenticator: Authenticator,
        authorizer: Authorizer,
        ssl_context: ssl.SSLContext,
        metrics: Metrics | None = None,
        limits: ServerLimits | None = None,
        log_limits: LogLimits | None = None,
        stream_limits: StreamLimits | None = None,
        health_checks: Mapping[str, HealthCheck] = MappingProxyType({}),
        newest_status: Callable[[PodKey], PodStatus | None] = lambda key: None,
        configuration: Mapping[str, object] | None = None,
        debugging_handlers: bool = True,
        provider_timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        """
        Args:
            node_name: the Node whose subresources callers need rights to.
            provider: asked for its pods and, where it offers them, for logs, statistics and streams.
            pods: the pods bound to this node, as the API server last said. ``list`` is copied before it is sent.
            authenticator: tells who calls; there is no anonymous user.
            authorizer: tells what they may do.
            ssl_context: see ``certificates.server_context``.
            metrics: shown at ``/metrics``; requests are counted there.
            limits: of connections and requests.
            log_limits: of log streams.
            stream_limits: of exec, attach, port-forward and run.
            health_checks: shown at ``/healthz``, by name.
            newest_status: a pod's status where this process knows a newer one than the API server; None otherwise.
            configuration: shown at ``/configz``, in the words of the kubelet's ``KubeletConfiguration``; nothing secret.
            debugging_handlers: the kubelet's ``enableDebuggingHandlers``: without them logs, exec, attach, port-forward, run
                and ``/runningpods/`` are answered 405, and ``/configz`` is not there.
            provider_timeout: seconds that the provider has to list its pods, or to give its statistics.
            clock: wall time for ``sinceSeconds`` and ``follow``.
        """
        self.metrics = metrics or Metrics()
        self._node_name = node_name
        self._provider = provider
        self._pods = pods
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._log_limits = log_limits or LogLimits()
        self._log_streams = 0
        self._tails = TailBudget(self._log_limits.all_tails_bytes)
        self._health_checks = health_checks
        self._newest_status = newest_status
        self._configuration = configuration
        self._debugging_handlers = debugging_handlers
        self._clock = clock or SystemClock()
        self._calls = ProviderCalls(self.metrics, timeout=provider_timeout)
        self._statistics = Statistics(provider, pods, self._calls, started=self._clock.now())
        self._http = HttpServer(self.handle, ssl_context=ssl_context, limits=limits)
        self._streams = StreamSessions(provider, self._calls, stream_limits or StreamLimits(), spawn=self._http.spawn)

    async def start(
        self, host: str, port: int, *, listeners: Sequence[socket.socket] | None = None
    ) -> list[tuple[str, int]]:
        """Listen; returns the addresses. Raises ``ConfigurationError`` if that is not possible."""
        return await self._http.start(host, port, listeners=listeners)

    async def wait(self) -> None:
        """Until the server has stopped. Raises what made it stop, if that was not ``aclose``."""
        await self._http.wait()

    async def aclose(self, grace: float = 5.0) -> None:
        """Stop: requests and streams under way have ``grace`` seconds. Then clients of streams are told that the node stops,
        their commands are ended, and everything else, followed logs too, is cut."""
        await self._http.aclose(grace, last_words=self._streams.stop)

    def replace_context(self, ssl_context: ssl.SSLContext, retire: bool) -> None:
        """See ``HttpServer.replace_context``."""
        self._http.replace_context(ssl_context, retire=retire)

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return self._http.connections

    @property
    def log_streams(self) -> int:
        """Number of log streams at this moment."""
        return self._log_streams

    @property
    def stream_sessions(self) -> int:
        """Number of exec, attach and port-forward sessions at this moment."""
        return self._streams.sessions

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        match = find_route(request.path)
        try:
            with bind(node=self._node_name):
                response = await self._answer(request, match)
        except ProtocolError as error:
            response = text_response(error.status, str(error))
        except UnsupportedError as error:
            response = text_response(501, str(error) or _UNSUPPORTED)
        except Exception:
            log.exception("a request failed", extra=request.log_fields)
            response = text_response(500, _INTERNAL_ERROR)
        self.metrics.server_requests.labels(
            method_label(request.method), match.name if match else "other", str(response.status)
        ).inc()
        return response

    async def _answer(self, request: Request, match: Match | None) -> Response:
        user = await self._authenticator.authenticate(request)
        if user is None:
            return text_response(401, "Unauthorized")
        refusal = await self._authorize(user, request)
        if refusal is not None:
            return refusal
        if not self._debugging_handlers and (refusal := debugging_disabled(request.path)) is not None:
            return refusal
        if match is None:
            return not_found(request.path)
        if request.method not in match.methods:
            return text_response(405, "405: Method Not Allowed", ("Allow", ", ".join(match.methods)))
        match match.name:
            case "containerLogs":
                return await self._container_logs(request, match.parameters)
            case "pods":
                return Response(200, [_JSON], bound_pods(list(self._pods.list())))
            case "runningpods":
                pods = await self._calls.ask("get_pods", self._provider.get_pods)
                return Response(200, [_JSON], running_pods(pods))
            case "healthz":
                return await self._healthz(request, match.parameters.get("check"))
            case "metrics":
                return Response(200, [_METRICS], self.metrics.exposition())
            case "metrics/resource":
                return await self._statistics.resource_metrics()
            case "metrics/cadvisor":
                return await self._statistics.cadvisor_metrics()
            case "metrics/probes":
                return self._statistics.probe_metrics()
            case "stats":
                return await self._statistics.summary(request.query)
            case "configz" if self._configuration is not None:
                return Response(200, [_JSON], msgspec.json.encode({"kubeletconfig": self._configuration}))
            case "exec" | "attach" | "portForward" | "run":
                parameters = match.parameters
                pod = self._pods.get(parameters["namespace"], parameters["pod"])
                pod = check_stream_request(match.name, parameters, request.query, pod)
                return await self._streams.answer(match.name, request, pod, parameters)
            case "checkpoint":
                self._check_container(match.parameters)
        raise UnsupportedError(f"this node does not offer {match.name}")

    def _check_container(self, parameters: Mapping[str, str]) -> None:
        """The kubelet's checks before a checkpoint."""
        pod = self._pods.get(parameters["namespace"], parameters["pod"])
        if pod is None:
            raise ProtocolError("pod does not exist", status=404)
        if not has_container(pod, parameters["container"]):
            raise ProtocolError(f"container {parameters['container']} does not exist", status=404)

    async def _authorize(self, user: User, request: Request) -> Response | None:
        """None if the caller may, else the kubelet's refusal."""
        questions = request_attributes(request.method, request.path, self._node_name)
        for question in questions:
            try:
                if await self._authorizer.allowed(user, question):
                    return None
            except AuthorizationError as error:
                log.error("cannot authorize a request: %s", error, extra={"user": user.name})
                return text_response(
                    500,
                    f"Authorization error (user={user.name}, verb={question.verb}, resource=nodes, "
                    f"subresource={question.subresource})",
                )
        subresources = " ".join(question.subresource for question in questions)
        log.info("forbidden", extra={"user": user.name, "verb": questions[0].verb, "subresources": subresources})
        return text_response(
            403,
            f"Forbidden (user={user.name}, verb={questions[0].verb}, resource=nodes, "
            f"subresource(s)=[{subresources}])\n",
        )

    async def _healthz(self, request: Request, check: str | None) -> Response:
        if check is None:
            return await healthz(
                self._health_checks, excluded=request.query.get_all("exclude"), verbose="verbose" in request.query
            )
        if check != "ping" and check not in self._health_checks:
            return not_found(request.path)
        return await healthz({name: one for name, one in self._health_checks.items() if name == check})

    async def _container_logs(self, request: Request, parameters: Mapping[str, str]) -> Response:
        namespace, name, container = parameters["namespace"], parameters["pod"], parameters["container"]
        now = self._clock.now()
        options = parse_log_query(request.query, now)
        pod = self._pods.get(namespace, name)
        if pod is None:
            return text_response(404, f'pod "{name}" does not exist')
        if not has_container(pod, container):
            return text_response(404, f'container "{container}" not found in pod "{name}"')
        provider = self._provider
        if not isinstance(provider, ContainerLogs):
            raise UnsupportedError("the provider of this node does not offer container logs")
        key = PodKey.of(pod)
        try:
            options = choose_instance(self._newest_status(key) or pod.status, name, container, options)
        except ProtocolError as error:
            # Here the kubelet has begun a chunked answer already, so this one is chunked, and has no type.
            return Response(error.status, [], _one(str(error).encode()))
        if self._log_streams >= self._log_limits.max_streams:
            return text_response(429, "too many log streams on this node; try again later\n", ("Retry-After", "1"))
        self._log_streams += 1
        sent = False
        try:
            with (
                bind(namespace=namespace, pod=name, uid=key.uid),
                span("get_container_logs", namespace=namespace, pod=name),
                self._calls.timed("get_container_logs"),
            ):
                lines = _iterator(provider.get_container_logs(key, container, options))
                sent = True
                body = await send_lines(
                    lines,
                    options,
                    self._log_limits,
                    key=key,
                    started_ns=(now - _EPOCH) // timedelta(microseconds=1) * 1000,
                    tails=self._tails,
                    on_end=self._end_log_stream,
                )
        except NotFoundError as error:
            return text_response(404, str(error) or f'container "{container}" not found in pod "{name}"')
        except InvalidInputError as error:
            return text_response(400, str(error))
        except UnsupportedError:
            raise
        except ProviderError as error:
            return text_response(500, f"Internal Error: {error}")
        finally:
            if not sent:
                self._end_log_stream()
        return Response(200, [], body)

    def _end_log_stream(self) -> None:
        self._log_streams -= 1


async def _one(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk


def _iterator(lines: Any) -> AsyncIterator[Any]:
    """The provider's lines; says what is wrong if they are none."""
    if hasattr(lines, "__aiter__"):
        iterator: AsyncIterator[Any] = aiter(lines)
        return iterator
    if inspect.iscoroutine(lines):
        lines.close()
    raise TypeError(
        f"get_container_logs returned a {type(lines).__name__}, not an async iterator: "
        "it must be an async generator (a coroutine without any yield is none)"
    )

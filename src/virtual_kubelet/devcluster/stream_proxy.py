"""``pods/exec``, ``attach`` and ``portforward``: clients connected to the pod's node, as an API server does it.

SPDY is passed through byte by byte. A WebSocket is, too, where the node declares that it takes it (the feature
``ExtendWebSocketsToKubelet`` of 1.36); for other nodes it is turned into SPDY. What a node refuses is answered as it says.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Sequence
from importlib import import_module
from typing import Any, Final

import h11

from virtual_kubelet.devcluster.call import Call
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.node_proxy import NodeProxy
from virtual_kubelet.devcluster.node_streams import ByteStream, NodeAnswer, dial, relay
from virtual_kubelet.devcluster.statuses import StatusError, bad_request
from virtual_kubelet.devcluster.stream_options import command_options, stream_target
from virtual_kubelet.errors import ProtocolError
from virtual_kubelet.server.connection import Request, Response
from virtual_kubelet.server.transports import abort
from virtual_kubelet.streaming.negotiation import (
    PORT_FORWARD_PROTOCOL,
    REMOTE_COMMAND_PROTOCOLS,
    TUNNEL_PREFIX,
    VERSION_HEADER,
    is_spdy_request,
)
from virtual_kubelet.streaming.websocket.handshake import (
    choose_protocol,
    header_tokens,
    is_websocket_request,
    server_headers,
)
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["STREAMS", "StreamProxy"]

log = get_logger(__name__)

#: The subresources of pods that are answered here.
STREAMS: Final = frozenset({"exec", "attach", "portforward"})
_TRANSLATION: Final = "virtual_kubelet.devcluster.stream_translation"
#: A node that lists it in ``status.declaredFeatures`` takes the client's own WebSocket.
_DIRECT: Final = "ExtendWebSocketsToKubelet"
_TUNNEL: Final = TUNNEL_PREFIX + PORT_FORWARD_PROTOCOL
#: What the translator takes (streamtranslator.go); older ones are for the node itself.
_TRANSLATED: Final = ("v5.channel.k8s.io",)
#: Headers of a client that are not the node's business.
_KEPT_BACK: Final = frozenset(
    {"authorization", "host", "content-length", "transfer-encoding", "accept-encoding", "keep-alive"}
)


class StreamProxy:
    """Answers requests for streams; ``run`` owns the sessions.

    Args:
        timeout: seconds for a node to answer the upgrade.
        max_sessions: at once; more are answered 429.
    """

    def __init__(
        self,
        state: ClusterState,
        proxy: NodeProxy,
        client_context: Callable[[], ssl.SSLContext],
        *,
        timeout: float,
        max_sessions: int = 1000,
    ) -> None:
        self._state = state
        self._proxy = proxy
        self._client_context = client_context
        self._context: ssl.SSLContext | None = None
        self._timeout = timeout
        self._max_sessions = max_sessions
        self._sessions = 0
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled, which ends all sessions."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._tasks = None

    async def answer(self, call: Call) -> Response:
        """Raises 400, 404, 429, 500."""
        pod = self._state.pods.get(call.info.namespace, call.info.name).decode()
        target = stream_target(call.info.subresource, pod, call.request.query)
        node = pod["spec"]["nodeName"]
        request = call.request
        if self._sessions >= self._max_sessions:
            raise StatusError(429, "TooManyRequests", "too many streams at once, please try again later")
        upgrade = request.headers.get_all("connection"), request.headers.get_all("upgrade")
        if not is_websocket_request(*upgrade):
            if not is_spdy_request(*upgrade):
                raise bad_request("Upgrade request required")
            return await self._pass_through(node, request, target)
        if self._takes_websockets(node):
            return await self._pass_through(node, request, target)
        offered = header_tokens(request.headers.get_all("sec-websocket-protocol"))
        served = (_TUNNEL,) if call.info.subresource == "portforward" else _TRANSLATED
        if not set(offered) & set(served):
            return await self._pass_through(node, request, target)
        return await self._translate(call, node, target, choose_protocol(offered, served))

    async def _pass_through(self, node: str, request: Request, target: str) -> Response:
        headers = [(n, v) for n, v in request.headers.items() if n.lower() not in _KEPT_BACK and "impersonate" not in n]
        answer = await self._dial(node, request.method, target, headers)
        if answer.stream is None:
            return _refusal(answer)
        upstream = answer.stream

        async def session(client: ByteStream) -> None:
            await relay(client, upstream)

        return self._switch(answer.headers, session, upstream)

    async def _translate(self, call: Call, node: str, target: str, protocol: str) -> Response:
        request = call.request
        try:
            headers = server_headers(
                request.method,
                request.headers.get("sec-websocket-key"),
                request.headers.get("sec-websocket-version"),
                protocol,
            )
        except ProtocolError as error:
            raise bad_request(str(error)) from None
        forward = call.info.subresource == "portforward"
        versions = (PORT_FORWARD_PROTOCOL,) if forward else REMOTE_COMMAND_PROTOCOLS
        asked = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), *((VERSION_HEADER, v) for v in versions)]
        answer = await self._dial(node, "POST", target, asked)
        if answer.stream is None:
            return _refusal(answer)
        upstream = answer.stream
        # Whoever only starts a cluster does not need them, and they take as long as the rest of its imports.
        await asyncio.to_thread(import_module, _TRANSLATION)
        from virtual_kubelet.devcluster.stream_translation import CommandTranslation, tunnel

        spoken = next((value for name, value in answer.headers if name.lower() == VERSION_HEADER.lower()), "")

        async def session(client: ByteStream) -> None:
            if forward:
                await tunnel(client, upstream)
            else:
                await CommandTranslation(command_options(request.query), protocol, spoken, client, upstream).run()

        return self._switch(headers, session, upstream)

    def _switch(
        self,
        headers: Sequence[tuple[str, str]],
        session: Callable[[ByteStream], Coroutine[Any, Any, None]],
        upstream: ByteStream,
    ) -> Response:
        def upgrade(transport: asyncio.Transport, early: bytes) -> asyncio.Protocol:
            client, protocol = ByteStream.taken_over(transport, early)
            if self._tasks is None:  # the cluster stops
                abort(upstream.writer.transport)
                abort(transport)
            else:
                self._tasks.create_task(self._counted(session(client), client, upstream))
            return protocol

        return Response(101, headers, upgrade=upgrade)

    async def _counted(self, session: Coroutine[Any, Any, None], *streams: ByteStream) -> None:
        self._sessions += 1
        try:
            await session
        except (ProtocolError, OSError) as error:
            log.info("a stream to a node ended: %s", error)
        finally:
            self._sessions -= 1
            for stream in streams:
                abort(stream.writer.transport)  # does nothing to what is closed

    async def _dial(self, node: str, method: str, target: str, headers: Sequence[tuple[str, str]]) -> NodeAnswer:
        address = self._proxy.address(node)
        if self._context is None:
            self._context = await asyncio.to_thread(self._client_context)
        try:
            async with asyncio.timeout(self._timeout):
                return await dial(address, method, target, headers, self._context)
        except TimeoutError:
            why = "i/o timeout"
        except h11.RemoteProtocolError as error:
            why = f"malformed HTTP response: {error}"
        except ConnectionRefusedError:
            why = f"dial tcp {address}: connect: connection refused"
        except OSError as error:
            why = f"dial tcp {address}: {error.strerror or error}"
        raise StatusError(500, "InternalError", f"Internal error occurred: error dialing backend: {why}")

    def _takes_websockets(self, node: str) -> bool:
        stored = self._state.nodes.objects.get("", node)
        return stored is not None and _DIRECT in (stored.decode()["status"].get("declaredFeatures") or ())


def _refusal(answer: NodeAnswer) -> Response:
    kind = next(
        (value for name, value in answer.headers if name.lower() == "content-type"), "text/plain; charset=utf-8"
    )
    return Response(answer.status or 502, [("Content-Type", kind)], answer.body)

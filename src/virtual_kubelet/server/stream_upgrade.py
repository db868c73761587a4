"""From a request for streams to the session that answers it, or the kubelet's refusal: protocol and version. Pure."""

from __future__ import annotations

from typing import Final, TypeVar

from virtual_kubelet.server.http_messages import QueryParameters, Request, Response, text_response
from virtual_kubelet.server.stream_limits import StreamLimits
from virtual_kubelet.streaming.negotiation import (
    ACCEPTED_HEADER,
    PORT_FORWARD_PROTOCOL,
    REMOTE_COMMAND_PROTOCOLS,
    TUNNEL_PREFIX,
    VERSION_HEADER,
    choose_version,
    is_spdy_request,
    refused_version,
)
from virtual_kubelet.streaming.port_forward.session import PortForwardEvent, PortForwardSession
from virtual_kubelet.streaming.port_forward.spdy_session import SpdyPortForward
from virtual_kubelet.streaming.port_forward.websocket_session import (
    CHANNEL_PROTOCOLS,
    WebSocketPortForward,
    parse_ports,
)
from virtual_kubelet.streaming.remote_command.session import (
    RemoteCommandEvent,
    RemoteCommandOptions,
    RemoteCommandSession,
)
from virtual_kubelet.streaming.remote_command.spdy_session import SpdyRemoteCommand
from virtual_kubelet.streaming.remote_command.websocket_session import WEBSOCKET_PROTOCOLS, WebSocketRemoteCommand
from virtual_kubelet.streaming.spdy.connection import SpdyConnection
from virtual_kubelet.streaming.websocket.handshake import (
    choose_protocol,
    header_tokens,
    is_websocket_request,
    server_headers,
)
from virtual_kubelet.streaming.websocket.tunnel import TunnelledSpdyConnection

__all__ = ["RefusedUpgrade", "Upgrade", "command_options", "port_forward_upgrade", "remote_command_upgrade"]

_NO_SNIFF: Final = ("X-Content-Type-Options", "nosniff")
_TUNNEL: Final = TUNNEL_PREFIX + PORT_FORWARD_PROTOCOL

S = TypeVar("S")
E = TypeVar("E")
#: Headers of the 101, the session, and its first events.
Upgrade = tuple[list[tuple[str, str]], S, list[E]]


class RefusedUpgrade(Exception):
    """The request is answered with ``response`` instead."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def command_options(query: QueryParameters) -> RemoteCommandOptions:
    """The streams that a request asks for. Raises ``ProtocolError`` (400) if there are none."""
    return RemoteCommandOptions.asked(
        stdin=query.get("input") == "1",
        stdout=query.get("output") == "1",
        stderr=query.get("error") == "1",
        tty=query.get("tty") == "1",
    )


def remote_command_upgrade(
    request: Request, options: RemoteCommandOptions, limits: StreamLimits
) -> Upgrade[RemoteCommandSession, RemoteCommandEvent]:
    """For ``exec`` and ``attach``. Raises ``RefusedUpgrade`` or ``ProtocolError``."""
    if _asks_for_websocket(request):
        headers, protocol = _websocket(request, WEBSOCKET_PROTOCOLS)
        websocket = WebSocketRemoteCommand(options, protocol, limits=limits.websocket)
        return headers, websocket, websocket.begin()
    headers, protocol = _spdy(request, REMOTE_COMMAND_PROTOCOLS, repeat=2)
    return headers, SpdyRemoteCommand(options, protocol, limits=limits.spdy), []


def port_forward_upgrade(request: Request, limits: StreamLimits) -> Upgrade[PortForwardSession, PortForwardEvent]:
    """For ``portForward``. Raises ``RefusedUpgrade`` or ``ProtocolError``."""
    if not _asks_for_websocket(request):
        headers, _ = _spdy(request, (PORT_FORWARD_PROTOCOL,), repeat=1)
        return headers, SpdyPortForward(SpdyConnection(client=False, limits=limits.spdy), limits.port_forward), []
    headers, protocol = _websocket(request, (_TUNNEL, *CHANNEL_PROTOCOLS))
    if protocol == _TUNNEL:
        tunnel = TunnelledSpdyConnection(client=False, limits=limits.spdy, websocket_limits=limits.websocket)
        return headers, SpdyPortForward(tunnel, limits.port_forward), []
    ports = parse_ports(request.query.get_all("port"))
    channels = WebSocketPortForward(ports, protocol, limits=limits.websocket)
    return headers, channels, channels.begin()


def _asks_for_websocket(request: Request) -> bool:
    return is_websocket_request(request.headers.get_all("connection"), request.headers.get_all("upgrade"))


def _websocket(request: Request, served: tuple[str, ...]) -> tuple[list[tuple[str, str]], str]:
    asked = request.headers
    protocol = choose_protocol(header_tokens(asked.get_all("sec-websocket-protocol")), served)
    key, version = asked.get("sec-websocket-key"), asked.get("sec-websocket-version")
    return server_headers(request.method, key, version, protocol), protocol


def _spdy(request: Request, served: tuple[str, ...], *, repeat: int) -> tuple[list[tuple[str, str]], str]:
    """``repeat``: the kubelet says why it refuses a command twice."""
    if not is_spdy_request(request.headers.get_all("connection"), request.headers.get_all("upgrade")):
        raise RefusedUpgrade(text_response(500, "Upgrade request required\n", _NO_SNIFF))
    offered = request.headers.get_all(VERSION_HEADER)
    if not offered:
        number = len({name for name, _ in request.headers.items()} - {"host"})
        text = f"unable to upgrade: header {VERSION_HEADER} does not exist in request with {number} headers\n"
        raise RefusedUpgrade(text_response(400, text * repeat, _NO_SNIFF))
    version = choose_version(offered, served)
    if version is None:
        accepted = [(ACCEPTED_HEADER, name) for name in served]
        raise RefusedUpgrade(text_response(403, refused_version(offered, served) * repeat, _NO_SNIFF, *accepted))
    return [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1"), (VERSION_HEADER, version)], version

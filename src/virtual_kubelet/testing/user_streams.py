"""Exec, attach and port-forward as a client of the API server sees them: over WebSocket channels, nothing but the API."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit

import h11

from virtual_kubelet.devcluster.node_streams import CHUNK, ByteStream, dial
from virtual_kubelet.errors import StreamClosedError, VirtualKubeletError, text_of
from virtual_kubelet.kube.config import ClientConfig
from virtual_kubelet.server.transports import abort
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.streaming.websocket.channels import (
    ChannelConnection,
    ChannelData,
    ChannelProtocol,
    ChannelsEnded,
)
from virtual_kubelet.streaming.websocket.handshake import request_headers

__all__ = ["CommandResult", "ForwardedPort", "RemoteSession", "StreamRefusedError", "open_command", "open_port"]

_COMMAND_PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_PORT_PROTOCOLS: Final = ("v4.channel.k8s.io",)
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE = range(5)
#: Seconds for the server to answer, and for a connection to close.
_PATIENCE: Final = 60.0


class StreamRefusedError(VirtualKubeletError):
    """The server did not begin the stream.

    Attributes:
        code: HTTP status; 0 if the connection broke.
        message: what the server said, out of its ``Status`` if it sent one.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code} {message}" if code else message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended. ``exit_code`` is None if it could not be started; then ``message`` says why."""

    exit_code: int | None
    stdout: bytes
    stderr: bytes
    message: str = ""


class _Channels:
    """One WebSocket to the API server, and who is told of what comes."""

    def __init__(self, stream: ByteStream, connection: ChannelConnection) -> None:
        self._stream = stream
        self._connection = connection
        self.data: dict[int, bytearray] = {}
        self.changed = asyncio.Event()
        self.ended = False

    async def pump(self) -> None:
        """Take what comes, until it ends."""
        try:
            while not self.ended:
                received = await self._stream.reader.read(CHUNK)
                events = self._connection.receive_data(received) if received else self._connection.receive_eof()
                for event in events:
                    if isinstance(event, ChannelData):
                        self.data.setdefault(event.channel, bytearray()).extend(event.data)
                        self._connection.acknowledge(len(event.data))
                    elif isinstance(event, ChannelsEnded):
                        self.ended = True
                await self.flush()
                self.changed.set()
        except OSError:
            self._connection.receive_eof()
        finally:
            self.ended = True
            self.changed.set()

    async def flush(self) -> None:
        for piece in self._connection.data_to_send():
            self._stream.writer.write(piece)
        await self._stream.writer.drain()

    async def send(self, channel: int, data: bytes) -> None:
        self._connection.send(channel, data)
        await self.flush()

    async def close_channel(self, channel: int) -> None:
        self._connection.close_channel(channel)
        await self.flush()

    async def until(self, holds: Callable[[], object], seconds: float) -> None:
        """Raises ``TimeoutError``."""
        async with asyncio.timeout(seconds):
            while not (holds() or self.ended):
                self.changed.clear()
                await self.changed.wait()

    def abort(self) -> None:
        """Cut the connection, as a client does that is killed."""
        abort(self._stream.writer.transport)


class RemoteSession:
    """One exec or attach.

    Attributes:
        version: of the protocol; stdin can be ended from 5 on.
    """

    def __init__(self, channels: _Channels, version: int) -> None:
        self._channels = channels
        self.version = version

    @property
    def stdout(self) -> bytes:
        """What has come so far."""
        return bytes(self._channels.data.get(_STDOUT, b""))

    @property
    def stderr(self) -> bytes:
        return bytes(self._channels.data.get(_STDERR, b""))

    @property
    def ended(self) -> bool:
        """Whether the session is over."""
        return self._channels.ended

    async def write(self, data: bytes) -> None:
        """Input. Raises ``StreamClosedError`` or ``OSError`` once the session is over."""
        await self._channels.send(_STDIN, data)

    async def end_input(self) -> None:
        """There is no more input. Raises ``StreamClosedError`` if this version has no word for that."""
        if self.version < 5:
            raise StreamClosedError("this API server's WebSockets cannot end stdin")
        await self._channels.close_channel(_STDIN)

    async def resize(self, width: int, height: int) -> None:
        await self._channels.send(_RESIZE, json.dumps({"Width": width, "Height": height}).encode())

    async def read_until(self, text: bytes, seconds: float = _PATIENCE) -> bytes:
        """Stdout so far, once ``text`` is in it, or the session is over. Raises ``TimeoutError``."""
        await self._channels.until(lambda: text in self.stdout, seconds)
        return self.stdout

    async def wait(self, seconds: float = _PATIENCE) -> CommandResult:
        """Until the session is over. Raises ``TimeoutError``."""
        await self._channels.until(lambda: self._channels.ended, seconds)
        said = bytes(self._channels.data.get(_ERROR, b""))
        try:
            status = CommandStatus.decode(said, self.version)
        except ValueError:
            return CommandResult(None, self.stdout, self.stderr, "the session ended without a word")
        return CommandResult(status.exit_code, self.stdout, self.stderr, status.message)

    def abort(self) -> None:
        """Go away without a word."""
        self._channels.abort()


class ForwardedPort:
    """One connection to a port of a pod."""

    def __init__(self, channels: _Channels) -> None:
        self._channels = channels

    @property
    def received(self) -> bytes:
        return bytes(self._channels.data.get(0, b""))[2:]  # it begins with the port

    @property
    def error(self) -> str:
        """What the node says is wrong; empty while all is well."""
        return bytes(self._channels.data.get(1, b""))[2:].decode(errors="replace")

    @property
    def ended(self) -> bool:
        return self._channels.ended

    async def write(self, data: bytes) -> None:
        await self._channels.send(0, data)

    async def read_until(self, size: int, seconds: float = _PATIENCE) -> bytes:
        """What has come, once it is ``size`` bytes, or there is an error or an end. Raises ``TimeoutError``."""
        await self._channels.until(lambda: len(self.received) >= size or self.error, seconds)
        return self.received

    def abort(self) -> None:
        self._channels.abort()


@asynccontextmanager
async def open_command(
    config: ClientConfig, path: str, query: Sequence[tuple[str, str]], *, reading: bool = True
) -> AsyncIterator[RemoteSession]:
    """A session of ``pods/NAME/exec`` or ``attach``; cut when the block ends.

    Args:
        reading: False: a client that hangs and takes nothing of what comes.

    Raises:
        StreamRefusedError: it was not begun.
    """
    async with _open(config, path, query, _COMMAND_PROTOCOLS, (_STDOUT, _STDERR, _ERROR), 5, reading) as (opened, name):
        yield RemoteSession(opened, int(name[1]))


@asynccontextmanager
async def open_port(config: ClientConfig, path: str, port: int) -> AsyncIterator[ForwardedPort]:
    """A connection by ``pods/NAME/portforward``; cut when the block ends. Raises ``StreamRefusedError``."""
    async with _open(config, path, [("ports", str(port))], _PORT_PROTOCOLS, (0, 1), 2, True) as (opened, _):
        yield ForwardedPort(opened)


@asynccontextmanager
async def _open(
    config: ClientConfig,
    path: str,
    query: Sequence[tuple[str, str]],
    protocols: Sequence[str],
    readable: Sequence[int],
    count: int,
    reading: bool,
) -> AsyncIterator[tuple[_Channels, str]]:
    headers = request_headers(base64.b64encode(secrets.token_bytes(16)).decode(), protocols)
    authorization = await config.credentials.authorization()
    if authorization is not None:
        headers.append(("Authorization", authorization))
    server = urlsplit(config.server)
    target = f"{server.path.rstrip('/')}{path}?{urlencode(query)}"
    address = f"{server.netloc}" if server.port else f"{server.netloc}:{443 if server.scheme == 'https' else 80}"
    context = config.ssl_context or (ssl.create_default_context() if server.scheme == "https" else None)
    try:
        async with asyncio.timeout(_PATIENCE):
            answer = await dial(address, "GET", target, headers, context)
    except (OSError, h11.RemoteProtocolError) as error:
        raise StreamRefusedError(0, text_of(error)) from error
    if answer.stream is None:
        raise StreamRefusedError(answer.status, _sentence(answer.body))
    chosen = next((value for name, value in answer.headers if name.lower() == "sec-websocket-protocol"), protocols[-1])
    channels = _Channels(answer.stream, ChannelConnection(ChannelProtocol.named(chosen), count, readable, client=True))
    pump = asyncio.create_task(channels.pump(), name="user's stream") if reading else None
    try:
        yield channels, chosen
    finally:
        channels.abort()
        if pump is not None:
            pump.cancel()
            await asyncio.wait({pump})
    if pump is not None and not pump.cancelled():
        pump.result()  # raises what broke it


def _sentence(body: bytes) -> str:
    """The message of a ``Status``, or the text that came instead."""
    text = body.decode(errors="replace").strip()
    try:
        status = json.loads(text)
    except ValueError:
        return text
    return str(status.get("message", text)) if isinstance(status, dict) else text

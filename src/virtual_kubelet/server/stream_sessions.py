"""Exec, attach, port-forward and run of one node: requests that passed the kubelet's checks, and the provider's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

from virtual_kubelet.contracts.pods import PodKey
from virtual_kubelet.contracts.streams import (
    AttachIO,
    ContainerAttach,
    ContainerExec,
    PartialStreams,
    PortForwarder,
    PortStream,
)
from virtual_kubelet.errors import ProtocolError, ProviderError, UnsupportedError
from virtual_kubelet.objects.core_v1 import Pod
from virtual_kubelet.server.http_messages import Request, Response, UpgradeHandler, text_response
from virtual_kubelet.server.port_forward import PortForwarding
from virtual_kubelet.server.provider_calls import ProviderCalls
from virtual_kubelet.server.remote_command import RemoteCommand
from virtual_kubelet.server.stream_limits import StreamLimits
from virtual_kubelet.server.stream_upgrade import (
    RefusedUpgrade,
    command_options,
    port_forward_upgrade,
    remote_command_upgrade,
)
from virtual_kubelet.streaming.buffers import Buffer
from virtual_kubelet.streaming.remote_command.status import CommandStatus
from virtual_kubelet.telemetry.logs import bind, get_logger
from virtual_kubelet.telemetry.tracing import span

__all__ = ["StreamSessions"]

log = get_logger(__name__)

_JSON: Final = ("Content-Type", "application/json")
_STOPPING: Final = "the node is shutting down"
_NODE_FAILED: Final = "the node failed; its log says why"


class StreamSessions:
    """Answers requests for streams. Sessions live in tasks of the server, and are counted."""

    def __init__(
        self,
        provider: object,
        calls: ProviderCalls,
        limits: StreamLimits,
        *,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """``provider`` is asked for what it offers: ``ContainerExec``, ``ContainerAttach``, ``PortForwarder``."""
        self._provider = provider
        self._calls = calls
        self._limits = limits
        self._spawn = spawn
        self._sessions: dict[object, Callable[[], None]] = {}  # how each is told to end

    @property
    def sessions(self) -> int:
        """Number of sessions at this moment, those whose client has gone but whose command goes on included."""
        return len(self._sessions)

    def stop(self) -> None:
        """The node stops: every client is told, and every command and connection ended."""
        if self._sessions:
            log.info("ending stream sessions", extra={"sessions": str(len(self._sessions))})
        for stop in list(self._sessions.values()):
            stop()

    async def answer(self, route: str, request: Request, pod: Pod, parameters: Mapping[str, str]) -> Response:
        """Answer ``exec``, ``attach``, ``portForward`` or ``run``.

        Raises ``UnsupportedError`` for what the provider does not offer, ``ProtocolError`` for what the client may not.
        """
        key = PodKey.of(pod)
        container = parameters.get("container", "")
        try:
            if route == "portForward":
                return self._port_forward(request, key)
            if route == "run":
                return await self._run_and_collect(request, key, container)
            return self._remote_command(route, request, key, container)
        except RefusedUpgrade as refused:
            return refused.response

    def _remote_command(self, route: str, request: Request, key: PodKey, container: str) -> Response:
        run = self._exec(request, key, container) if route == "exec" else self._attach(key, container)
        options = command_options(request.query)
        headers, wire, begin = remote_command_upgrade(request, options, self._limits)
        if (refusal := self._full()) is not None:
            return refusal
        session = object()
        command = RemoteCommand(
            wire, options, self._limits, run=run, spawn=self._spawn, ended=self._ended(session), begin=begin
        )
        return self._switch(headers, command.upgrade, session, lambda: command.stop(_STOPPING))

    def _port_forward(self, request: Request, key: PodKey) -> Response:
        connect = self._connector(key)
        headers, wire, begin = port_forward_upgrade(request, self._limits)
        if (refusal := self._full()) is not None:
            return refusal
        session = object()
        forwarding = PortForwarding(
            wire, self._limits, connect=connect, spawn=self._spawn, ended=self._ended(session), begin=begin
        )
        return self._switch(headers, forwarding.upgrade, session, forwarding.stop)

    def _full(self) -> Response | None:
        if len(self._sessions) < self._limits.max_sessions:
            return None
        return text_response(429, "too many streams on this node; try again later\n", ("Retry-After", "1"))

    def _switch(
        self, headers: list[tuple[str, str]], upgrade: UpgradeHandler, session: object, stop: Callable[[], None]
    ) -> Response:
        def counted(transport: asyncio.Transport, early: bytes) -> asyncio.Protocol:
            self._sessions[session] = stop
            return upgrade(transport, early)

        return Response(101, headers, upgrade=counted)

    def _ended(self, session: object) -> Callable[[], None]:
        def ended() -> None:
            del self._sessions[session]

        return ended

    def _exec(self, request: Request, key: PodKey, container: str) -> Callable[[AttachIO], Awaitable[CommandStatus]]:
        provider = self._provider
        if not isinstance(provider, ContainerExec):
            raise UnsupportedError("the provider of this node does not offer exec")
        self._check_lack("run_in_container")
        command = request.query.get_all("command")

        async def run(streams: AttachIO) -> CommandStatus:
            async def execute() -> CommandStatus:
                code = await provider.run_in_container(key, container, command, streams)
                if type(code) is not int:
                    raise TypeError(f"run_in_container returned a {type(code).__name__}, not an exit code")
                return CommandStatus.exited(code)

            return await self._command("run_in_container", key, execute, "error executing command in container")

        return run

    def _attach(self, key: PodKey, container: str) -> Callable[[AttachIO], Awaitable[CommandStatus]]:
        provider = self._provider
        if not isinstance(provider, ContainerAttach):
            raise UnsupportedError("the provider of this node does not offer attach")
        self._check_lack("attach_to_container")

        async def run(streams: AttachIO) -> CommandStatus:
            async def attach() -> CommandStatus:
                await provider.attach_to_container(key, container, streams)
                return CommandStatus.success()

            return await self._command("attach_to_container", key, attach, "error attaching to container")

        return run

    def _check_lack(self, method: str) -> None:
        provider = self._provider
        if isinstance(provider, PartialStreams) and (lack := provider.lacks(method)):
            raise UnsupportedError(lack)

    async def _command(
        self, call: str, key: PodKey, work: Callable[[], Awaitable[CommandStatus]], failed: str
    ) -> CommandStatus:
        """Whatever the provider does ends as a status: an error must reach the client, and not the server's tasks."""
        with bind(namespace=key.namespace, pod=key.name, uid=key.uid), span(call):
            try:
                with self._calls.timed(call):
                    return await work()
            except ProviderError as error:
                return CommandStatus.failed(f"{failed}: {error}")
            except BrokenPipeError:
                return CommandStatus.failed(f"{failed}: nobody reads its output")
            except Exception:
                log.exception("a command failed in the provider")
                return CommandStatus.failed(f"{failed}: {_NODE_FAILED}")

    def _connector(self, key: PodKey) -> Callable[[int, PortStream], Awaitable[str]]:
        provider = self._provider
        if not isinstance(provider, PortForwarder):
            raise UnsupportedError("the provider of this node does not offer port-forward")
        self._check_lack("port_forward")

        async def connect(port: int, stream: PortStream) -> str:
            failed = f"error forwarding port {port} to pod {key.name}_{key.namespace}, uid {key.uid}"
            with bind(namespace=key.namespace, pod=key.name, uid=key.uid), span("port_forward"):
                try:
                    with self._calls.timed("port_forward"):
                        await provider.port_forward(key, port, stream)
                    return ""
                except ConnectionRefusedError as error:
                    return f"{failed}: {error.strerror or error}"
                except ConnectionError:
                    raise
                except (OSError, ProviderError) as error:
                    return f"{failed}: {error}"
                except Exception:
                    log.exception("a port could not be forwarded by the provider")
                    return f"{failed}: {_NODE_FAILED}"

        return connect

    async def _run_and_collect(self, request: Request, key: PodKey, container: str) -> Response:
        """``/run``: a command without a client to talk to; its output is the answer."""
        provider = self._provider
        if not isinstance(provider, ContainerExec):
            raise UnsupportedError("the provider of this node does not offer run")
        self._check_lack("run_in_container")
        command = request.query.get("cmd")
        stdout, stderr = (_Collected(self._limits.max_run_bytes) for _ in range(2))
        streams = AttachIO(None, stdout, stderr, False, _NoSizes())
        try:
            with bind(namespace=key.namespace, pod=key.name, uid=key.uid), span("run_in_container"):
                with self._calls.timed("run_in_container"):
                    code = await provider.run_in_container(key, container, command.split(" "), streams)
        except ProviderError as error:
            raise ProtocolError(str(error), status=500) from error
        except _TooMuch as error:
            raise ProtocolError(str(error), status=500) from None
        if code:
            said = stderr.data.decode(errors="replace")
            raise ProtocolError(f"command '{command}' exited with {code}: {said}", status=500)
        return Response(200, [_JSON], bytes(stdout.data + stderr.data))


class _TooMuch(BrokenPipeError):
    """A command wrote more than is held."""


class _Collected:
    """An ``OutputStream`` that keeps what is written."""

    def __init__(self, most: int) -> None:
        self.data = bytearray()
        self._most = most

    async def write(self, data: Buffer) -> None:
        if len(self.data) + len(data) > self._most:
            raise _TooMuch(f"the command wrote more than {self._most} bytes")
        self.data += data


class _NoSizes:
    """No terminal, no sizes."""

    def __aiter__(self) -> _NoSizes:
        return self

    async def __anext__(self) -> Any:
        raise StopAsyncIteration

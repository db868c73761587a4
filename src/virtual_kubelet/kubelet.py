"""One node: start order, stop order, nothing else.

    start   listeners, state directory, provider made, API server met, provider entered   (``kubelet_parts``)
            ─▶ events, references, pod controller ─▶ HTTPS server ─▶ node controller: it registers the Node at once,
            which is Ready when the others are up
    stop    what ``on_shutdown`` says ─▶ the same in reverse

Everything runs in one task group: the first error ends the node, and leaves ``Kubelet.run``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from virtual_kubelet.errors import ApiConnectionError, ApiError, StartupTimeoutError
from virtual_kubelet.kubelet_config import KubeletConfig, OnShutdown
from virtual_kubelet.kubelet_parts import HTTPS_SERVER, POD_CONTROLLER, KubeletParts, make_parts
from virtual_kubelet.node.readiness import Obstacle
from virtual_kubelet.preflight import explain_refusal
from virtual_kubelet.server.kubelet_api import KubeletServer
from virtual_kubelet.telemetry.logs import bind, get_logger

__all__ = ["Kubelet", "KubeletConfig", "OnShutdown"]

log = get_logger(__name__)

#: Seconds that requests to the HTTPS API under way have to end when the node stops.
_SERVER_GRACE: Final = 2.0
#: Seconds for each write of a stopping node; one that the API server does not take must not keep it from stopping.
_LAST_WORDS: Final = 5.0


class Kubelet:
    """One virtual node: ``await kubelet.run()`` is all there is to do. Runs once.

    Attributes:
        parts: the controllers and the rest, once they are made.
    """

    def __init__(self, config: KubeletConfig) -> None:
        self.config = config
        self.parts: KubeletParts | None = None
        self._running: list[asyncio.Task[None]] = []
        self._started = False
        self._ready = asyncio.Event()
        self._ended = asyncio.Event()
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """Of the node's HTTPS API, as the API server reaches it; empty before it listens, and if it is off."""
        return self.parts.url if self.parts is not None else ""

    async def run(self) -> None:
        """Until cancelled, which stops it in order (``on_shutdown``; cancelling again cuts that short).

        Raises ``ConfigurationError`` for what the user gave us, ``ApiError`` and ``ApiConnectionError`` if the API server
        cannot be had at the start, ``StartupTimeoutError``, and whatever breaks a part later. Once it has been Ready, no
        failure of the API server, the network or the provider ends it.
        """
        if self._started:
            raise RuntimeError("a Kubelet runs once")
        self._started = True
        try:
            with bind(node=self.config.node_name):
                async with AsyncExitStack() as stack:
                    await self._run(stack)
        except BaseException as error:
            self._failure = _first(error)
            if isinstance(self._failure, ApiError):
                explain_refusal(self._failure, self.config.node_name)
            if self._failure is error:
                raise
            raise self._failure from None
        finally:
            self._ended.set()

    async def wait_ready(self, timeout: float | None = None) -> None:
        """Until the API server has been told that the node is Ready.

        Raises what ended ``run`` if it ended before, ``TimeoutError`` after ``timeout`` seconds.
        """
        async with asyncio.timeout(timeout):
            waits = [asyncio.create_task(event.wait()) for event in (self._ready, self._ended)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
                await asyncio.gather(*waits, return_exceptions=True)
        if self._ready.is_set():
            return
        if self._failure is None or isinstance(self._failure, asyncio.CancelledError):
            raise RuntimeError(f"node {self.config.node_name} was stopped before it was ready")
        raise self._failure

    async def _run(self, stack: AsyncExitStack) -> None:
        limit = self.config.startup_timeout
        deadline = None if limit is None else asyncio.get_running_loop().time() + limit
        try:
            async with asyncio.timeout_at(deadline) as making:
                self.parts = parts = await make_parts(self.config, stack, deadline)
        except TimeoutError as error:
            if not making.expired():
                raise
            raise self._too_late(None) from error
        async with asyncio.TaskGroup() as tasks:
            try:
                try:
                    async with asyncio.timeout_at(deadline) as starting:
                        await self._start(tasks, parts)
                except TimeoutError as error:
                    if not starting.expired():
                        raise
                    cause = parts.node_controller.last_error
                    why = cause or parts.pod_controller.trouble or _sentence(parts.node_controller.obstacles)
                    raise self._too_late(why) from (cause or error)
                self._ready.set()
                log.info("node is Ready", extra={"url": self.url})
                await asyncio.get_running_loop().create_future()  # until cancelled
            except asyncio.CancelledError:
                if not any(_failed(task) for task in self._running):
                    await self._leave(parts)
                raise
            finally:
                await self._stop()

    async def _start(self, tasks: asyncio.TaskGroup, parts: KubeletParts) -> None:
        def run(work: Coroutine[Any, Any, None], name: str) -> None:
            self._running.append(tasks.create_task(work, name=name))

        run(parts.recorder.run(), "events")
        run(parts.references.run(), "references")
        run(parts.pod_controller.run(), POD_CONTROLLER)
        readiness = parts.node_controller.readiness
        if parts.client_rotation is not None:
            run(parts.client_rotation.run(), "client certificate")
        if parts.serving is not None:
            # The signer wants to see the Node, so that comes first here, not Ready yet.
            run(parts.node_controller.run(), "node controller")
            run(parts.serving.run(), "serving certificate")
            await parts.serving.wait_usable(lambda what: readiness.close(HTTPS_SERVER, what))
        if parts.tls is not None:
            run(parts.tls.run(), "TLS files")
        if parts.https is not None:
            await parts.https.start(self.config.listen_host, self.config.listen_port, listeners=parts.listeners)
            run(_serve(parts.https), HTTPS_SERVER)
            readiness.open(HTTPS_SERVER)
        if parts.serving is None:
            run(parts.node_controller.run(), "node controller")
        await parts.pod_controller.wait_ready()
        readiness.open(POD_CONTROLLER)
        await parts.node_controller.wait_reported_ready()

    def _too_late(self, cause: Exception | str | None) -> StartupTimeoutError:
        why = f": {cause}" if cause else ""
        return StartupTimeoutError(
            f"node {self.config.node_name} was not Ready within {self.config.startup_timeout:g} s{why}"
        )

    async def _leave(self, parts: KubeletParts) -> None:
        """What ``on_shutdown`` says, while everything still runs. Cancelling cuts it short."""
        actions = set(self.config.on_shutdown)
        if actions & {OnShutdown.CORDON, OnShutdown.DRAIN}:
            await _write(parts.node_controller.cordon(), "cordon the node")
        if OnShutdown.DRAIN in actions:
            log.info("draining: pods have up to %g s to end", self.config.drain_timeout)
            await parts.pod_controller.drain(self.config.drain_timeout)
            stopped = "the node was drained and stopped"
            await _write(parts.node_controller.mark_not_ready("NodeDrained", stopped), "mark the node NotReady")
        if OnShutdown.DELETE_NODE in actions:
            await _write(parts.node_controller.delete_node(), "delete the Node")

    async def _stop(self) -> None:
        """End what runs, the last started first. A second cancellation ends all at once: the task group sees to it."""
        for task in reversed(self._running):
            task.cancel()
            await asyncio.wait({task})


async def _serve(server: KubeletServer) -> None:
    try:
        await server.wait()
    finally:
        await server.aclose(_SERVER_GRACE)


async def _write(write: Coroutine[Any, Any, None], what: str) -> None:
    """One of the node's last writes: what the API server refuses is said, and stopping goes on."""
    try:
        async with asyncio.timeout(_LAST_WORDS):
            await write
    except (ApiError, ApiConnectionError, TimeoutError) as error:
        log.error("could not %s: %s", what, str(error) or "the API server did not answer in time")


def _sentence(obstacles: Sequence[Obstacle]) -> str:
    return "; ".join(obstacle.message for obstacle in obstacles)


def _failed(task: asyncio.Task[None]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is not None


def _first(error: BaseException) -> BaseException:
    """The first error in a group: the others were cancelled because of it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

"""postStart and preStop hooks (pkg/kubelet/lifecycle/handlers.go, kuberuntime_container.go). For the pod engine:

    hooks = Hooks(clock)                                # one an engine
    try:
        await hooks.post_start(target, on_event)        # after the container has started, before it counts as running
    except HookFailedError as error:                    # on_event has been told FailedPostStartHook
        ...                                             # waiting: PostStartHookError, str(error)
                                                        # Killing: POST_START_KILLING; ended in the pod's grace period

    elapsed = await hooks.pre_stop(target, grace, on_event)     # before its SIGTERM, within the grace period
    left = grace_after_pre_stop(grace, elapsed)                 # seconds from SIGTERM to SIGKILL

``on_event(container, type, reason, message)`` is called in the loop's thread and must not block or raise.

A container without that hook costs nothing: both return at once. ``post_start`` has no time-out, as with a kubelet: it lasts
as long as the pod wants, and the engine cancels it when the container ends or the pod is deleted. ``pre_stop`` ends with the
grace period; a failure, or one that is not over then, is the event ``FailedPreStopHook``, and the container is ended all the
same. Cancelled, either gives up its command or connection. No hook runs in a container that has ended already: that is the
engine's to know, and so is to cancel ``pre_stop`` once the container has ended by itself.

The answer to an ``httpGet`` does not matter, only that there is one; ``tcpSocket`` fails, as the API's documentation says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from virtual_kubelet.clock import Clock
from virtual_kubelet.objects.core_v1 import HTTPGetAction, LifecycleHandler
from virtual_kubelet.runtime.bounded_call import LeftBehind
from virtual_kubelet.runtime.probes.connection import NotTlsError, host_port
from virtual_kubelet.runtime.probes.exec_command import run_command
from virtual_kubelet.runtime.probes.http_get import HttpFailure, http_get
from virtual_kubelet.runtime.probes.http_request import request_of
from virtual_kubelet.runtime.probes.target import ContainerTarget, ProbeError, go_quote

__all__ = ["MINIMUM_GRACE", "POST_START_KILLING", "HookFailedError", "Hooks", "grace_after_pre_stop"]

#: container, event type, reason, message.
EventSink: TypeAlias = Callable[[str, str, str, str], None]

#: Seconds that a container has after its SIGTERM at least (kuberuntime_container.go, minimumGracePeriodInSeconds).
MINIMUM_GRACE: Final = 2
#: Message of the ``Killing`` event after a postStart hook that failed.
POST_START_KILLING: Final = "FailedPostStartHook"


class HookFailedError(Exception):
    """A hook failed. The text is for the container's status; no event has it, since it may hold what the command said."""


def grace_after_pre_stop(grace: float, elapsed: float) -> float:
    """Seconds from SIGTERM to SIGKILL, when the preStop hook took ``elapsed`` of the grace period.

    Whole seconds of it count, and two are always left.
    """
    return max(float(MINIMUM_GRACE), grace - int(elapsed))


class Hooks:
    """Runs the hooks of one engine's containers; see the module's docstring."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left = LeftBehind()

    async def post_start(self, target: ContainerTarget, on_event: EventSink) -> None:
        """The postStart hook, if there is one. Raises ``HookFailedError``."""
        lifecycle = target.container.lifecycle
        if lifecycle is None or lifecycle.post_start is None:
            return
        try:
            await self._run(lifecycle.post_start, target, on_event)
        except HookFailedError:
            on_event(target.container.name, "Warning", "FailedPostStartHook", "PostStartHook failed")
            raise

    async def pre_stop(self, target: ContainerTarget, grace: float, on_event: EventSink) -> float:
        """The preStop hook, if there is one and time for it; the seconds that it took, ``grace`` at most."""
        lifecycle = target.container.lifecycle
        if lifecycle is None or lifecycle.pre_stop is None or grace <= 0:
            return 0.0
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(grace):
                await self._run(lifecycle.pre_stop, target, on_event)
        except (HookFailedError, TimeoutError):
            on_event(target.container.name, "Warning", "FailedPreStopHook", "PreStopHook failed")
        return min(grace, self._clock.monotonic() - began)

    async def _run(self, handler: LifecycleHandler, target: ContainerTarget, on_event: EventSink) -> None:
        meta, name = target.pod.metadata, target.container.name
        where = f"for Container {go_quote(name)} in Pod {go_quote(f'{meta.name}_{meta.namespace}({meta.uid})')} failed"
        if handler.exec is not None:
            command = handler.exec.command or []
            failure = await self._command_failure(command, target)
            if failure is not None:
                error, output = failure
                shown = f"[{' '.join(command)}]"
                raise HookFailedError(
                    f"Exec lifecycle hook ({shown}) {where} - error: {error}, message: {go_quote(output)}"
                )
        elif handler.http_get is not None:
            try:
                await self._get(handler.http_get, target, on_event)
            except (ProbeError, HttpFailure) as error:
                path = handler.http_get.path or ""
                raise HookFailedError(f"HTTP lifecycle hook ({path}) {where} - error: {error}") from error
        elif handler.sleep is not None:
            await asyncio.sleep(handler.sleep.seconds)
        else:
            kind = "tcpSocket" if handler.tcp_socket is not None else "nothing"
            raise HookFailedError(f"Cannot run handler: invalid handler: {kind}")

    async def _command_failure(self, command: list[str], target: ContainerTarget) -> tuple[str, str] | None:
        try:
            ended = await run_command(target, command, None, self._left)
        except ProbeError as error:
            return str(error), ""
        except TimeoutError:
            return f"command {go_quote(' '.join(command))} timed out", ""
        if ended.exit_code == 0:
            return None
        return f"command '{' '.join(command)}' exited with {ended.exit_code}: {ended.stderr}", ended.output

    async def _get(self, action: HTTPGetAction, target: ContainerTarget, on_event: EventSink) -> None:
        request = request_of(action, target, purpose="lifecycle")
        try:
            await http_get(request, None)
        except HttpFailure as failure:
            if not isinstance(failure.__cause__, NotTlsError):
                raise
            await http_get(request.plain(), None)
            where = host_port(request.host, request.port)
            message = f"request to HTTPS lifecycle hook {where} got HTTP response, retry with HTTP succeeded"
            on_event(target.container.name, "Warning", "LifecycleHTTPFallback", message)

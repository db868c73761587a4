"""Asking the provider whether it is alive: each interval, with a time-out, never twice at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from virtual_kubelet.clock import Clock, SystemClock
from virtual_kubelet.node.readiness import PingResult
from virtual_kubelet.telemetry.logs import get_logger
from virtual_kubelet.telemetry.metrics import Metrics
from virtual_kubelet.telemetry.tracing import span

__all__ = ["DEFAULT_PING_INTERVAL", "DEFAULT_PING_TIMEOUT", "Pinger"]

log = get_logger(__name__)

#: Seconds. The Go framework's interval; it has no time-out of its own, and a ping that hangs leaves its node Ready.
DEFAULT_PING_INTERVAL: Final = 10.0
DEFAULT_PING_TIMEOUT: Final = 10.0
#: What a condition's message says of an error is cut at so many characters.
MESSAGE_LIMIT: Final = 1024
#: Seconds that a cancelled ping has to end when the node stops.
_PATIENCE: Final = 1.0


class Pinger:
    """Calls ``ping`` for ever and tells each change of the result.

    A ping that has not answered in time counts as failed and is cancelled. One that does not let itself be cancelled is
    not called a second time: the next round waits for it again, and its late success counts.

    Args:
        ping: the provider's.
        interval: seconds from the end of one round to the next.
        timeout: seconds that a ping may take.
        on_change: called with a result that differs from the last one; must not block.
    """

    def __init__(
        self,
        ping: Callable[[], Awaitable[None]],
        *,
        on_change: Callable[[PingResult], None],
        interval: float = DEFAULT_PING_INTERVAL,
        timeout: float = DEFAULT_PING_TIMEOUT,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
    ) -> None:
        if interval <= 0:
            raise ValueError(f"the ping interval must be more than 0 s, not {interval:g} s")
        if timeout <= 0:
            raise ValueError(f"the ping time-out must be more than 0 s, not {timeout:g} s")
        self.result: PingResult | None = None
        self._ping = ping
        self._interval, self._timeout = interval, timeout
        self._on_change = on_change
        self._metrics = metrics
        self._clock = clock or SystemClock()
        self._call: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Until cancelled; the first ping is at once."""
        try:
            while True:
                self._conclude(await self._round())
                await asyncio.sleep(self._interval)
        finally:
            await self._abandon()

    async def _round(self) -> PingResult:
        started = self._clock.monotonic()
        call = self._call
        if call is not None and call.done() and call.cancelled():
            call = None  # we cancelled it after its time-out, and have said so
        if call is None:
            call = self._call = asyncio.create_task(self._one_ping(), name="ping")
        await asyncio.wait({call}, timeout=self._timeout)
        if call.done():
            self._call = None
            result = _result_of(call)
            self._observe("success" if result.ok else "error", started)
            return result
        call.cancel()
        self._observe("timeout", started)
        return PingResult(False, f"the provider has not answered ping within {self._timeout:g} s")

    async def _one_ping(self) -> None:
        with span("ping"):
            await self._ping()

    def _conclude(self, result: PingResult) -> None:
        if result == self.result:
            return
        if not result.ok:
            log.warning("the provider fails its ping: %s", result.message)
        elif self.result is not None:
            log.info("the provider answers its ping again")
        self.result = result
        self._on_change(result)

    def _observe(self, outcome: str, started: float) -> None:
        if self._metrics is not None:
            self._metrics.ping_seconds.labels(outcome).observe(self._clock.monotonic() - started)

    async def _abandon(self) -> None:
        call, self._call = self._call, None
        if call is None:
            return
        call.cancel()
        done, _ = await asyncio.wait({call}, timeout=_PATIENCE)
        if not done:
            log.warning("the provider's ping does not let itself be cancelled; it is left behind")
        elif not call.cancelled() and call.exception() is not None:
            log.debug("the last ping failed: %s", call.exception())


def _result_of(call: asyncio.Task[None]) -> PingResult:
    if call.cancelled():
        return PingResult(False, "CancelledError: the provider cancelled its own ping")
    error = call.exception()
    if error is None:
        return PingResult(True)
    sentence = " ".join(str(error).split())
    message = f"{type(error).__name__}: {sentence}" if sentence else type(error).__name__
    return PingResult(False, message if len(message) <= MESSAGE_LIMIT else message[: MESSAGE_LIMIT - 1] + "…")

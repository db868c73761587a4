"""Calls that the HTTPS API makes to the provider: measured, traced, and with a time-out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from virtual_kubelet.errors import ProtocolError, ProviderError, UnsupportedError
from virtual_kubelet.telemetry.metrics import Metrics
from virtual_kubelet.telemetry.tracing import span

__all__ = ["ProviderCalls"]

T = TypeVar("T")


class ProviderCalls:
    """Asks the provider of one node."""

    def __init__(self, metrics: Metrics, *, timeout: float) -> None:
        """``timeout``: seconds for one answer."""
        self._metrics = metrics
        self._timeout = timeout

    async def ask(self, call: str, question: Callable[[], Awaitable[T]]) -> T:
        """Await the provider's answer to ``question``, which is counted as ``call``.

        Raises ``UnsupportedError`` as the provider does, ``ProtocolError`` 500 for its other refusals and when it is
        too slow.
        """
        try:
            with span(call), self.timed(call):
                async with asyncio.timeout(self._timeout):
                    return await question()
        except TimeoutError:
            raise ProtocolError("Internal Error: the provider did not answer in time", status=500) from None
        except UnsupportedError:
            raise
        except ProviderError as error:
            raise ProtocolError(f"Internal Error: {error}", status=500) from error

    @contextmanager
    def timed(self, call: str) -> Iterator[None]:
        """Count the block as one call."""
        started = time.perf_counter()
        result = "error"
        try:
            yield
            result = "ok"
        finally:
            self._metrics.provider_call_seconds.labels(call, result).observe(time.perf_counter() - started)

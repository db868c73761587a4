"""Calls to the provider as the controllers make them: each has a time-out and a metric, each failure is one exception,
and each answer is what the contract says.

A provider is somebody else's code. It may raise anything, hang, cancel itself or answer nonsense; none of that may end
the node, and none of it may be taken for "the pod is gone".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from virtual_kubelet.contracts.configuration import PodConfiguration
from virtual_kubelet.contracts.pods import PodKey, PodLifecycleHandler
from virtual_kubelet.errors import NotFoundError, TransientError, text_of
from virtual_kubelet.objects.core_v1 import Pod, PodStatus
from virtual_kubelet.telemetry.metrics import Metrics
from virtual_kubelet.telemetry.tracing import span

__all__ = ["ProviderCallError", "ProviderCalls"]


class ProviderCallError(Exception):
    """A call to the provider failed: ``call`` is the method's name, ``error`` what it raised."""

    def __init__(self, call: str, error: Exception) -> None:
        super().__init__(text_of(error))
        self.call = call
        self.error = error


class ProviderCalls:
    """The provider's methods. All raise ``ProviderCallError``; only where it says so, ``NotFoundError`` too.

    Args:
        timeout: seconds one call may take; then it is cancelled.
    """

    def __init__(self, provider: PodLifecycleHandler, *, timeout: float, metrics: Metrics) -> None:
        self._provider: Any = provider
        self._timeout = timeout
        self._metrics = metrics
        self._timers: dict[tuple[str, str], Any] = {}

    async def create_pod(self, pod: Pod) -> None:
        """The provider's ``create_pod``; "not found" is no answer to it."""
        await self._unanswerable("create_pod", pod)

    async def update_pod(self, pod: Pod) -> None:
        """Raises ``NotFoundError`` if the provider does not know the pod."""
        await self._call("update_pod", pod)

    async def update_configuration(self, pod: Pod, configuration: PodConfiguration) -> None:
        """Of a ``ConfigurationWatcher``. Raises ``NotFoundError`` if the provider does not know the pod."""
        await self._call("update_configuration", pod, configuration)

    async def delete_pod(self, pod: Pod) -> None:
        """Raises ``NotFoundError`` if the provider does not know the pod."""
        await self._call("delete_pod", pod)

    async def knows(self, key: PodKey) -> bool:
        """Whether ``get_pod`` finds it."""
        try:
            return await self._call("get_pod", key) is not None
        except NotFoundError:
            return False

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        """None if the provider does not know the pod."""
        try:
            status = await self._call("get_pod_status", key)
        except NotFoundError:
            return None
        return None if status is None else _expect("get_pod_status", status, PodStatus)

    async def get_pod_statuses(self, keys: Sequence[PodKey]) -> Mapping[PodKey, PodStatus | None]:
        """Of a ``PodStatusBatch``. What is in the answer is not looked at."""
        answer: Mapping[PodKey, PodStatus | None] = _expect(
            "get_pod_statuses", await self._unanswerable("get_pod_statuses", keys), Mapping
        )
        return answer

    async def get_pods(self) -> list[Pod]:
        """A complete list: one that has anything but pods with UIDs in it is an error as a whole."""
        answer = await self._unanswerable("get_pods")
        try:
            pods = list(answer)
        except TypeError as error:
            raise ProviderCallError("get_pods", error) from error
        for pod in pods:
            if not _expect("get_pods", pod, Pod).metadata.uid:
                raise ProviderCallError("get_pods", ValueError(f"a pod without a UID: {pod.metadata.name!r}"))
        return pods

    async def get_pod_ips(self, pod: Pod) -> list[str]:
        """Of a ``PodAddresses``."""
        answer = await self._unanswerable("get_pod_ips", pod)
        if isinstance(answer, str) or not all(isinstance(ip, str) for ip in _expect("get_pod_ips", answer, Sequence)):
            raise ProviderCallError("get_pod_ips", TypeError("the provider gave something else than a list of texts"))
        return list(answer)

    async def _unanswerable(self, name: str, *arguments: object) -> Any:
        """A call that no "not found" answers."""
        try:
            return await self._call(name, *arguments)
        except NotFoundError as error:
            raise ProviderCallError(name, error) from error

    async def _call(self, name: str, *arguments: object) -> Any:
        started = time.perf_counter()
        result = "error"
        limit = asyncio.timeout(self._timeout)
        try:
            with span(name):
                async with limit:
                    answer = await getattr(self._provider, name)(*arguments)
            result = "ok"
            return answer
        except NotFoundError:
            result = "not_found"
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not ours: the provider awaited something of its own that was cancelled. It would end this task unnoticed.
            raise ProviderCallError(name, TransientError("the provider cancelled its own call")) from error
        except Exception as error:
            # Whatever a provider raises is its answer: the caller sorts it by kind, tells it and tries again.
            if limit.expired():
                late = TransientError(f"the provider has not answered within {self._timeout:g} s")
                raise ProviderCallError(name, late) from error
            raise ProviderCallError(name, error) from error
        finally:
            timer = self._timers.get((name, result))
            if timer is None:
                timer = self._timers[name, result] = self._metrics.provider_call_seconds.labels(name, result)
            timer.observe(time.perf_counter() - started)


def _expect(call: str, answer: Any, kind: type) -> Any:
    if not isinstance(answer, kind):
        said = TypeError(f"the provider gave a {type(answer).__name__} instead of a {kind.__name__}")
        raise ProviderCallError(call, said)
    return answer

"""Faults of a provider on request: what a node must survive, and what a conformance check must notice.

    faults = ProviderFaults()
    async with running_node(faults.around(MyProvider)) as node:
        faults.add(ProviderFault.error(TransientError("no capacity")), call="create_pod", pod="web", times=2)

A fault acts on the calls it matches, the first ``times`` of them; each call meets one at most. A call is named by the
provider's method; ``notify`` is each status that the provider tells of.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from virtual_kubelet.contracts.pods import PodKey, PodStatusCallback
from virtual_kubelet.devcluster.active_faults import ActiveFaults, InjectedFault
from virtual_kubelet.objects.core_v1 import Pod, PodStatus
from virtual_kubelet.provider_binding import ProviderSource

__all__ = ["ProviderFault", "ProviderFaultKind", "ProviderFaults"]

#: Every method that a node may call; those that a provider does not have it does not get from us.
_ASYNC: Final = (
    "create_pod", "update_pod", "delete_pod", "get_pod", "get_pod_status", "get_pods", "get_pod_statuses", "get_pod_ips",
    "ping", "run_in_container", "attach_to_container", "port_forward", "get_stats_summary",
)  # fmt: skip


class ProviderFaultKind(Enum):
    """What a fault does to a call.

    Attributes:
        ERROR: raises instead of doing what was asked.
        DELAY: waits, then does it.
        HANG: never answers, until it is cancelled.
        DEAF: never answers, and swallows cancellation once, as code that catches everything does.
        LOSE_ANSWER: does it, and raises instead of answering.
        DROP: does nothing, and answers None; of ``notify``: tells nobody.
        TWICE: does it, or tells it, two times.
        LIE: does it, and answers something else.
    """

    ERROR = "error"
    DELAY = "delay"
    HANG = "hang"
    DEAF = "deaf"
    LOSE_ANSWER = "lose-answer"
    DROP = "drop"
    TWICE = "twice"
    LIE = "lie"


@dataclass(frozen=True, slots=True)
class ProviderFault:
    """One kind of trouble; make it with the class methods."""

    kind: ProviderFaultKind
    exception: BaseException | None = None
    seconds: float = 0.0
    change: Callable[[Any], Any] | None = None

    @classmethod
    def error(cls, exception: BaseException) -> ProviderFault:
        return cls(ProviderFaultKind.ERROR, exception)

    @classmethod
    def delay(cls, seconds: float) -> ProviderFault:
        return cls(ProviderFaultKind.DELAY, seconds=seconds)

    @classmethod
    def hang(cls) -> ProviderFault:
        return cls(ProviderFaultKind.HANG)

    @classmethod
    def deaf(cls) -> ProviderFault:
        return cls(ProviderFaultKind.DEAF)

    @classmethod
    def lose_answer(cls, exception: BaseException | None = None) -> ProviderFault:
        return cls(ProviderFaultKind.LOSE_ANSWER, exception or ConnectionResetError("the answer was lost"))

    @classmethod
    def drop(cls) -> ProviderFault:
        return cls(ProviderFaultKind.DROP)

    @classmethod
    def twice(cls) -> ProviderFault:
        return cls(ProviderFaultKind.TWICE)

    @classmethod
    def lie(cls, change: Callable[[Any], Any]) -> ProviderFault:
        """``change`` makes the false answer of the true one; it must not change that one itself."""
        return cls(ProviderFaultKind.LIE, change=change)


class ProviderFaults:
    """The faults of the providers that were made through ``around``; all methods may be called while a node runs."""

    def __init__(self) -> None:
        self._active: ActiveFaults[ProviderFault] = ActiveFaults()

    def add(
        self, fault: ProviderFault, *, call: str = "", pod: str = "", times: int | None = 1
    ) -> InjectedFault[ProviderFault]:
        """Put ``fault`` in the way of calls that match; what is empty matches all.

        Args:
            call: the provider's method, or ``notify``.
            pod: only calls about pods of this name.
            times: after so many calls it is gone; None: never.
        """
        return self._active.put(fault, {"call": call, "pod": pod}, times)

    def lie_about_statuses(self, change: Callable[[PodStatus], PodStatus], *, pod: str = "") -> None:
        """Every status is told, and answered, as ``change`` makes it."""

        def one(status: PodStatus | None) -> PodStatus | None:
            return None if status is None else change(status)

        self.add(ProviderFault.lie(one), call="notify", pod=pod, times=None)
        self.add(ProviderFault.lie(one), call="get_pod_status", pod=pod, times=None)
        many = ProviderFault.lie(lambda found: {key: one(status) for key, status in found.items()})
        self.add(many, call="get_pod_statuses", pod=pod, times=None)

    @contextmanager
    def during(self, fault: ProviderFault, *, call: str = "", pod: str = "") -> Iterator[InjectedFault[ProviderFault]]:
        """``fault`` for all calls that match, inside the ``with`` block."""
        with self.add(fault, call=call, pod=pod, times=None) as injected:
            yield injected

    def clear(self) -> None:
        """All faults away; calls that hang go on hanging."""
        self._active.clear()

    def around(self, provider: ProviderSource) -> Any:
        """The provider with faults in its way: a factory if it is a class, a factory or a name; else a provider."""
        if isinstance(provider, str):
            from virtual_kubelet.provider_registry import load_provider

            return self.around(load_provider(provider))
        if not callable(provider):
            return self._wrap(provider)
        made: Callable[..., Any] = provider

        @functools.wraps(made, updated=())
        async def factory(context: Any) -> Any:
            found = made(context)
            return self._wrap(await found if inspect.isawaitable(found) else found)

        return factory

    # Inside

    def meet(self, call: str, pod: str) -> ProviderFault | None:
        """The fault that acts on this call, which uses it up by one."""
        return self._active.meet(call=call, pod=pod)

    def _wrap(self, provider: Any) -> Any:
        """An instance of a class of its own, which has just the methods that ``provider`` has: nodes look at those."""
        methods: dict[str, Any] = {name: _method(name) for name in _ASYNC if callable(getattr(provider, name, None))}
        if callable(getattr(provider, "notify_pods", None)):
            methods["notify_pods"] = _notify_pods
        if callable(getattr(provider, "get_container_logs", None)):
            methods["get_container_logs"] = _get_container_logs
        for name in ("notify_node_status", "configure_node", "lacks"):
            if callable(getattr(provider, name, None)):
                methods[name] = _passed_on(name)
        for name in ("rerun_is_safe", "declared_features"):
            if hasattr(provider, name):
                methods[name] = getattr(provider, name)
        base = _EnteredProvider if hasattr(type(provider), "__aenter__") else _FaultyProvider
        return type(f"Faulty{type(provider).__name__}", (base,), methods)(provider, self)


class _FaultyProvider:
    """A provider's stand-in. Its methods are put together by ``ProviderFaults``."""

    def __init__(self, provider: Any, faults: ProviderFaults) -> None:
        self.provider = provider
        self.faults = faults

    async def meet(self, call: str, pod: str, do: Callable[[], Any]) -> Any:
        fault = self.faults.meet(call, pod)
        kind = None if fault is None else fault.kind
        if fault is None or kind is None:
            return await do()
        if kind is ProviderFaultKind.ERROR:
            assert fault.exception is not None
            raise fault.exception
        if kind is ProviderFaultKind.DROP:
            return None
        if kind is ProviderFaultKind.DELAY:
            await asyncio.sleep(fault.seconds)
        elif kind in (ProviderFaultKind.HANG, ProviderFaultKind.DEAF):
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                if kind is ProviderFaultKind.HANG:
                    raise
            await asyncio.get_running_loop().create_future()
        elif kind is ProviderFaultKind.TWICE:
            await do()
        answer = await do()
        if kind is ProviderFaultKind.LOSE_ANSWER:
            assert fault.exception is not None
            raise fault.exception
        return answer if fault.change is None else fault.change(answer)


class _EnteredProvider(_FaultyProvider):
    """… of one that is an async context manager."""

    async def __aenter__(self) -> _EnteredProvider:
        await self.provider.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> object:
        return await self.provider.__aexit__(*exc_info)


def _method(name: str) -> Any:
    async def call(self: _FaultyProvider, *args: Any, **kwargs: Any) -> Any:
        return await self.meet(name, _pod_name(args), lambda: getattr(self.provider, name)(*args, **kwargs))

    call.__name__ = name
    return call


def _passed_on(name: str) -> Any:
    def call(self: _FaultyProvider, *args: Any) -> Any:
        return getattr(self.provider, name)(*args)

    call.__name__ = name
    return call


async def _get_container_logs(self: _FaultyProvider, key: PodKey, container: str, options: Any) -> AsyncIterator[Any]:
    async def nothing() -> None: ...

    await self.meet("get_container_logs", key.name, nothing)
    async for line in self.provider.get_container_logs(key, container, options):
        yield line


def _notify_pods(self: _FaultyProvider, callback: PodStatusCallback) -> None:
    loop = asyncio.get_running_loop()

    def tell(key: PodKey, status: PodStatus, *, deleting: bool = False) -> None:
        fault = self.faults.meet("notify", key.name)
        kind = None if fault is None else fault.kind
        if fault is None or kind is None:
            callback(key, status, deleting=deleting)
        elif kind is ProviderFaultKind.LIE:
            assert fault.change is not None
            callback(key, fault.change(status), deleting=deleting)
        elif kind is ProviderFaultKind.TWICE:
            callback(key, status, deleting=deleting)
            callback(key, status, deleting=deleting)
        elif kind is ProviderFaultKind.DELAY:
            loop.call_later(fault.seconds, functools.partial(callback, key, status, deleting=deleting))
        elif kind is ProviderFaultKind.ERROR:
            assert fault.exception is not None
            raise fault.exception
        # DROP, HANG and the rest: nobody hears of it.

    self.provider.notify_pods(tell)


def _pod_name(args: tuple[Any, ...]) -> str:
    """The pod that a call is about, if it is about one."""
    first = args[0] if args else None
    if isinstance(first, Pod):
        return first.metadata.name or ""
    return first.name if isinstance(first, PodKey) else ""

"""A provider made for one node: from a class, factory, name or instance; checked; with the node half it has or lacks."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from virtual_kubelet.contracts.context import ProviderContext
from virtual_kubelet.contracts.nodes import NodeStatusCallback
from virtual_kubelet.contracts.pods import PodLifecycleHandler
from virtual_kubelet.errors import ConfigurationError, ProviderConfigError
from virtual_kubelet.node.registration import copy_node
from virtual_kubelet.objects.core_v1 import Node
from virtual_kubelet.provider_registry import load_provider

__all__ = ["NodeHalf", "ProviderSource", "make_provider", "provider_label"]

#: The name of an installed provider, ``module:Name``, a class or factory (sync or async) that takes a
#: ``ProviderContext``, or a provider that is ready.
ProviderSource: TypeAlias = str | Callable[..., Any] | PodLifecycleHandler

_METHODS = ("create_pod", "update_pod", "delete_pod", "get_pod", "get_pod_status", "get_pods")


def provider_label(source: ProviderSource) -> str:
    """A short name of the provider, fit for a taint's value: its name, or that of its class."""
    if isinstance(source, str):
        return source.rpartition(":")[2].rpartition(".")[2][:63]
    inner = getattr(source, "func", source)  # functools.partial
    name = getattr(inner, "__name__", None) or type(inner).__name__
    return str(name)[:63]


async def make_provider(source: ProviderSource, context: ProviderContext, *, name: str = "") -> PodLifecycleHandler:
    """The provider. Raises ``ProviderConfigError``: unknown, failed to be made, or lacks methods; calls it ``name``."""
    label = name or provider_label(source)
    made: Any = source
    if isinstance(source, str):
        made = await _call(await asyncio.to_thread(load_provider, source), context, label)
    elif isinstance(source, type) or not isinstance(source, PodLifecycleHandler):
        made = await _call(source, context, label)
    missing = [name for name in _METHODS if not callable(getattr(made, name, None))]
    if missing:
        raise ProviderConfigError(
            f"provider {label!r} is no provider: a {type(made).__name__} has no {', '.join(missing)}",
            hint="see virtual_kubelet.PodLifecycleHandler for what each does",
        )
    provider: PodLifecycleHandler = made
    return provider


async def _call(factory: Callable[..., Any], context: ProviderContext, label: str) -> Any:
    try:
        made = factory(context)
        return await made if inspect.isawaitable(made) else made
    except ConfigurationError:
        raise
    except Exception as error:
        # Whatever someone else's code raises here: there is no node without a provider, and the user must hear why.
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ProviderConfigError(f"provider {label!r} could not be made: {said}") from error


class NodeHalf:
    """A ``NodeProvider`` for any provider: what the provider has of it is called, the rest is always alive and still.

    Attributes:
        node: as last described: at first, or by the provider since.
        allocatable: what it can give to pods.
    """

    def __init__(self, provider: PodLifecycleHandler, node: Node) -> None:
        self._ping = getattr(provider, "ping", None)
        self._notify = getattr(provider, "notify_node_status", None)
        self.node = node

    @property
    def allocatable(self) -> Mapping[str, str]:
        return self.node.status.allocatable or self.node.status.capacity or {}

    async def ping(self) -> None:
        if self._ping is not None:
            await self._ping()

    def notify_node_status(self, callback: NodeStatusCallback) -> None:
        def changed(node: Node) -> None:
            callback(node)
            self.node = copy_node(node)

        if self._notify is not None:
            self._notify(changed)

"""The node contract: how a backend shapes the Node object and says that it is alive."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol, runtime_checkable

from virtual_kubelet.objects.core_v1 import Node

__all__ = ["FeatureDeclarer", "NaiveNodeProvider", "NodeConfigurer", "NodeProvider", "NodeStatusCallback"]

#: Takes the whole desired Node: its labels, annotations, ``spec.taints`` and status replace the earlier ones of ours.
NodeStatusCallback = Callable[[Node], None]


@runtime_checkable
class NodeProvider(Protocol):
    """Node-level half of a provider."""

    async def ping(self) -> None:
        """Return while the backend can do its work; raise otherwise. Light: called often, with a time-out."""
        ...

    def notify_node_status(self, callback: NodeStatusCallback) -> None:
        """Keep ``callback`` and call it, in the loop's thread, whenever the node changes. Must not block."""
        ...


@runtime_checkable
class NodeConfigurer(Protocol):
    """A provider that writes capacity, labels, addresses … into the Node before it is registered."""

    def configure_node(self, node: Node) -> None: ...


@runtime_checkable
class FeatureDeclarer(Protocol):
    """A provider with features that the API server and the scheduler look for before they give a node what needs them.

    They are in the Node's ``status.declaredFeatures`` from Kubernetes 1.36 on (KEP-5328).
    """

    @property
    def declared_features(self) -> Collection[str]:
        """Names as Kubernetes has them."""
        ...


class NaiveNodeProvider:
    """A node that is always alive and changes only when ``update_status`` is called."""

    def __init__(self) -> None:
        self._callback: NodeStatusCallback | None = None

    async def ping(self) -> None:
        """Always alive."""

    def notify_node_status(self, callback: NodeStatusCallback) -> None:
        self._callback = callback

    def update_status(self, node: Node) -> None:
        """Report a changed node. Before a controller has registered its callback this raises ``RuntimeError``."""
        if self._callback is None:
            raise RuntimeError("no NodeController has asked for node updates yet")
        self._callback(node)

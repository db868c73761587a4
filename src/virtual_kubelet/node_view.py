"""What parts of a node, and its provider, see of one another: the pods, and the Node; made before those who know of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from virtual_kubelet.node.pod_controller import PodController
from virtual_kubelet.objects.core_v1 import Node, Pod
from virtual_kubelet.provider_binding import NodeHalf
from virtual_kubelet.runtime.admission import NodeFacts, node_facts

__all__ = ["NodeView"]


class NodeView:
    """Empty until the parts are there.

    Attributes:
        controller: of the pods.
        half: the node as its provider describes it.
        seen: the Node as the API server last had it.
    """

    def __init__(self) -> None:
        self.controller: PodController | None = None
        self.half: NodeHalf | None = None
        self.seen: Callable[[], Node | None] = lambda: None
        self._facts: tuple[Node, Node | None, NodeFacts] | None = None

    def node(self) -> NodeFacts:
        """As its provider describes it, with the labels and taints that it has by now."""
        assert self.half is not None
        described, seen = self.half.node, self.seen()
        if self._facts is None or self._facts[0] is not described or self._facts[1] is not seen:
            facts = node_facts(described)
            if seen is not None:
                found = node_facts(seen)
                facts = facts._replace(labels={**facts.labels, **found.labels}, taints=found.taints)
            self._facts = (described, seen, facts)
        return self._facts[2]

    def allocatable(self) -> Mapping[str, str]:
        return {} if self.half is None else self.half.allocatable

    def get(self, namespace: str, name: str) -> Pod | None:
        return None if self.controller is None else self.controller.get(namespace, name)

    def list(self) -> Iterable[Pod]:
        return () if self.controller is None else self.controller.list()

    def reference_changed(self, kind: str, namespace: str, name: str) -> None:
        if self.controller is not None:
            self.controller.reference_changed(kind, namespace, name)

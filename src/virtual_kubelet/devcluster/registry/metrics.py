"""What metrics-server would serve: computed when asked for, never stored."""

from __future__ import annotations

from typing import Final

from virtual_kubelet.devcluster.registry.resource import Resource

__all__ = ["METRICS"]


class _Metrics(Resource):
    group = "metrics.k8s.io"
    version = "v1beta1"
    singular = ""
    verbs = ("get", "list")


class NodeMetrics(_Metrics):
    kind = "NodeMetrics"
    plural = "nodes"
    namespaced = False


class PodMetrics(_Metrics):
    kind = "PodMetrics"
    plural = "pods"


METRICS: Final[tuple[Resource, ...]] = (NodeMetrics(), PodMetrics())

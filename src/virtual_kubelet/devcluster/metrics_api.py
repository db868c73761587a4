"""The metrics API (``metrics.k8s.io``), by which ``kubectl top`` works: scrapes the nodes when somebody asks.

A metrics-server of a real cluster scrapes each 15 s; here nothing is scraped for nobody, and who asks first waits for the
second sample that a rate takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from virtual_kubelet.devcluster.call import Call, json_response
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.node_proxy import NodeProxy
from virtual_kubelet.devcluster.selectors import parse_label_selector
from virtual_kubelet.devcluster.statuses import StatusError, not_found
from virtual_kubelet.devcluster.storage import StoredObject
from virtual_kubelet.devcluster.usage import NodeSample, Usage, parse_sample, usage_between
from virtual_kubelet.objects.times import format_time
from virtual_kubelet.server.connection import Response, ResponseBroken
from virtual_kubelet.telemetry.logs import get_logger

__all__ = ["MetricsApi"]

log = get_logger(__name__)


class MetricsApi:
    """Answers ``nodes`` and ``pods`` of ``metrics.k8s.io/v1beta1``.

    Args:
        fresh: seconds for which samples are good enough.
        stale: seconds for which the samples of a node that does not answer are shown, with their time.
        apart: least seconds between the two samples of a rate.
        most_bytes: a node's answer may be so long; a longer one counts as none.
        at_once: nodes scraped at the same time.
    """

    def __init__(
        self,
        state: ClusterState,
        proxy: NodeProxy,
        *,
        fresh: float = 10.0,
        stale: float = 60.0,
        apart: float = 1.0,
        most_bytes: int = 16 * 1024 * 1024,
        at_once: int = 16,
    ) -> None:
        self._state = state
        self._proxy = proxy
        self._fresh = fresh
        self._stale = stale
        self._apart = apart
        self._most_bytes = most_bytes
        self._limit = asyncio.Semaphore(at_once)
        self._samples: dict[str, list[tuple[float, NodeSample]]] = {}
        self._lock = asyncio.Lock()

    async def answer(self, call: Call) -> Response:
        """``get`` or ``list``. Raises 404."""
        info = call.info
        of_nodes = info.resource.plural == "nodes"
        kind = info.resource.kind
        if info.verb == "get":
            registry = self._state.nodes if of_nodes else self._state.pods
            stored = registry.objects.get(info.namespace, info.name)
            items = await self._items([stored], of_nodes) if stored is not None else []
            if not items:
                name = info.name if of_nodes else f"{info.namespace}/{info.name}"
                raise not_found(kind.lower(), name, info.resource.group)
            return json_response({"kind": kind, "apiVersion": info.resource.api_version, **items[0]})
        selector = parse_label_selector(call.request.query.get("labelSelector") or "")
        collection = (self._state.nodes if of_nodes else self._state.pods).objects
        chosen = [o for o in collection.values(info.namespace) if selector.matches(o.labels)]
        items = await self._items(chosen, of_nodes)
        return json_response(
            {"kind": f"{kind}List", "apiVersion": info.resource.api_version, "metadata": {}, "items": items}
        )

    async def _items(self, chosen: Iterable[StoredObject], of_nodes: bool) -> list[dict[str, Any]]:
        objects = [stored.decode() for stored in chosen]
        nodes = {obj["metadata"]["name"] if of_nodes else obj["spec"].get("nodeName", "") for obj in objects}
        await self._sample(nodes - {""})
        render = self._node if of_nodes else self._pod
        return [item for obj in objects if (item := render(obj)) is not None]

    def _node(self, obj: dict[str, Any]) -> dict[str, Any] | None:
        samples = self._samples.get(obj["metadata"]["name"])
        if not samples:
            return None
        usage = usage_between(samples[0][1].node if len(samples) > 1 else None, samples[-1][1].node)
        return None if usage is None else {"metadata": _metadata(obj), **_times(usage), "usage": _usage(usage)}

    def _pod(self, obj: dict[str, Any]) -> dict[str, Any] | None:
        samples = self._samples.get(obj["spec"].get("nodeName", ""))
        if not samples:
            return None
        earlier = samples[0][1].containers if len(samples) > 1 else {}
        name = (obj["metadata"]["namespace"], obj["metadata"]["name"])
        found = {
            key[2]: usage
            for key, point in samples[-1][1].containers.items()
            if key[:2] == name and (usage := usage_between(earlier.get(key), point)) is not None
        }
        if not found:
            return None
        containers = [{"name": container, "usage": _usage(usage)} for container, usage in sorted(found.items())]
        return {"metadata": _metadata(obj), **_times(next(iter(found.values()))), "containers": containers}

    async def _sample(self, nodes: Iterable[str]) -> None:
        """Two samples of each of these nodes, the newer one fresh; of a node that does not answer, what there is."""
        async with self._lock:  # several who ask share one scrape
            now = self._state.clock.monotonic()
            for gone in [n for n in self._samples if self._state.nodes.objects.get("", n) is None]:
                del self._samples[gone]
            old = [n for n in nodes if now - self._samples.get(n, [(float("-inf"), NodeSample())])[-1][0] > self._fresh]
            await self._scrape_all(old)
            single = [n for n in old if len(self._samples.get(n, ())) == 1]
            if single:
                await asyncio.sleep(self._apart)
                await self._scrape_all(single)

    async def _scrape_all(self, nodes: Iterable[str]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for node in nodes:
                tasks.create_task(self._scrape(node))

    async def _scrape(self, node: str) -> None:
        try:
            async with self._limit:
                text = await self._proxy.read(node, "/metrics/resource", most_bytes=self._most_bytes)
            # In a thread: the first one imports a parser, and a full node's text is long.
            sample = await asyncio.to_thread(parse_sample, text, datetime.now(UTC).timestamp())
        except (StatusError, ResponseBroken, ValueError) as error:
            log.debug("node %s gave no metrics: %s", node, error)
            samples = self._samples.get(node)
            if samples and self._state.clock.monotonic() - samples[-1][0] > self._stale:
                del self._samples[node]
            return
        moment = self._state.clock.monotonic()
        self._samples[node] = [*self._samples.get(node, [])[-1:], (moment, sample)]


def _metadata(obj: dict[str, Any]) -> dict[str, Any]:
    meta = obj["metadata"]
    names = ("name", "namespace", "labels", "creationTimestamp")
    return {name: meta[name] for name in names if name in meta}


def _times(usage: Usage) -> dict[str, str]:
    moment = format_time(datetime.fromtimestamp(usage.at, UTC))
    return {"timestamp": moment, "window": f"{usage.window:.3f}s"}


def _usage(usage: Usage) -> dict[str, str]:
    return {"cpu": f"{round(usage.cpu * 1e9)}n", "memory": f"{round(usage.memory / 1024)}Ki"}

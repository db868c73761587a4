"""The cluster's state and its controllers without the API server: for tests in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from virtual_kubelet.devcluster.bootstrap import bootstrap, create
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.generic_registry import GenericRegistry
from virtual_kubelet.devcluster.node_lifecycle import NodeLifecycleController
from virtual_kubelet.devcluster.pod_gc import PodGarbageCollector
from virtual_kubelet.devcluster.pod_index import PodIndex
from virtual_kubelet.devcluster.request_options import DeleteOptions
from virtual_kubelet.devcluster.scheduler import Scheduler
from virtual_kubelet.devcluster.taint_eviction import TaintEvictionController
from virtual_kubelet.objects.patches import apply_merge_patch
from virtual_kubelet.objects.times import format_micro_time

Json = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)


class LoopClock:
    """Wall time that follows the loop's (virtual) time."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class ControlPlane:
    """What an API server's clients would do, done to the registries; ``settle`` lets the controllers do their part."""

    def __init__(self) -> None:
        self.state = ClusterState(clock=LoopClock(), history=1000)
        self.pods = PodIndex(self.state.pods.objects)
        self.controllers: list[Controller[Any]] = [
            NodeLifecycleController(self.state, self.pods),
            TaintEvictionController(self.state, self.pods),
            PodGarbageCollector(self.state, self.pods),
            Scheduler(self.state),
        ]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ControlPlane]:
        bootstrap(self.state)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(controller.run()) for controller in self.controllers]
            yield self
            for task in tasks:
                task.cancel()

    async def settle(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    async def after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.settle()

    def now(self) -> str:
        return self.state.clock.now().isoformat(timespec="seconds").replace("+00:00", "Z")

    def node(
        self,
        name: str = "node",
        *,
        ready: bool = True,
        labels: Json | None = None,
        taints: list[Json] | None = None,
        unschedulable: bool = False,
        allocatable: Json | None = None,
    ) -> None:
        """A node whose kubelet has posted its status."""
        spec: Json = {"taints": taints or []}
        if unschedulable:
            spec["unschedulable"] = True
        create(self.state, self.state.nodes, {"metadata": {"name": name, "labels": labels or {}}, "spec": spec})
        self.change(
            self.state.nodes,
            name,
            {"status": {"allocatable": allocatable or {"cpu": "4", "memory": "8Gi", "pods": "110"}}},
        )
        if ready:
            self.heartbeat(name)

    def heartbeat(self, name: str = "node", status: str = "True") -> None:
        """The kubelet posts its status."""
        ready = {"type": "Ready", "status": status, "lastHeartbeatTime": self.now(), "lastTransitionTime": self.now()}
        self.change(self.state.nodes, name, {"status": {"conditions": [ready]}})

    def renew(self, name: str = "node") -> None:
        """The kubelet renews its Lease."""
        spec = {"holderIdentity": name, "renewTime": format_micro_time(self.state.clock.now())}
        stored = self.state.leases.objects.get("kube-node-lease", name)
        if stored is None:
            metadata = {"name": name, "namespace": "kube-node-lease"}
            create(self.state, self.state.leases, {"metadata": metadata, "spec": spec})
        else:
            self.state.leases.change(stored, lambda lease: lease.update(spec=spec))

    def pod(self, name: str = "pod", *, containers: list[Json] | None = None, **spec: Any) -> None:
        whole = {"containers": containers or [{"name": "main", "image": "x"}], **spec}
        create(self.state, self.state.pods, {"metadata": {"name": name, "namespace": "default"}, "spec": whole})

    def change(self, registry: GenericRegistry, name: str, patch: Json, namespace: str = "") -> None:
        def mutate(obj: Json) -> None:
            changed = apply_merge_patch(obj, patch)
            assert isinstance(changed, dict)
            if registry is self.state.pods and changed.get("spec") != obj.get("spec"):
                changed["metadata"]["generation"] += 1
            obj.clear()
            obj.update(changed)

        registry.change(registry.get(namespace, name), mutate)

    def delete_node(self, name: str = "node") -> None:
        self.state.nodes.delete(self.state.nodes.get("", name), DeleteOptions())

    def delete_pod(self, name: str = "pod", grace: int | None = 0) -> None:
        self.state.pods.delete(self.state.pods.get("default", name), DeleteOptions(grace=grace))

    def get_node(self, name: str = "node") -> Json:
        return self.state.nodes.get("", name).decode()

    def get_pod(self, name: str = "pod") -> Json | None:
        """None: it is gone."""
        stored = self.state.pods.objects.get("default", name)
        return None if stored is None else stored.decode()

    def placed(self, name: str = "pod") -> str:
        """The node of a pod; empty: it waits."""
        pod = self.get_pod(name)
        assert pod is not None
        return str(pod["spec"].get("nodeName", ""))

    def scheduled(self, name: str = "pod") -> Json:
        """The condition PodScheduled."""
        return self.condition(name, "PodScheduled")

    def condition(self, name: str, kind: str) -> Json:
        pod = self.get_pod(name)
        assert pod is not None
        found: Json = next((c for c in pod["status"].get("conditions") or () if c["type"] == kind), {})
        return found

    def events(self, reason: str) -> list[Json]:
        return [e for e in (s.decode() for s in self.state.events.objects.values()) if e["reason"] == reason]

    def taints(self, name: str = "node") -> set[tuple[str, str]]:
        """Keys and effects, without ``node.kubernetes.io/``."""
        taints = self.get_node(name)["spec"].get("taints") or ()
        return {(t["key"].removeprefix("node.kubernetes.io/"), t["effect"]) for t in taints}

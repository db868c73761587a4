"""The two controllers on their own, as in the Go framework: no HTTPS API, no command line, wired by hand.

python examples/controllers.py NODENAME [KUBECONFIG]
"""

import asyncio
import sys
from collections.abc import Sequence

from virtual_kubelet import (
    ApiClient,
    NaiveNodeProvider,
    NodeController,
    NotFoundError,
    PodController,
    PodControllerConfig,
    PodKey,
    PodStatusCallback,
    find_config,
)
from virtual_kubelet.objects.core_v1 import Node, NodeStatus, Pod, PodStatus
from virtual_kubelet.objects.meta_v1 import ObjectMeta


class Instant:
    """Pods succeed as soon as they are created. It tells so by itself (``notify_pods``) and is not polled."""

    def __init__(self) -> None:
        self.pods: dict[PodKey, Pod] = {}

    def notify_pods(self, callback: PodStatusCallback) -> None:
        self.report = callback

    async def create_pod(self, pod: Pod) -> None:
        self.pods[PodKey.of(pod)] = pod
        self.report(PodKey.of(pod), PodStatus(phase="Succeeded"))

    async def update_pod(self, pod: Pod) -> None:
        self.pods[PodKey.of(pod)] = pod

    async def delete_pod(self, pod: Pod) -> None:
        if self.pods.pop(PodKey.of(pod), None) is None:
            raise NotFoundError(f"there is no pod {PodKey.of(pod)}")

    async def get_pod(self, key: PodKey) -> Pod | None:
        return self.pods.get(key)

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        return PodStatus(phase="Succeeded") if key in self.pods else None

    async def get_pods(self) -> Sequence[Pod]:
        return list(self.pods.values())


async def main(node_name: str, kubeconfig: str | None = None) -> None:
    node = Node(
        metadata=ObjectMeta(name=node_name, labels={"type": "virtual-kubelet"}),
        status=NodeStatus(capacity={"cpu": "1", "memory": "1Gi", "pods": "10"}),
    )
    async with ApiClient(find_config(kubeconfig)) as client, asyncio.TaskGroup() as tasks:
        pods = PodController(PodControllerConfig(client=client, node_name=node_name, provider=Instant()))
        tasks.create_task(pods.run())
        await pods.wait_ready()
        nodes = NodeController(NaiveNodeProvider(), node, client)
        tasks.create_task(nodes.run())
        await nodes.wait_reported_ready()
        print(f"node {node_name} is Ready", flush=True)
        # Until cancelled; an error of either controller ends the group with that error.


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

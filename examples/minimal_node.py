"""A whole virtual node. Its pods run on paper: what is written down counts as running.

python examples/minimal_node.py [KUBECONFIG]
"""

import asyncio
import sys
from collections.abc import Sequence

from virtual_kubelet import Kubelet, KubeletConfig, PodKey, ProviderContext, find_config
from virtual_kubelet.objects.core_v1 import Node, Pod, PodStatus


class PaperProvider:
    def __init__(self, context: ProviderContext) -> None:
        self.pods: dict[PodKey, Pod] = {}

    def configure_node(self, node: Node) -> None:
        node.status.capacity = {"cpu": "100", "memory": "1Ti", "pods": "1000"}

    async def create_pod(self, pod: Pod) -> None:
        self.pods[PodKey.of(pod)] = pod

    async def update_pod(self, pod: Pod) -> None:
        self.pods[PodKey.of(pod)] = pod

    async def delete_pod(self, pod: Pod) -> None:
        self.pods.pop(PodKey.of(pod), None)

    async def get_pod(self, key: PodKey) -> Pod | None:
        return self.pods.get(key)

    async def get_pod_status(self, key: PodKey) -> PodStatus | None:
        return PodStatus(phase="Running") if key in self.pods else None

    async def get_pods(self) -> Sequence[Pod]:
        return list(self.pods.values())


async def main(kubeconfig: str | None = None) -> None:
    cluster = find_config(kubeconfig)
    config = KubeletConfig(node_name="paper", provider=PaperProvider, client_config=cluster, listen_port=0)
    await Kubelet(config).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

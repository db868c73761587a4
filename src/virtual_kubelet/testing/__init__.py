"""For the tests of a provider's author: pods, a node on a dev cluster, faults, a clock, and the conformance kit.

    async with running_node(MyProvider) as node:
        pod = await node.user.create(a_pod("web", command=["sleep", "1000"]))
        await node.user.running(pod)

The names below are public; they are imported when first used. The checks are in ``virtual_kubelet.testing.conformance``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from virtual_kubelet.devcluster import DevCluster as DevCluster
    from virtual_kubelet.devcluster.faults import Fault as Fault
    from virtual_kubelet.devcluster.faults import FaultKind as FaultKind
    from virtual_kubelet.devcluster.faults import Faults as Faults
    from virtual_kubelet.testing.cluster_user import ClusterUser as ClusterUser
    from virtual_kubelet.testing.cluster_user import NotSeenError as NotSeenError
    from virtual_kubelet.testing.dev_node import RunningNode as RunningNode
    from virtual_kubelet.testing.dev_node import running_node as running_node
    from virtual_kubelet.testing.fake_clock import FakeClock as FakeClock
    from virtual_kubelet.testing.pods import PodBuilder as PodBuilder
    from virtual_kubelet.testing.pods import a_pod as a_pod
    from virtual_kubelet.testing.provider_faults import ProviderFault as ProviderFault
    from virtual_kubelet.testing.provider_faults import ProviderFaults as ProviderFaults

#: Public name -> the module it lives in.
_PUBLIC = {
    "ClusterUser": "testing.cluster_user",
    "DevCluster": "devcluster",
    "FakeClock": "testing.fake_clock",
    "Fault": "devcluster.faults",
    "FaultKind": "devcluster.faults",
    "Faults": "devcluster.faults",
    "NotSeenError": "testing.cluster_user",
    "PodBuilder": "testing.pods",
    "ProviderFault": "testing.provider_faults",
    "ProviderFaults": "testing.provider_faults",
    "RunningNode": "testing.dev_node",
    "a_pod": "testing.pods",
    "running_node": "testing.dev_node",
}

__all__ = [*_PUBLIC]


def __getattr__(name: str) -> Any:
    module = _PUBLIC.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"virtual_kubelet.{module}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

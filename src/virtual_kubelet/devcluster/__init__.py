"""The embedded dev cluster: a Kubernetes API in one process, for first steps and for tests.

    async with DevCluster() as cluster:
        Path("kubeconfig").write_text(cluster.kubeconfig())

It serves nodes, pods and what these refer to, as a real API server does; what it does not serve is 404. Its only
controllers are those a node needs: pods are bound to nodes, namespaces cascade, service accounts appear.
"""

from virtual_kubelet.devcluster.cluster import DevCluster
from virtual_kubelet.devcluster.faults import Fault, FaultKind, Faults, InjectedFault

__all__ = ["DevCluster", "Fault", "FaultKind", "Faults", "InjectedFault"]

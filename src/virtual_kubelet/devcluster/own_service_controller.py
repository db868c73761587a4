"""The API server's own Service, which comes back when it is deleted (``pkg/controlplane/controller/kubernetesservice``)."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.bootstrap import create
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.storage import Change, Key

__all__ = ["OWN_SERVICE", "OwnServiceController"]

OWN_SERVICE: Final = ("default", "kubernetes")
_LABELS: Final = {"component": "apiserver", "provider": "kubernetes"}


class OwnServiceController(Controller[Key]):
    """Its only key is the Service's."""

    def __init__(self, state: ClusterState, port: int) -> None:
        """``port``: the API server's."""
        super().__init__()
        self._state = state
        self._ports = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]
        state.services.objects.listen(self._on_service)
        self.enqueue(OWN_SERVICE)

    def _on_service(self, change: Change) -> None:
        if change.after is None and change.last.key == OWN_SERVICE:
            self.enqueue(OWN_SERVICE)

    def reconcile(self, key: Key) -> None:
        services, ports = self._state.services, self._ports
        stored = services.objects.get(*key)
        if stored is not None:
            services.change(stored, lambda service: service["spec"].update(ports=ports))
            return
        metadata: dict[str, Any] = {"name": key[1], "namespace": key[0], "labels": dict(_LABELS)}
        spec = {"clusterIP": self._state.addresses.first, "ports": ports}
        create(self._state, services, {"metadata": metadata, "spec": spec})

"""Each namespace has its service account ``default`` and the ConfigMap with the cluster's CA."""

from __future__ import annotations

from typing import Final

from virtual_kubelet.devcluster.bootstrap import create
from virtual_kubelet.devcluster.cluster_state import ClusterState
from virtual_kubelet.devcluster.controller import Controller
from virtual_kubelet.devcluster.storage import Change

__all__ = ["ROOT_CA", "ServiceAccountController"]

ROOT_CA: Final = "kube-root-ca.crt"
_DEFAULT: Final = "default"


class ServiceAccountController(Controller[str]):
    """Keys are namespaces."""

    def __init__(self, state: ClusterState, ca_certificate: str) -> None:
        super().__init__()
        self._state = state
        self._ca_certificate = ca_certificate
        state.namespaces.objects.listen(lambda change: self.enqueue(change.last.key[1]))
        state.service_accounts.objects.listen(self._on_object)
        state.config_maps.objects.listen(self._on_object)

    def _on_object(self, change: Change) -> None:
        namespace, name = change.last.key
        if name in (_DEFAULT, ROOT_CA):
            self.enqueue(namespace)

    def reconcile(self, key: str) -> None:
        namespace = self._state.namespaces.objects.get("", key)
        if namespace is None or namespace.fields["status.phase"] != "Active":
            return
        if self._state.service_accounts.objects.get(key, _DEFAULT) is None:
            create(self._state, self._state.service_accounts, {"metadata": {"name": _DEFAULT, "namespace": key}})
        data = {"ca.crt": self._ca_certificate}
        stored = self._state.config_maps.objects.get(key, ROOT_CA)
        if stored is None:
            metadata = {
                "name": ROOT_CA,
                "namespace": key,
                "annotations": {
                    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver "
                    "when using internal endpoints such as the internal service IP or kubernetes.default.svc."
                },
            }
            create(self._state, self._state.config_maps, {"metadata": metadata, "data": data})
        else:
            self._state.config_maps.change(stored, lambda obj: obj.update(data=data))

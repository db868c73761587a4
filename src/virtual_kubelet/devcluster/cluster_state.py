"""All that one dev cluster holds: the store, what is served from it, the schemas. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from virtual_kubelet.clock import Clock
from virtual_kubelet.devcluster.generic_registry import GenericRegistry
from virtual_kubelet.devcluster.registry.certificate_signing_requests import CertificateSigningRequests
from virtual_kubelet.devcluster.registry.config_maps import ConfigMaps
from virtual_kubelet.devcluster.registry.described import DESCRIBED
from virtual_kubelet.devcluster.registry.events import Events
from virtual_kubelet.devcluster.registry.leases import Leases
from virtual_kubelet.devcluster.registry.metrics import METRICS
from virtual_kubelet.devcluster.registry.namespaces import Namespaces
from virtual_kubelet.devcluster.registry.nodes import Nodes
from virtual_kubelet.devcluster.registry.pods import Pods
from virtual_kubelet.devcluster.registry.resource import Resource
from virtual_kubelet.devcluster.registry.reviews import REVIEWS
from virtual_kubelet.devcluster.registry.secrets import Secrets
from virtual_kubelet.devcluster.registry.service_account_admission import ServiceAccountAdmission
from virtual_kubelet.devcluster.registry.service_accounts import ServiceAccounts
from virtual_kubelet.devcluster.registry.services import ClusterIPs, Services
from virtual_kubelet.devcluster.schema import load_openapi, published_schemas
from virtual_kubelet.devcluster.storage import Store

__all__ = ["SERVICE_NETWORK", "ClusterState"]

SERVICE_NETWORK: Final = "10.96.0.0/16"


class ClusterState:
    """Registries by resource, one for each kind that is stored; ``resources`` also has what is only answered."""

    def __init__(
        self,
        *,
        clock: Clock,
        history: int,
        service_network: str = SERVICE_NETWORK,
        service_account_admission: bool = False,
    ) -> None:
        """
        Args:
            history: changes that each collection remembers for watches.
            service_account_admission: whether new pods get a service account and its token.
        """
        self.clock = clock
        self.store = Store(history=history)
        self.openapi: Mapping[str, Any] = load_openapi()
        self.schemas = published_schemas()
        self.addresses = ClusterIPs(service_network)
        self._registries: dict[tuple[str, str], GenericRegistry] = {}
        self.config_maps = self._serve(ConfigMaps())
        self.events = self._serve(Events())
        self.namespaces = self._serve(Namespaces())
        self.nodes = self._serve(Nodes())
        self.pods = self._serve(
            Pods(ServiceAccountAdmission(self._service_account) if service_account_admission else None)
        )
        self.secrets = self._serve(Secrets())
        self.service_accounts = self._serve(ServiceAccounts())
        self.services = self._serve(Services(self.addresses))
        self.leases = self._serve(Leases())
        self.certificate_requests = self._serve(CertificateSigningRequests(clock.now))
        self.resources: dict[tuple[str, str], Resource] = {
            **{key: registry.resource for key, registry in self._registries.items()},
            **{answered.key: answered for answered in (*REVIEWS, *METRICS, *DESCRIBED)},
        }

    def _service_account(self, namespace: str, name: str) -> dict[str, Any] | None:
        stored = self.service_accounts.objects.get(namespace, name)
        return None if stored is None else stored.decode()

    def _serve(self, resource: Resource) -> GenericRegistry:
        registry = GenericRegistry(resource, self.store.collection(resource.fields), self.clock)
        self._registries[resource.key] = registry
        return registry

    def registry(self, resource: Resource) -> GenericRegistry:
        return self._registries[resource.key]

    @property
    def registries(self) -> list[GenericRegistry]:
        return list(self._registries.values())

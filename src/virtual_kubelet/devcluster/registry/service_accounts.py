"""Service accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from virtual_kubelet.devcluster.registry.resource import NAME_COLUMN, Resource, Subresource, age, column

__all__ = ["ServiceAccounts"]


class ServiceAccounts(Resource):
    kind = "ServiceAccount"
    plural = "serviceaccounts"
    singular = "serviceaccount"
    short_names = ("sa",)
    storage_version_hash = "pbx9ZvyFpBE="
    subresources = (Subresource("token", "TokenRequest", ("create",), "authentication.k8s.io", "v1"),)
    columns = (NAME_COLUMN, column("Secrets"), column("Age"))
    returns_deleted = True

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        return [obj["metadata"]["name"], len(obj.get("secrets") or []), age(obj, now)]

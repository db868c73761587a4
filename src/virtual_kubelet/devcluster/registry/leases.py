"""Leases."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from virtual_kubelet.devcluster.registry.resource import NAME_COLUMN, Resource, age, column
from virtual_kubelet.devcluster.statuses import FieldError, field_invalid

__all__ = ["Leases"]


class Leases(Resource):
    group = "coordination.k8s.io"
    kind = "Lease"
    plural = "leases"
    singular = "lease"
    storage_version_hash = "gqkMMb/YqFM="
    columns = (NAME_COLUMN, column("Holder"), column("Age"))
    unconditional_update = False
    create_on_update = True
    checks_finalizer_names = False

    def validate_create(self, obj: dict[str, Any]) -> list[FieldError]:
        errors: list[FieldError] = []
        spec = obj["spec"]
        seconds = spec.get("leaseDurationSeconds")
        if seconds is not None and seconds <= 0:
            errors.append(field_invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
        transitions = spec.get("leaseTransitions")
        if transitions is not None and transitions < 0:
            errors.append(field_invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0"))
        return errors

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        return [obj["metadata"]["name"], obj["spec"].get("holderIdentity", ""), age(obj, now)]

"""Namespaces."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from virtual_kubelet.devcluster.names import dns_label_problems
from virtual_kubelet.devcluster.object_meta import validate_finalizers
from virtual_kubelet.devcluster.registry.resource import NAME_COLUMN, Resource, Subresource, age, column
from virtual_kubelet.devcluster.statuses import FieldError, field_invalid

__all__ = ["IMMORTAL_NAMESPACES", "Namespaces"]

IMMORTAL_NAMESPACES = frozenset({"default", "kube-public", "kube-system"})
NAME_LABEL = "kubernetes.io/metadata.name"


class Namespaces(Resource):
    kind = "Namespace"
    plural = "namespaces"
    singular = "namespace"
    namespaced = False
    short_names = ("ns",)
    verbs = ("create", "delete", "get", "list", "patch", "update", "watch")
    storage_version_hash = "Q3oi5N2YM8M="
    subresources = (
        Subresource("finalize", "Namespace", ("update",)),
        Subresource("status", "Namespace", ("get", "patch", "update")),
    )
    columns = (NAME_COLUMN, column("Status"), column("Age"))
    selectable = frozenset({"status.phase"})
    returns_deleted = True
    validates_new_metadata = False

    def name_problems(self, name: str) -> list[str]:
        return dns_label_problems(name)

    def fields(self, obj: dict[str, Any]) -> Mapping[str, str]:
        return {"status.phase": obj["status"].get("phase", "")}

    def default(self, obj: dict[str, Any]) -> None:
        obj.setdefault("status", {}).setdefault("phase", "Active")
        self.default_status(obj)

    def default_status(self, obj: dict[str, Any]) -> None:
        metadata = obj["metadata"]
        name = metadata.get("name")
        if name:
            metadata["labels"] = {**(metadata.get("labels") or {}), NAME_LABEL: name}

    def prepare_create(self, obj: dict[str, Any]) -> None:
        obj["status"] = {"phase": "Active"}
        finalizers = obj["spec"].setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")

    def prepare_update(self, new: dict[str, Any], old: dict[str, Any]) -> None:
        new["spec"] = old["spec"]
        new["status"] = old["status"]

    def validate_create(self, obj: dict[str, Any]) -> list[FieldError]:
        return validate_finalizers(obj["spec"].get("finalizers") or [], "spec.finalizers")

    def validate_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        return []

    def validate_status_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        deleting = "deletionTimestamp" in old["metadata"]
        wanted, phase = "Terminating" if deleting else "Active", new["status"].get("phase", "")
        if phase == wanted:
            return []
        detail = f"may only be '{wanted}' if `deletionTimestamp` is {'not empty' if deleting else 'empty'}"
        return [field_invalid("status.Phase", phase, detail)]

    def held(self, obj: dict[str, Any]) -> bool:
        return bool(obj["metadata"].get("finalizers") or obj["spec"].get("finalizers"))

    def begin_deletion(self, obj: dict[str, Any]) -> None:
        obj["metadata"].pop("deletionGracePeriodSeconds", None)
        obj["status"]["phase"] = "Terminating"

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        return [obj["metadata"]["name"], obj["status"].get("phase", ""), age(obj, now)]

"""ConfigMaps."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from virtual_kubelet.devcluster.names import config_map_key_problems
from virtual_kubelet.devcluster.registry.resource import NAME_COLUMN, Resource, age, column
from virtual_kubelet.devcluster.statuses import FieldError, field_forbidden, field_invalid, too_long

__all__ = ["ConfigMaps"]

#: Of all values together.
MAX_BYTES: Final = 1024 * 1024


class ConfigMaps(Resource):
    kind = "ConfigMap"
    plural = "configmaps"
    singular = "configmap"
    short_names = ("cm",)
    storage_version_hash = "qFsyl6wFWjQ="
    columns = (NAME_COLUMN, column("Data"), column("Age"))

    def validate_create(self, obj: dict[str, Any]) -> list[FieldError]:
        errors: list[FieldError] = []
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        size = 0
        for field, values in (("data", data), ("binaryData", binary)):
            for key, value in values.items():
                errors += [field_invalid(f"{field}[{key}]", key, problem) for problem in config_map_key_problems(key)]
                size += len(value.encode()) if field == "data" else len(value) * 3 // 4
        for key in data.keys() & binary.keys():
            errors.append(field_invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
        if size > MAX_BYTES:
            errors.append(too_long("", MAX_BYTES))
        return errors

    def validate_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        return validate_immutable(new, old, ("data", "binaryData")) + self.validate_create(new)

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        count = len(obj.get("data") or {}) + len(obj.get("binaryData") or {})
        return [obj["metadata"]["name"], count, age(obj, now)]


def validate_immutable(new: dict[str, Any], old: dict[str, Any], fields: tuple[str, ...]) -> list[FieldError]:
    """What ``immutable: true`` forbids, itself included."""
    if not old.get("immutable"):
        return []
    errors: list[FieldError] = []
    detail = "field is immutable when `immutable` is set"
    if not new.get("immutable"):
        errors.append(field_forbidden("immutable", detail))
    errors += [field_forbidden(f, detail) for f in fields if (new.get(f) or {}) != (old.get(f) or {})]
    return errors

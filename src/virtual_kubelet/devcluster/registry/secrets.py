"""Secrets."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from virtual_kubelet.devcluster.names import config_map_key_problems
from virtual_kubelet.devcluster.registry.config_maps import MAX_BYTES, validate_immutable
from virtual_kubelet.devcluster.registry.resource import NAME_COLUMN, Resource, age, column
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    bad_request,
    field_invalid,
    required,
    too_long,
)

__all__ = ["Secrets"]

#: Keys that a Secret of this type must have.
_REQUIRED_KEYS: Final = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


class Secrets(Resource):
    kind = "Secret"
    plural = "secrets"
    singular = "secret"
    storage_version_hash = "S6u1pOWzb84="
    columns = (NAME_COLUMN, column("Type"), column("Data"), column("Age"))
    selectable = frozenset({"type"})

    def fields(self, obj: dict[str, Any]) -> Mapping[str, str]:
        return {"type": obj.get("type", "")}

    def default(self, obj: dict[str, Any]) -> None:
        for key, value in (obj.get("data") or {}).items():
            try:
                base64.b64decode(value, validate=True)
            except (binascii.Error, ValueError):
                # Go's decoder fails before validation; which byte is wrong is nobody's business.
                raise bad_request(
                    f'Secret in version "v1" cannot be handled as a Secret: illegal base64 data in data[{key}]'
                ) from None
        plain = obj.pop("stringData", None)
        if plain:
            data = obj.setdefault("data", {})
            for key, value in plain.items():
                data[key] = base64.b64encode(value.encode()).decode()
        obj.setdefault("type", "Opaque")

    def validate_create(self, obj: dict[str, Any]) -> list[FieldError]:
        errors: list[FieldError] = []
        data = obj.get("data") or {}
        for key in data:
            errors += [field_invalid(f"data[{key}]", key, problem) for problem in config_map_key_problems(key)]
        if sum(len(value) for value in data.values()) * 3 // 4 > MAX_BYTES:
            errors.append(too_long("data", MAX_BYTES))
        for key in _REQUIRED_KEYS.get(obj["type"], ()):
            if key not in data:
                errors.append(required(f"data[{key}]"))
        return errors

    def validate_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        errors: list[FieldError] = []
        if new["type"] != old["type"]:
            errors.append(field_invalid("type", new["type"], "field is immutable"))
        return errors + validate_immutable(new, old, ("data",)) + self.validate_create(new)

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        return [obj["metadata"]["name"], obj["type"], str(len(obj.get("data") or {})), age(obj, now)]

"""Secrets."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from virtual_kubelet.devcluster.go_json import NotJson, decode_go_json
from virtual_kubelet.devcluster.names import config_map_key_problems
from virtual_kubelet.devcluster.registry.config_maps import MAX_BYTES, validate_immutable
from virtual_kubelet.devcluster.registry.resource import NAME_COLUMN, Resource, age, column
from virtual_kubelet.devcluster.schema_values import json_type
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    field_invalid,
    required,
    too_long,
)

__all__ = ["Secrets"]

#: Keys of Secrets that hold JSON, by type.
_JSON_KEYS: Final = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}
_REDACTED: Final = "<secret contents redacted>"
_ACCOUNT: Final = "kubernetes.io/service-account.name"


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
        return errors + _validate_type(obj["type"], data, obj["metadata"].get("annotations") or {})

    def validate_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        errors: list[FieldError] = []
        if new["type"] != old["type"]:
            errors.append(field_invalid("type", new["type"], "field is immutable"))
        return errors + validate_immutable(new, old, ("data",)) + self.validate_create(new)

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        return [obj["metadata"]["name"], obj["type"], len(obj.get("data") or {}), age(obj, now)]


def _validate_type(kind: str, data: Mapping[str, str], annotations: Mapping[str, str]) -> list[FieldError]:
    """What a Secret of this type must have."""
    match kind:
        case "kubernetes.io/service-account-token":
            return [] if annotations.get(_ACCOUNT) else [required(f"metadata.annotations[{_ACCOUNT}]")]
        case "kubernetes.io/tls":
            return [required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data]
        case "kubernetes.io/ssh-auth":
            return [] if data.get("ssh-privatekey") else [required("data[ssh-privatekey]")]
        case "kubernetes.io/basic-auth":
            keys = ("username", "password")
            return [] if any(key in data for key in keys) else [required(f"data[{key}]") for key in keys]
    key = _JSON_KEYS.get(kind)
    if key is None:
        return []
    if key not in data:
        return [required(f"data[{key}]")]
    content = base64.b64decode(data[key])
    try:
        value = decode_go_json(content)
    except NotJson as problem:
        return [field_invalid(f"data[{key}]", _REDACTED, str(problem))]
    if value is not None and not isinstance(value, dict):
        detail = f"json: cannot unmarshal {json_type(value)} into Go value of type map[string]interface {{}}"
        return [field_invalid(f"data[{key}]", _REDACTED, detail)]
    return []

"""Nodes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from virtual_kubelet.devcluster.names import label_value_problems, qualified_name_problems
from virtual_kubelet.devcluster.registry.resource import NAME_COLUMN, Resource, Subresource, age, column
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    duplicate,
    field_forbidden,
    field_invalid,
    required,
    unsupported_value,
)

__all__ = ["NOT_READY_TAINT", "Nodes"]

NOT_READY_TAINT: Final = "node.kubernetes.io/not-ready"
_ROLE: Final = "node-role.kubernetes.io/"
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")


class Nodes(Resource):
    kind = "Node"
    plural = "nodes"
    singular = "node"
    namespaced = False
    short_names = ("no",)
    storage_version_hash = "XwShjMxG9Fs="
    subresources = (
        Subresource("proxy", "NodeProxyOptions", ("create", "delete", "get", "patch", "update")),
        Subresource("status", "Node", ("get", "patch", "update")),
    )
    columns = (
        NAME_COLUMN,
        column("Status"),
        column("Roles"),
        column("Age"),
        column("Version"),
        column("Internal-IP", wide=True),
        column("External-IP", wide=True),
        column("OS-Image", wide=True),
        column("Kernel-Version", wide=True),
        column("Container-Runtime", wide=True),
    )
    selectable = frozenset({"spec.unschedulable"})

    def fields(self, obj: dict[str, Any]) -> Mapping[str, str]:
        return {"spec.unschedulable": "true" if obj["spec"].get("unschedulable") else "false"}

    def prepare_create(self, obj: dict[str, Any]) -> None:
        """A new node is not ready until its controller has seen its Ready condition (TaintNodesByCondition)."""
        taints = obj["spec"].setdefault("taints", [])
        if not any(t.get("key") == NOT_READY_TAINT and t.get("effect") == "NoSchedule" for t in taints):
            taints.append({"key": NOT_READY_TAINT, "effect": "NoSchedule"})

    def validate_create(self, obj: dict[str, Any]) -> list[FieldError]:
        errors: list[FieldError] = []
        seen: set[tuple[str, str]] = set()
        for index, taint in enumerate(obj["spec"].get("taints") or []):
            where = f"spec.taints[{index}]"
            key, effect, value = taint.get("key", ""), taint.get("effect", ""), taint.get("value", "")
            errors += [field_invalid(f"{where}.key", key, problem) for problem in qualified_name_problems(key)]
            errors += [field_invalid(f"{where}.value", value, problem) for problem in label_value_problems(value)]
            if not effect:
                errors.append(required(f"{where}.effect"))
            elif effect not in _EFFECTS:
                errors.append(unsupported_value(f"{where}.effect", effect, _EFFECTS))
            if (key, effect) in seen:
                errors.append(duplicate(where, taint))
            seen.add((key, effect))
        return errors

    def validate_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        errors = self.validate_create(new)
        for field in ("podCIDR", "providerID"):
            before = old["spec"].get(field)
            if before and new["spec"].get(field) != before:
                errors.append(
                    field_forbidden(
                        f"spec.{field}", "node updates may not change " + field + ' except from "" to valid'
                    )
                )
        return errors

    def validate_status_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        errors: list[FieldError] = []
        for field in ("capacity", "allocatable"):
            for name in new["status"].get(field) or {}:
                where = f"status.{field}[{name}]"
                errors += [field_invalid(where, name, problem) for problem in qualified_name_problems(name)]
        seen: set[tuple[str, str]] = set()
        for index, address in enumerate(new["status"].get("addresses") or []):
            pair = (address.get("type", ""), address.get("address", ""))
            if pair in seen:
                errors.append(duplicate(f"status.addresses[{index}]", address))
            seen.add(pair)
        return errors

    def cells(self, obj: dict[str, Any], now: datetime) -> list[Any]:
        status = obj["status"]
        info = status["nodeInfo"]
        ready = next((c for c in status.get("conditions") or [] if c.get("type") == "Ready"), None)
        state = "Unknown" if ready is None else "Ready" if ready.get("status") == "True" else "NotReady"
        if obj["spec"].get("unschedulable"):
            state += ",SchedulingDisabled"
        addresses = status.get("addresses") or []
        kernel = info.get("kernelVersion") or "<unknown>"
        if info.get("architecture"):
            kernel += f" ({info['architecture']})"
        return [
            obj["metadata"]["name"],
            state,
            _roles(obj["metadata"].get("labels") or {}),
            age(obj, now),
            info.get("kubeletVersion", ""),
            _address(addresses, "InternalIP"),
            _address(addresses, "ExternalIP"),
            info.get("osImage") or "<unknown>",
            kernel,
            info.get("containerRuntimeVersion") or "<unknown>",
        ]


def _roles(labels: Mapping[str, str]) -> str:
    roles = {k.removeprefix(_ROLE) for k in labels if k.startswith(_ROLE)} | (
        {labels["kubernetes.io/role"]} if labels.get("kubernetes.io/role") else set()
    )
    return ",".join(sorted(role for role in roles if role)) or "<none>"


def _address(addresses: list[dict[str, Any]], kind: str) -> str:
    return next((a["address"] for a in addresses if a.get("type") == kind), "<none>")

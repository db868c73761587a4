"""Nodes."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from virtual_kubelet.devcluster.names import label_value_problems, qualified_name_problems
from virtual_kubelet.devcluster.registry.resource import NAME_COLUMN, Resource, Subresource, age, column
from virtual_kubelet.devcluster.registry.resource_validation import is_extended_resource, is_integer
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
_NETWORK: Final = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
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

    @property
    def storage_prefix(self) -> str:
        return "minions"

    def fields(self, obj: dict[str, Any]) -> Mapping[str, str]:
        return {"spec.unschedulable": "true" if obj["spec"].get("unschedulable") else "false"}

    def prepare_create(self, obj: dict[str, Any]) -> None:
        """Its status is its creator's to say."""

    def admit(self, obj: dict[str, Any]) -> None:
        """A new node is not ready until its controller has seen its Ready condition (TaintNodesByCondition)."""
        taints = obj["spec"].setdefault("taints", [])
        if not any(t.get("key") == NOT_READY_TAINT and t.get("effect") == "NoSchedule" for t in taints):
            taints.append({"key": NOT_READY_TAINT, "effect": "NoSchedule"})

    def default(self, obj: dict[str, Any]) -> None:
        """What is not said to be reserved is allocatable; of two fields for one thing, the older one counts."""
        spec = obj["spec"]
        if spec.get("podCIDR") and spec["podCIDR"] not in (spec.get("podCIDRs") or ())[:1]:
            spec["podCIDRs"] = [spec["podCIDR"]]
        elif spec.get("podCIDRs"):
            spec["podCIDR"] = spec["podCIDRs"][0]
        self.default_status(obj)

    def default_status(self, obj: dict[str, Any]) -> None:
        status = obj.get("status") or {}
        if "capacity" in status and "allocatable" not in status:
            status["allocatable"] = dict(status["capacity"])

    def validate_create(self, obj: dict[str, Any]) -> list[FieldError]:
        return _taints(obj["spec"].get("taints") or []) + _quantities(obj["status"]) + _networks(obj["spec"])

    def validate_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        errors = (
            self.validate_create(new) + _quantities(new["status"]) + _addresses(new["status"].get("addresses") or [])
        )
        before, after = old["spec"].get("podCIDRs") or [], new["spec"].get("podCIDRs") or []
        if before and before != after:
            detail = 'node updates may not change podCIDR except from "" to valid'
            count = 1 if len(before) != len(after) else sum(a != b for a, b in zip(before, after, strict=True))
            errors += [field_forbidden("spec.podCIDRs", detail)] * count
        provider = old["spec"].get("providerID")
        if provider and new["spec"].get("providerID") != provider:
            detail = 'node updates may not change providerID except from "" to valid'
            errors.append(field_forbidden("spec.providerID", detail))
        return errors + _taints(new["spec"].get("taints") or [])

    def validate_status_update(self, new: dict[str, Any], old: dict[str, Any]) -> list[FieldError]:
        return _quantities(new["status"]) + _addresses(new["status"].get("addresses") or [])

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


def _taints(taints: list[dict[str, Any]]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        where = f"metadata.taints[{index}]"  # the API server's own slip
        key, effect, value = taint.get("key", ""), taint.get("effect", ""), taint.get("value", "")
        errors += [field_invalid(f"{where}.key", key, problem) for problem in qualified_name_problems(key)]
        problems = label_value_problems(value)
        if problems:
            errors.append(field_invalid(f"{where}.value", value, ";".join(problems)))
        if not effect:
            errors.append(required(f"{where}.effect"))
        elif effect not in _EFFECTS:
            errors.append(unsupported_value(f"{where}.effect", effect, _EFFECTS))
        if (key, effect) in seen:
            shown = {"Key": key, "Value": value, "Effect": effect, "TimeAdded": taint.get("timeAdded")}
            error = duplicate(where, shown)
            errors.append(error._replace(message=f"{error.message}: taints must be unique by key and effect pair"))
        seen.add((key, effect))
    return errors


def _quantities(status: dict[str, Any]) -> list[FieldError]:
    errors: list[FieldError] = []
    for field in ("capacity", "allocatable"):
        for name, text in (status.get(field) or {}).items():
            where = f"status.{field}.{name}"
            if text.startswith("-"):
                errors.append(field_invalid(where, text, "must be greater than or equal to 0"))
            if (name == "pods" or is_extended_resource(name)) and not is_integer(text):
                errors.append(field_invalid(where, text, "must be an integer"))
    return errors


def _networks(spec: dict[str, Any]) -> list[FieldError]:
    networks, where = spec.get("podCIDRs") or [], "spec.podCIDRs"
    versions: list[int] = []
    errors: list[FieldError] = []
    for index, text in enumerate(networks):
        try:
            versions.append(ipaddress.ip_network(text if "/" in text else "", strict=False).version)
        except ValueError:
            errors.append(field_invalid(f"{where}[{index}]", text, _NETWORK))
    if not errors and len(versions) > len(set(versions)):
        errors.append(field_invalid(where, networks, "may specify no more than one CIDR for each IP family"))
    return errors


def _addresses(addresses: list[dict[str, Any]]) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[tuple[str, str]] = set()
    for index, address in enumerate(addresses):
        pair = (address.get("type", ""), address.get("address", ""))
        if pair in seen:
            errors.append(duplicate(f"status.addresses[{index}]", {"Type": pair[0], "Address": pair[1]}))
        seen.add(pair)
    return errors

"""What the API server refuses in a container's resources (``pkg/apis/core/validation``). Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.names import qualified_name_problems
from virtual_kubelet.devcluster.registry.value_validation import NOT_NEGATIVE, one_of
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    duplicate,
    field_forbidden,
    field_invalid,
    required,
)
from virtual_kubelet.objects.quantity import Quantity

__all__ = ["is_extended_resource", "is_integer", "validate_resize_policy", "validate_resources"]

_RESIZED: Final = ("cpu", "memory")
_RESIZE_POLICIES: Final = ("NotRequired", "RestartContainer")


def validate_resources(resources: dict[str, Any], where: str) -> list[FieldError]:
    """Limits and requests of a container."""
    errors: list[FieldError] = []
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for name, text in limits.items():
        errors += _quantity(name, text, f"{where}.limits[{name}]")
    for name, text in requests.items():
        errors += _quantity(name, text, f"{where}.requests[{name}]")
        limit = limits.get(name)
        if limit is None:
            if not _may_overcommit(name):
                errors.append(required(f"{where}.limits", "Limit must be set for non overcommitable resources"))
        elif text != limit:
            if not _may_overcommit(name) and Quantity(text) != Quantity(limit):
                errors.append(field_invalid(f"{where}.requests", text, f"must be equal to {name} limit of {limit}"))
            elif Quantity(text) > Quantity(limit):
                detail = f"must be less than or equal to {name} limit of {limit}"
                errors.append(field_invalid(f"{where}.requests", text, detail))
    names = limits.keys() | requests.keys()
    if any(name.startswith("hugepages-") for name in names) and not names & {"cpu", "memory"}:
        errors.append(field_forbidden(where, "HugePages require cpu or memory"))
    return errors


def _quantity(name: str, text: str, where: str) -> list[FieldError]:
    if name in ("cpu", "memory", "ephemeral-storage"):
        errors: list[FieldError] = []
    else:
        errors = _resource_name(name, where)
    if text.startswith("-"):
        errors.append(field_invalid(where, text, NOT_NEGATIVE))
    if is_extended_resource(name) and not is_integer(text):
        errors.append(field_invalid(where, text, "must be an integer"))
    return errors


def _resource_name(name: str, where: str) -> list[FieldError]:
    errors = [field_invalid(where, name, problem) for problem in qualified_name_problems(name)]
    if not errors and "/" not in name and not name.startswith("hugepages-") and name not in ("storage", "pods"):
        errors.append(field_invalid(where, name, "must be a standard resource type or fully qualified"))
    if "/" not in name:
        if not name.startswith("hugepages-"):
            errors.append(field_invalid(where, name, "must be a standard resource for containers"))
    elif not _is_native(name) and not is_extended_resource(name):
        errors.append(field_invalid(where, name, "doesn't follow extended resource name standard"))
    return errors


def _is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def is_integer(text: str) -> bool:
    """Whether a quantity is a whole number."""
    return text.isdigit() or Quantity(text).milli_value() % 1000 == 0


def is_extended_resource(name: str) -> bool:
    """Whether a resource is one that others than Kubernetes have named."""
    return not _is_native(name) and not name.startswith("requests.") and not qualified_name_problems(f"requests.{name}")


def _may_overcommit(name: str) -> bool:
    return _is_native(name) and not name.startswith("hugepages-")


def validate_resize_policy(
    policy: dict[str, Any], where: str, index: int, container: dict[str, Any], pod_restart_policy: str
) -> list[FieldError]:
    name, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
    errors: list[FieldError] = []
    if any(p.get("resourceName", "") == name for p in container["resizePolicy"][:index]):
        errors.append(duplicate(f"{where}[{index}]", name))
    errors += one_of(name, where, _RESIZED) + one_of(restart, where, _RESIZE_POLICIES)
    if pod_restart_policy == "Never" and restart != "NotRequired":
        errors.append(field_invalid(where, restart, "must be 'NotRequired' when `restartPolicy` is 'Never'"))
    return errors

"""Resources of a pod as a whole (``spec.resources``): defaults, and what the API server refuses. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from virtual_kubelet.devcluster.registry.resource_validation import validate_resources
from virtual_kubelet.devcluster.statuses import FieldError, field_forbidden, field_invalid, unsupported_value
from virtual_kubelet.objects.pod_fitting import of_containers
from virtual_kubelet.objects.quantity import Quantity

__all__ = ["default_pod_resources", "validate_pod_resources"]

_SUPPORTED: Final = ("cpu", "hugepages-", "memory")
_HUGE_PAGES: Final = "hugepages-"


def _is_supported(name: str) -> bool:
    return name in _SUPPORTED or name.startswith(_HUGE_PAGES)


def default_pod_resources(spec: dict[str, Any]) -> None:
    """Requests that the pod leaves open are those of its containers, else its own limits."""
    resources = spec.get("resources")
    if not resources:
        return
    requests = dict(resources.get("requests") or {})
    for name, amount in of_containers(spec, _requests_of).items():
        if _is_supported(name) and not name.startswith(_HUGE_PAGES):
            requests.setdefault(name, str(amount))
    for name, limit in (resources.get("limits") or {}).items():
        if _is_supported(name):
            requests.setdefault(name, limit)
    if requests:
        resources["requests"] = requests


def validate_pod_resources(spec: dict[str, Any]) -> list[FieldError]:
    """``spec.resources``, defaults filled in."""
    resources, where = spec.get("resources"), "spec.resources"
    if not resources:
        return []
    errors: list[FieldError] = []
    if "claims" in resources:
        errors.append(field_forbidden(f"{where}.claims", "claims cannot be set for Resources at pod-level"))
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for field, amounts in (("limits", limits), ("requests", requests)):
        unknown = [name for name in amounts if not _is_supported(name)]
        errors += [unsupported_value(f"{where}.{field}[{name}]", name, _SUPPORTED) for name in unknown]
    if errors:
        return errors
    errors += validate_resources(resources, where)
    for name, amount in of_containers(spec, _requests_of).items():
        given = requests.get(name, "0")
        if amount > Quantity(given):
            detail = f"must be greater than or equal to aggregate container requests of {amount}"
            errors.append(field_invalid(f"{where}.requests[{name}]", given, detail))
    for index, container in enumerate(spec.get("containers") or ()):
        for name, text in ((container.get("resources") or {}).get("limits") or {}).items():
            if name in limits and Quantity(text) > Quantity(limits[name]):
                detail = f"must be less than or equal to pod limits of {limits[name]}"
                errors.append(field_invalid(f"{where}.containers[{index}][{name}].limits", text, detail))
    return errors


def _requests_of(container: Mapping[str, Any]) -> dict[str, Quantity]:
    requests = (container.get("resources") or {}).get("requests") or {}
    return {name: Quantity(text) for name, text in requests.items()}

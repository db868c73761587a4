"""References from a pod to its own fields and to its containers' resources: what the API server accepts. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from virtual_kubelet.devcluster.names import qualified_name_problems
from virtual_kubelet.devcluster.statuses import FieldError, field_invalid, required, unsupported_value
from virtual_kubelet.objects.quantity import Quantity

__all__ = ["validate_container_resource_reference", "validate_field_reference"]

_SUBSCRIPT: Final = re.compile(r"(.*)\['(.*)'\]\Z", re.DOTALL)
#: Labels that exist; which of them may be used depends on where.
_LABELS: Final = frozenset(
    {
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    }
)
_RESOURCES: Final = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE_PAGES: Final = ("limits.hugepages-", "requests.hugepages-")
_UNITS: Final = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_DIVISORS: Final = {
    "cpu": (("1m", "1"), "cpu"),
    "memory": (_UNITS, "memory"),
    "ephemeral-storage": (_UNITS, "local ephemeral storage"),
}


def validate_field_reference(reference: dict[str, Any], where: str, supported: Sequence[str]) -> list[FieldError]:
    """``fieldRef``; ``supported`` are the paths that may stand there, sorted."""
    version, path = reference.get("apiVersion", ""), reference.get("fieldPath", "")
    if not version:
        return [required(f"{where}.apiVersion")]
    if not path:
        return [required(f"{where}.fieldPath")]
    match = _SUBSCRIPT.match(path)
    problem = _problem(version, path, match)
    if problem:
        return [field_invalid(f"{where}.fieldPath", path, f"error converting fieldPath: {problem}")]
    if match is not None:
        base, key = match.groups()
        key = key.lower() if base == "metadata.annotations" else key
        return [field_invalid(where, key, text) for text in qualified_name_problems(key)]
    path = "spec.nodeName" if path == "spec.host" else path
    return [] if path in supported else [unsupported_value(f"{where}.fieldPath", path, supported)]


def _problem(version: str, path: str, match: re.Match[str] | None) -> str:
    if version != "v1":
        return f"unsupported pod version: {version}"
    if match is not None:
        supported = match.group(1) in ("metadata.annotations", "metadata.labels")
        return "" if supported else f"field label does not support subscript: {path}"
    return "" if path in _LABELS or path == "spec.host" else f"field label not supported: {path}"


def validate_container_resource_reference(
    reference: dict[str, Any], where: str, *, in_volume: bool = False
) -> list[FieldError]:
    """``resourceFieldRef``; in a volume it must name its container."""
    resource = reference.get("resource", "")
    errors: list[FieldError] = []
    if in_volume and not reference.get("containerName"):
        errors.append(required(f"{where}.containerName"))
    elif not resource:
        errors.append(required(f"{where}.resource"))
    elif resource not in _RESOURCES and not resource.startswith(_HUGE_PAGES):
        errors.append(unsupported_value(f"{where}.resource", resource, _RESOURCES))
    divisor = reference.get("divisor", "0")
    if Quantity(divisor) != Quantity(0):
        name = resource.partition(".")[2]
        units, shown = (_UNITS, "hugepages") if name.startswith("hugepages-") else _DIVISORS.get(name, ((), ""))
        if units and divisor not in units:
            values = "1m and 1" if name == "cpu" else ", ".join(_UNITS)
            detail = f"only divisor's values {values} are supported with the {shown} resource"
            errors.append(field_invalid(f"{where}.divisor", resource, detail))
    return errors

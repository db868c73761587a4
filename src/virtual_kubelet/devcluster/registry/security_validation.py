"""What the API server refuses in security contexts (``pkg/apis/core/validation``). Pure."""

from __future__ import annotations

from typing import Any, Final

from virtual_kubelet.devcluster.registry.value_validation import ID_RANGE
from virtual_kubelet.devcluster.registry.volume_validation import relative_path_problems
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    field_invalid,
    required,
    unsupported_value,
)

__all__ = ["validate_container_security", "validate_pod_security"]

_SECCOMP: Final = ("Localhost", "RuntimeDefault", "Unconfined")


def validate_pod_security(spec: dict[str, Any], context: dict[str, Any]) -> list[FieldError]:
    where = "spec.securityContext"
    errors: list[FieldError] = []
    group = context.get("fsGroup", 0)
    if not 0 <= group <= 2147483647:
        errors.append(field_invalid(f"{where}.fsGroup", group, ID_RANGE))
    errors += validate_identity(context, where)
    for index, group in enumerate(context.get("supplementalGroups") or ()):
        if not 0 <= group <= 2147483647:
            errors.append(field_invalid(f"{where}.supplementalGroups[{index}]", group, ID_RANGE))
    if spec.get("hostPID") and spec.get("shareProcessNamespace"):
        detail = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(field_invalid(f"{where}.shareProcessNamespace", True, detail))
    policy = context.get("fsGroupChangePolicy")
    if policy is not None and policy not in ("Always", "OnRootMismatch"):
        errors.append(unsupported_value(f"{where}.fsGroupChangePolicy", policy, ("Always", "OnRootMismatch")))
    return errors


def validate_container_security(context: dict[str, Any], where: str) -> list[FieldError]:
    errors = validate_identity(context, where)
    if context.get("allowPrivilegeEscalation") is False:
        if context.get("privileged"):
            detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(field_invalid(where, context, detail))
        if "CAP_SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ()):
            detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(field_invalid(where, context, detail))
    return errors


def validate_identity(context: dict[str, Any], where: str) -> list[FieldError]:
    """What security contexts of pods and of containers have in common: user, group, seccomp profile."""
    errors: list[FieldError] = []
    for field in ("runAsUser", "runAsGroup"):
        number = context.get(field, 0)
        if not 0 <= number <= 2147483647:
            errors.append(field_invalid(f"{where}.{field}", number, ID_RANGE))
    profile = context.get("seccompProfile")
    if profile is None:
        return errors
    here = f"{where}.seccompProfile"
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    if not kind:
        errors.append(required(f"{here}.type", "type is required when seccompProfile is set"))
    elif kind not in _SECCOMP:
        errors.append(unsupported_value(f"{here}.type", kind, _SECCOMP))
    if kind == "Localhost":
        if local is None:
            errors.append(required(f"{here}.localhostProfile", "must be set when seccomp type is Localhost"))
        else:
            errors += relative_path_problems(local, f"{here}.localhostProfile")
    elif local is not None:
        detail = "can only be set when seccomp type is Localhost"
        errors.append(field_invalid(f"{here}.localhostProfile", profile, detail))
    return errors

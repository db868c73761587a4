"""What the API server refuses in security contexts (``pkg/apis/core/validation``). Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from virtual_kubelet.devcluster.registry.value_validation import ID_RANGE
from virtual_kubelet.devcluster.registry.volume_validation import relative_path_problems
from virtual_kubelet.devcluster.statuses import (
    FieldError,
    duplicate,
    field_invalid,
    required,
    too_long,
    unsupported_value,
)

__all__ = ["validate_container_security", "validate_pod_security"]

_SECCOMP: Final = ("Localhost", "RuntimeDefault", "Unconfined")
_POLICIES: Final = {
    "supplementalGroupsPolicy": ("Merge", "Strict"),
    "seLinuxChangePolicy": ("MountOption", "Recursive"),
}
_SEGMENT: Final = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL: Final = re.compile(rf"({_SEGMENT}[\\./])*{_SEGMENT}")
_LONGEST_SYSCTL: Final = 253
#: What belongs to the namespace of IPC (``component-helpers``' sysctl namespaces).
_IPC: Final = frozenset({"kernel.sem"})
_IPC_PREFIXES: Final = ("kernel.shm", "kernel.msg", "fs.mqueue.")
_LONGEST_APP_ARMOR: Final = 4095


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
    errors += _sysctls(spec, context.get("sysctls") or [], f"{where}.sysctls")
    for field, values in _POLICIES.items():
        policy = context.get(field)
        if policy is not None and policy not in values:
            errors.append(unsupported_value(f"{where}.{field}", policy, values))
    return errors


def _sysctls(spec: dict[str, Any], sysctls: list[dict[str, Any]], where: str) -> list[FieldError]:
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, sysctl in enumerate(sysctls):
        name, here = sysctl.get("name", ""), f"{where}[{index}].name"
        if not name:
            errors.append(required(here))
        elif len(name) > _LONGEST_SYSCTL or not _SYSCTL.fullmatch(name):
            detail = f"must have at most {_LONGEST_SYSCTL} characters and match regex ^{_SYSCTL.pattern}$"
            errors.append(field_invalid(here, name, detail))
        elif name in names:
            errors.append(duplicate(here, name))
        names.add(name)
        dotted = name.replace("/", ".")
        if spec.get("hostNetwork") and dotted.startswith("net."):
            errors.append(field_invalid(here, name, "may not be specified when 'hostNetwork' is true"))
        elif spec.get("hostIPC") and (dotted in _IPC or dotted.startswith(_IPC_PREFIXES)):
            errors.append(field_invalid(here, name, "may not be specified when 'hostIPC' is true"))
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
    """What security contexts of pods and of containers have in common: user, group, profiles of seccomp and AppArmor."""
    errors: list[FieldError] = []
    for field in ("runAsUser", "runAsGroup"):
        number = context.get(field, 0)
        if not 0 <= number <= 2147483647:
            errors.append(field_invalid(f"{where}.{field}", number, ID_RANGE))
    if "seccompProfile" in context:
        errors += _seccomp(context["seccompProfile"], f"{where}.seccompProfile")
    if "appArmorProfile" in context:
        errors += _app_armor(context["appArmorProfile"], f"{where}.appArmorProfile")
    return errors


def _app_armor(profile: dict[str, Any], here: str) -> list[FieldError]:
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    if not kind:
        return [required(f"{here}.type", "type is required when appArmorProfile is set")]
    if kind not in _SECCOMP:
        return [unsupported_value(f"{here}.type", kind, _SECCOMP)]
    if kind != "Localhost":
        detail = "can only be set when AppArmor type is Localhost"
        return [] if local is None else [field_invalid(f"{here}.localhostProfile", local, detail)]
    errors: list[FieldError] = []
    if not local:
        errors.append(required(f"{here}.localhostProfile", "must be set when AppArmor type is Localhost"))
    elif local != local.strip():
        errors.append(field_invalid(f"{here}.localhostProfile", local, "must not be padded with whitespace"))
    if len((local or "").encode()) > _LONGEST_APP_ARMOR:
        errors.append(too_long(f"{here}.localhostProfile", _LONGEST_APP_ARMOR))
    return errors


def _seccomp(profile: dict[str, Any], here: str) -> list[FieldError]:
    errors: list[FieldError] = []
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
